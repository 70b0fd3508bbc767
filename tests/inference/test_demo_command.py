"""``motes demo`` as installed."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from motes.imaging import read_image


def test_demo_finds_what_it_hides(run_motes: Callable[..., subprocess.CompletedProcess], tmp_path: Path) -> None:
    done = run_motes("demo", "-o", tmp_path / "demo", "--model", "tophat")
    assert done.returncode == 0, done.stderr
    scene = read_image(tmp_path / "demo" / "scene.tif").pixels
    assert scene.dtype == np.uint16
    assert 255 < scene.max() < 2**14
    assert "found 4 of 4 targets" in done.stdout
    assert (tmp_path / "demo" / "overlays" / "scene.png").is_file()
    with (tmp_path / "demo" / "targets.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) >= 4


def test_demo_with_a_typo(run_motes: Callable[..., subprocess.CompletedProcess], tmp_path: Path) -> None:
    done = run_motes("demo", "-o", tmp_path / "demo", "--model", "tophatt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'tophat'" in done.stderr
    assert not (tmp_path / "demo").exists()
