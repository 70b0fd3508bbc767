"""The network in the wheel: what its card claims, and what it finds in 14-bit frames that 8 bits would flatten."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import motes
from motes.cards import Card
from motes.data import open_dataset
from motes.data.synthesize import noise_scene
from motes.evaluation import score_samples
from motes.evaluation.run import overlap
from motes.imaging import read_image, write_image
from motes.inference.backend import list_weights, load_backend

LIMIT = 1.3e6  # bytes


@pytest.fixture(scope="module")
def card() -> Card:
    return load_backend().card


def test_is_small_and_says_where_it_comes_from(card: Card) -> None:
    (file,) = list_weights().values()
    assert file.stat().st_size < LIMIT
    assert card.form == "deploy" and card.training["recipe"] == "repisdnet_sirst_shipped"
    assert len(card.training["frames"]) >= 246
    assert {(row["split"], row["protocol"]) for row in card.measured} >= {("test_v1", "native"), ("test_v1", "repisdnet")}
    thresholds, rates = card.calibration["threshold"], card.calibration["fa_per_mpx"]
    assert thresholds == sorted(thresholds) and len(thresholds) == len(rates) == len(card.calibration["pd"])


@pytest.mark.parametrize("rule", ["native", "repisdnet"])
def test_scores_what_its_card_says(rule: str, card: Card, sirst_root: Path) -> None:
    samples = open_dataset(sirst_root).split("test_v1")
    assert overlap(card, samples) == []
    values = score_samples(load_backend(), samples, rule).compute(intervals=False)
    (row,) = [r for r in card.measured if r["split"] == "test_v1" and r["protocol"] == rule]
    assert values["iou"].value > 0.70
    for key in ("iou", "niou", "pd", "fa"):
        # Another processor may turn over single pixels at the threshold.
        assert values[key].value == pytest.approx(row[key], abs=1e-3)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_finds_a_target_of_seven_sigma_in_14_bits(suffix: str, tmp_path: Path) -> None:
    """Mean 7400, sigma 25, one 3x3 target +180: found in counts, gone in 8 bits."""
    scene = noise_scene(256, 320, seed=4, mean=7400, sigma=25, targets=[(120, 200, 3, 180)])
    source = tmp_path / f"frame{suffix}"
    write_image(source, scene.pixels)
    assert np.array_equal(np.squeeze(read_image(source).pixels), np.squeeze(scene.pixels))
    assert found(source, tmp_path / "counts") == [(200, 120)]

    flat = tmp_path / "flat.png"
    write_image(flat, (scene.pixels >> 8).astype(np.uint8))  # what an 8-bit reader leaves of 14-bit counts
    assert (200, 120) not in found(flat, tmp_path / "flat")


def found(source: Path, out: Path) -> list[tuple[int, int]]:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", "detect", str(source), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with (out / "targets.csv").open() as stream:
        return [(round(float(r["x"])), round(float(r["y"]))) for r in csv.DictReader(stream)]


def test_false_alarms_in_bare_noise_are_rare() -> None:
    detector = motes.Detector()
    frames = [noise_scene(256, 320, seed, mean=7400, sigma=25, targets=[]).pixels for seed in range(6)]
    assert sum(len(detector.detect(f)) for f in frames) <= 1
