"""Whether a folder can be written is known before the work, and asking leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from motes.imaging import check_writable


def test_a_folder_that_can_be_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match="Not a directory") as caught:
            check_writable(folder)
        assert caught.value.filename == str(folder)
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "out")
