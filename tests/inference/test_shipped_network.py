"""The network in the wheel: sixteen-bit scenes, the demo, and a frame of 16 megapixels."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motes.imaging import write_image
from motes.inference import load_backend
from motes.inference.backend import DEFAULT_MODEL, list_weights

pytestmark = pytest.mark.skipif(DEFAULT_MODEL not in list_weights(), reason="no shipped network yet")
Command = Callable[..., subprocess.CompletedProcess]


def deep_scene(seed: int, shift: int = 0) -> np.ndarray:
    """Mean 7400, sigma 25, one 3x3 target + 180 around (151, 101)."""
    rng = np.random.default_rng(seed)
    counts = rng.normal(7400, 25, (256, 256))
    counts[100:103, 150:153] += 180
    return np.round(counts).astype(np.uint16) >> shift


@pytest.mark.parametrize("name", ["scene.tif", "scene.png"])
def test_counts_are_kept_and_the_target_is_found(run_motes: Command, tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, deep_scene(0))
    done = run_motes("detect", tmp_path / name, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "targets.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["x"]) - 151) < 1
    assert abs(float(row["y"]) - 101) < 1


def test_through_eight_bits_it_vanishes(run_motes: Command, tmp_path: Path) -> None:
    write_image(tmp_path / "scene.png", deep_scene(0, shift=8).astype(np.uint8))
    assert run_motes("detect", tmp_path / "scene.png", "-o", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "targets.csv").read_text(encoding="utf-8").count("\n") == 1


def test_demo_finds_its_targets(run_motes: Command, tmp_path: Path) -> None:
    done = run_motes("demo", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"found (\d) of 4 targets with (\d+) false alarms", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 3
    assert int(found[2]) <= 1


def test_card_says_what_it_was_trained_on_and_scored() -> None:
    card = load_backend().card
    assert card.task == "irstd"
    assert card.training
    assert card.measured
    assert len(card.calibration["threshold"]) == len(card.calibration["fa_per_mpx"]) > 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
def test_sixteen_megapixels_in_two_gigabytes() -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from motes.inference import Detector\n"
        "frame = np.random.default_rng(0).normal(7400, 25, (4096, 4096)).astype(np.uint16)\n"
        "frame[2047:2050, 2047:2050] += 400\n"
        "found = Detector().detect(frame)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == 'darwin' else 2**20)\n"
        "status = Path('/proc/self/status')\n"  # a child's ru_maxrss begins with what its parent held
        "if status.exists():\n"
        "    peak = float(status.read_text().split('VmHWM:')[1].split()[0]) / 2**20\n"
        "print(peak, np.hypot(*(found.centroids - 2048).T).min())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    peak, distance = map(float, done.stdout.split())
    assert peak < 2
    assert distance < 2
