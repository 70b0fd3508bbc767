"""The commands as installed: started once per case where that matters, forked from a warm process elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_files import make_folder
from command_line import Done, Motes

SCRIPT = Path(sys.executable).with_name("motes" + (".exe" if os.name == "nt" else ""))
PLAIN = {"NO_COLOR": "1", "COLUMNS": "120", "MPLBACKEND": "agg"}


def environment() -> dict[str, str]:
    return {**os.environ, **PLAIN}


@pytest.fixture(scope="session")
def installed() -> Motes:
    """``installed("detect", ..., cwd=...)``: the console script, in a process of its own."""

    def run(*argv: object, cwd: Path | None = None) -> Done:
        done = subprocess.run(
            [str(SCRIPT), *map(str, argv)], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120, env=environment(), check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def motes(installed: Motes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Motes]:
    """The same without the seconds of ``import torch`` each time; see ``warm_motes.py``."""
    if not hasattr(os, "fork"):
        yield installed
        return
    folder = tmp_path_factory.mktemp("warm")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm_motes.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert server.stdin and server.stdout

    def run(*argv: object, cwd: Path | None = None, interrupt: float | None = None, limit: int | None = None) -> Done:
        out, err = folder / "out", folder / "err"
        request = {
            "argv": list(map(str, argv)), "cwd": str(cwd or folder), "out": str(out), "err": str(err),
            "interrupt": interrupt, "limit": limit,
        }  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        return Done(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    yield run
    server.kill()  # its own way out takes seconds
    server.wait(60)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See ``bad_files.py``. For reading: what a command writes goes elsewhere."""
    return make_folder(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def tiny_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of 64 KiB (or as many as its parameter says), where one may be mounted."""
    size = f"size={getattr(request, 'param', 64)}k"
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=False)
