"""Pickles that run something when loaded: refused, and nothing has run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from motes.checkpoints import read_state
from motes.errors import CheckpointError


class Bomb:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


def bombs(marker: Path) -> dict[str, Any]:
    touch = f"{sys.executable} -c \"open({str(marker)!r}, 'w')\""
    code = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Bomb(os.system, touch),
        "eval": Bomb(eval, code),
        "exec": Bomb(exec, code),
        "subprocess": Bomb(subprocess.run, [sys.executable, "-c", code]),
        "getattr": Bomb(getattr, os, "system"),
        "open": Bomb(open, str(marker), "w"),
        "torch.load": Bomb(torch.load, str(marker)),
        "mkdir": Bomb(os.mkdir, str(marker)),
        "import": Bomb(__import__, "antigravity"),
    }


NAMES = list(bombs(Path("x")))


def in_zip(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def in_legacy(pickled: bytes) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, protocol=2) for part in head) + pickled + pickle.dumps([], protocol=2)


CONTAINERS = {"pickle": lambda b: b, "zip": in_zip, "legacy": in_legacy}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", NAMES)
def test_refused_and_not_executed(tmp_path: Path, name: str, container: str) -> None:
    marker = tmp_path / "executed"
    try:
        pickled = pickle.dumps({"state_dict": {"a.weight": bombs(marker)[name]}}, protocol=2)
    except (pickle.PicklingError, TypeError):  # modules do not pickle: write the call by hand
        pickled = b"\x80\x02cbuiltins\ngetattr\nU\x02osU\x06system\x86R."
    file = tmp_path / "weights.pth"
    file.write_bytes(CONTAINERS[container](pickled))
    with pytest.raises(CheckpointError, match="nothing was executed") as error:
        read_state(file)
    assert not marker.exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "executed"
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(bombs(marker)["os.system"], protocol=protocol))
    with pytest.raises(CheckpointError, match=r"system'.*nothing was executed"):
        read_state(file)
    assert not marker.exists()


RAW = {
    "INST": b"(S'echo'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'echo'\no.",
    "extension registry": b"\x80\x02\x82\x01.",
    "a name that is only mentioned": b"\x80\x02cos\nsystem\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "allowed name called that is data": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "attributes on a name": b"\x80\x02ccollections\nOrderedDict\n}U\x01aK\x01sb.",
    "attributes on a list": b"\x80\x02]}U\x01aK\x01sb.",
    "next buffer": b"\x80\x05\x97.",
    "stored module": b"\x80\x02(U\x06modulecos\nsystem\nU\x01aU\x01btQ.",
}


@pytest.mark.parametrize("kind", RAW)
def test_other_ways_in(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "weights.pth"
    for wrap in CONTAINERS.values():
        file.write_bytes(wrap(RAW[kind]))
        with pytest.raises(CheckpointError, match="nothing was executed"):
            read_state(file)


def test_a_few_bytes_do_not_ask_for_all_memory(tmp_path: Path) -> None:
    from test_reading import torch_bytes

    file = tmp_path / "weights.pth"
    file.write_bytes(torch_bytes({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}))
    with pytest.raises(CheckpointError, match="damaged at tensor 'a'"):
        read_state(file)
    file.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.")
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        read_state(file)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + bytes(1 << 20))
    with pytest.raises(CheckpointError, match="a compressed archive"):
        read_state(file)
