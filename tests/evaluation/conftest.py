"""The command in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def motes_run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``motes ...``."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from motes.cli.app import main; main()", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    return run
