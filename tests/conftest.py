"""Where tests find real data, and what they skip for when it is absent."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: before numpy and PyTorch count the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: ``MOTES_DATA`` or ``../shared/data``."""
    root = Path(os.environ.get("MOTES_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (set MOTES_DATA)")
    return root


@pytest.fixture(scope="session")
def sirst_root(data_root: Path) -> Path:
    """SIRST in the SIRSTdevkit layout."""
    root = data_root / "sirst"
    if not root.is_dir():
        pytest.skip(f"no SIRST at {root}")
    return root


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """The authors' weights and results, which are never part of the repository."""
    root = REPOSITORY.parent / "shared" / "reference"
    if not root.is_dir():
        pytest.skip(f"no reference material at {root}")
    return root


@pytest.fixture
def motes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the entry point in this process and returns (exit code, stdout, stderr)."""
    from motes.cli.app import main

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["motes", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def docs_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of docs/scripts, which finds those beside it."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs" / "scripts"))
    return importlib.import_module
