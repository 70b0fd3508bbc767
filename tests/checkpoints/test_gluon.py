"""MXNet's ``.params``: written here by the description of the format, read by the library."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fill import fill_input, fill_state
from motes.checkpoints import load_network, read_state
from motes.errors import CheckpointError

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
FLAGS = {"<f4": 0, "<f8": 1, "<f2": 2, "|u1": 3, "<i4": 4, "|i1": 5, "<i8": 6, "|b1": 7}


def version0(array: np.ndarray) -> bytes:
    """Before there were magic numbers: 32-bit sides."""
    return struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape) + content(array)


def version1(array: np.ndarray) -> bytes:
    return struct.pack(f"<Ii{array.ndim}q", 0xF993FAC8, array.ndim, *array.shape) + content(array)


def version2(array: np.ndarray, magic: int = 0xF993FAC9, storage: int = 0) -> bytes:
    return struct.pack(f"<Iii{array.ndim}q", magic, storage, array.ndim, *array.shape) + content(array)


def version3(array: np.ndarray) -> bytes:
    """NumPy's rules for shapes: no axes is a number, not nothing."""
    return version2(array, 0xF993FACA)


def content(array: np.ndarray, flag: int | None = None) -> bytes:
    device = struct.pack("<ii", 2, 0)  # it was on a GPU
    return device + struct.pack("<i", FLAGS[array.dtype.str] if flag is None else flag) + array.tobytes()


def params(arrays: dict[str, bytes], names: list[str] | None = None) -> bytes:
    """The file of packed arrays."""
    names = list(arrays) if names is None else names
    listed = [struct.pack("<Q", len(n.encode())) + n.encode() for n in names]
    head = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return b"".join([head, *arrays.values(), struct.pack("<Q", len(names)), *listed])


STATE = {
    "features.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "features.1.gamma": np.array([0.5, -1.5], np.float64),
    "features.1.running_mean": np.array([1, 2, 3], np.float16),
    "counts": np.array([[1], [-2]], np.int64),
    "bytes": np.array([1, 255], np.uint8),
}


@pytest.mark.parametrize("pack", [version0, version1, version2, version3])
def test_every_version(tmp_path: Path, pack: Callable[[np.ndarray], bytes]) -> None:
    file = tmp_path / "a.bin"  # the suffix does not tell
    file.write_bytes(params({k: pack(v) for k, v in STATE.items()}))
    found = read_state(file)
    assert found.format == "gluon"
    assert list(found) == list(STATE)
    for name, expected in STATE.items():
        assert found[name].dtype == expected.dtype
        assert np.array_equal(found[name], expected)
        assert found[name].flags.writeable


def test_names_of_symbolic_files_numbers_and_arrays_never_filled(tmp_path: Path) -> None:
    arrays = {
        "arg:conv0_weight": version2(STATE["bytes"]),
        "aux:bn0_moving_mean": version1(STATE["counts"]),
        "arg:scale": version3(np.array(2.5, np.float32)),
        "arg:nothing": struct.pack("<Iii", 0xF993FAC9, 0, 0),
        "arg:nothing either": struct.pack("<Iii", 0xF993FACA, 0, -1),
    }
    file = tmp_path / "a.params"
    file.write_bytes(params(arrays))
    found = read_state(file)
    assert list(found) == ["conv0_weight", "bn0_moving_mean", "scale"]
    assert found["scale"].shape == ()
    assert found["scale"] == 2.5


def test_bfloat16(tmp_path: Path) -> None:
    bits = torch.tensor([0.15625, -3.0], dtype=torch.bfloat16).view(torch.int16).numpy()
    file = tmp_path / "a.params"
    file.write_bytes(params({"a": struct.pack("<Iiiq", 0xF993FAC9, 0, 1, 2) + content(bits, flag=12)}))
    assert read_state(file)["a"].tolist() == [0.15625, -3.0]


ONE = version2(STATE["bytes"])
GOOD = params({k: version2(v) for k, v in STATE.items()})

