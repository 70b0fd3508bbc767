"""The stand-in network as a file, and the installed command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from spot_network import CARD, make_onnx

from motes.cards import InputSpec, Scaling


@pytest.fixture(scope="session")
def spot_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in network's file."""
    return make_onnx(tmp_path_factory.mktemp("network") / "spot.onnx")


@pytest.fixture(scope="session")
def spot_minmax_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in network with a card whose scaling depends on the frame."""
    spec = InputSpec(channels=3, scaling=Scaling("minmax"), scaling_deep=Scaling("minmax"))
    return make_onnx(tmp_path_factory.mktemp("network") / "scaled.onnx", CARD.replace(input=spec))


@pytest.fixture(scope="session")
def run_motes() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed command: run_motes("detect", ..., cwd=..., stdin=...)."""

    def run(*arguments: object, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        script = Path(sys.executable).with_name("motes" + (".exe" if os.name == "nt" else ""))
        return subprocess.run(
            [str(script), *map(str, arguments)],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
        )

    return run
