"""Where tests find real data, and what they skip for when it is absent."""

from __future__ import annotations

import os
from pathlib import Path

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