BROKEN = {
    "other reserved bytes after it": (GOOD + b"\0", "1 bytes follow its end"),
    "no names": (params({"a": ONE}, []), r"1 arrays have no names \(save them with net.save_parameters"),
    "too few names": (params({"a": ONE, "b": ONE}, ["a"]), "1 names"),
    "one name twice": (params({"a": ONE, "b": ONE}, ["a", "a"]), r"2 names \(1 different"),
    "a name that is no text": (
        params({"a": ONE}).replace(b"\x01\0\0\0\0\0\0\0a", b"\x01\0\0\0\0\0\0\0\xff"),
        "no text",
    ),
    "sparse": (params({"a": version2(STATE["bytes"], storage=1)}), "array 0 is sparse"),
    "unknown type": (
        params({"a": struct.pack("<Iiiq", 0xF993FAC9, 0, 1, 2) + content(np.zeros(2, "u1"), 99)}),
        "type 99",
    ),
    "negative side": (
        params({"a": struct.pack("<Iiiq", 0xF993FAC9, 0, 1, -2) + content(STATE["bytes"])}),
        r"shape \[-2\]",
    ),
    "huge array": (
        params({"a": struct.pack("<Iii2q", 0xF993FAC9, 0, 2, 1 << 40, 1 << 40) + content(STATE["bytes"])}),
        "cut short",
    ),
    "wrong magic of an array": (params({"a": b"\xab\xcd\xef\x01" + ONE[4:]}), "axes"),
    "more arrays than bytes": (
        struct.pack("<QQQ", 0x112, 0, 1 << 60) + bytes(64),
        "announces 1152921504606846976 arrays",
    ),
    "nothing in it": (params({}), "holds no weights"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(tmp_path: Path, kind: str) -> None:
    data, expected = BROKEN[kind]
    file = tmp_path / "a.params"
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=expected) as error:
        read_state(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_truncation_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.params"
    for length in range(8, len(GOOD)):
        file.write_bytes(GOOD[:length])
        with pytest.raises(CheckpointError, match=r"cut short or damaged|announces"):
            read_state(file)


def test_flipped_bits_raise_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.params"
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(8, len(GOOD), 300):
        damaged = bytearray(GOOD)
        damaged[position] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            read_state(file)
        except CheckpointError:
            refused += 1
    assert refused > 50


def gluon_file(name: str, variant: str | None) -> bytes:
    """What the authors' ``save_parameters`` writes for a reference network."""
    keys = json.loads((REFERENCE / name / (f"keys-{variant}.json" if variant else "keys.json")).read_text())
    state = fill_state(keys)
    norms = {k[: -len(".running_mean")] for k in keys if k.endswith(".running_mean")}
    arrays = {"stem.0.gamma": version2(np.ones(3, np.float32)), "stem.0.beta": version2(np.zeros(3, np.float32))}
    for key, value in state.items():
        head, _, leaf = key.rpartition(".")
        if leaf != "num_batches_tracked":
            leaf = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf) if head in norms else leaf
            arrays[f"{head}.{leaf}"] = version2(value)
    return params(arrays)


@pytest.mark.parametrize(
    ("name", "variant", "case"),
    [("acm", "unet-tiny", "case-unet-tiny-64x64"), ("alcnet", None, "case-80x80")],
)
def test_authors_files(tmp_path: Path, name: str, variant: str | None, case: str) -> None:
    data = gluon_file(name, variant)
    file = tmp_path / "published.params"
    file.write_bytes(data)
    net, card = load_network(file)
    assert (card.name, card.variant) == (name, variant)
    stored = np.load(REFERENCE / name / f"{case}.npz")
    with torch.inference_mode():
        found = net.published_outputs(torch.from_numpy(fill_input(tuple(int(n) for n in stored["shape"]))))["out0"]
    assert np.abs(found.numpy() - stored["out0"]).max() < 1e-4 * np.abs(stored["out0"]).max()
