"""Counting blobs at all thresholds, choosing one, and the network with another card."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from spot_network import CARD, make_onnx

from motes.errors import CheckpointError, MotesError
from motes.inference import Detector, find_targets, read_onnx_card
from motes.inference.calibration import (
    THRESHOLDS,
    Curve,
    blobs_above,
    check_rate,
    detected_above,
    peaks,
    scores_above,
    thresholds_for,
)
from motes.inference.onnx_card import onnx_metadata, onnx_with_card
from motes.metrics import SegmentationScore
from motes.metrics.intervals import poisson_bounds

GRID = np.array(THRESHOLDS)


def rough_map(seed: int, size: tuple[int, int] = (48, 61), blur: float = 1.2) -> np.ndarray:
    """Blobs that merge, split and vanish over the thresholds, some of them saturated."""
    noise = np.random.default_rng(seed).normal(size=size)
    logits = cv2.GaussianBlur(noise, (0, 0), blur) * 25 - 2
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_thresholds_are_fine_and_hold_the_cards_own() -> None:
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS)) and 0.5 in THRESHOLDS
    assert np.diff(np.log(GRID / (1 - GRID))).max() < 2.2  # the last step; 1/8 elsewhere
    assert np.diff(np.log(GRID / (1 - GRID)))[:-1].max() < 0.13
    assert len(np.unique(GRID.astype(np.float32))) == len(GRID)  # each is another one in float32
    assert 0.317 in thresholds_for(CARD.replace(threshold=0.317))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blur", [0.6, 2.0])
def test_blobs_are_those_of_find_targets(seed: int, blur: float) -> None:
    probability = rough_map(seed, blur=blur)
    counts = blobs_above(probability, GRID)
    assert counts.tolist() == [len(find_targets(probability, None, t)) for t in THRESHOLDS]
    assert len(set(counts.tolist())) > 5


@pytest.mark.parametrize("value", [0.0, 0.01, 0.3, 0.5, 1.0, float(np.float32(0.9999999))])
def test_a_flat_map(value: float) -> None:
    """Of pixels that equal a threshold exactly, too: a target is larger than its threshold."""
    probability = np.full((7, 9), value, np.float32)
    assert blobs_above(probability, GRID).tolist() == [len(find_targets(probability, None, t)) for t in THRESHOLDS]


def test_detected_targets_are_those_of_the_protocol() -> None:
    probability, label = rough_map(7), rough_map(8) > 0.999
    detected, targets = detected_above(probability, label, GRID)
    score = SegmentationScore("native", sweep=THRESHOLDS)
    score.update(probability, label)
    assert detected.tolist() == score.target_curve().detected.tolist()
    assert targets == score.target_curve().targets > 0
    assert 0 < detected.max() < targets or len(set(detected.tolist())) > 1


def test_scores_of_boxes_are_counted_as_they_are_compared() -> None:
    scores = np.array([0.5, 0.2942, 0.7], np.float32)
    assert [scores_above(scores, GRID)[GRID.tolist().index(t)] for t in (0.2942, 0.5)] == [
        int((scores > 0.2942).sum()),
        int((scores > 0.5).sum()),
    ]


def test_peaks_are_the_largest_and_apart() -> None:
    probability = np.zeros((40, 50), np.float32)
    probability[10, 10], probability[10, 13], probability[30:32, 40:42] = 0.9, 0.8, 1.0
    assert peaks(probability, 0.01, 9) == [
        (40.5, 30.5, 1.0),
        (10.0, 10.0, pytest.approx(0.9)),
    ]
    assert len(peaks(probability, 0.01, 1)) == 1
    assert peaks(np.zeros((5, 5), np.float32), 0.01, 9) == []
    rough = rough_map(3)
    assert peaks(rough, 0.01, 5)[0][2] == float(rough.max())


@pytest.mark.parametrize(
    ("events", "lower", "upper"),
    [(0, 0, 2.9957), (1, 0.0513, 4.7439), (5, 1.970, 10.513), (10, 5.425, 16.962)],  # half of chi-square tables
)
def test_bounds_of_a_rate(events: int, lower: float, upper: float) -> None:
    found = poisson_bounds(np.array([events]), 20.0)
    np.testing.assert_allclose(np.ravel(found), [lower / 20, upper / 20], rtol=1e-3)


def test_bounds_hold_as_often_as_they_say() -> None:
    drawn = np.random.default_rng(0).poisson(3.0, 20000)
    lower, upper = poisson_bounds(drawn, 10.0)
    assert (upper >= 0.3).mean() >= 0.95 - 0.005
    assert (lower <= 0.3).mean() >= 0.95 - 0.005


def curve(alarms: list[int], frames: int = 10) -> Curve:
    return Curve(np.linspace(0.1, 0.9, len(alarms)), np.array(alarms), frames, frames * 100_000)


@pytest.mark.parametrize(
    ("alarms", "rate", "per", "chosen"),
    [
        ([9, 6, 2, 1, 0], 0.2, "frame", 2),
        ([9, 6, 2, 1, 0], 2, "megapixel", 2),
        ([9, 6, 2, 1, 0], 0.19, "frame", 3),
        ([1, 6, 2, 1, 0], 0.2, "frame", 2),  # one blob that is the whole frame is no low rate
        ([9, 6, 1, 3, 0], 0.2, "frame", 4),  # nor is a dip
        ([0, 0, 0, 0, 0], 0.2, "frame", 0),
        ([9, 9, 9, 9, 9], 0.2, "frame", None),
    ],
)
def test_the_lowest_threshold_that_holds(alarms: list[int], rate: float, per: str, chosen: int | None) -> None:
    assert curve(alarms).choose(rate, per) == chosen


def test_how_many_frames_a_rate_needs() -> None:
    assert curve([0]).needed(0.2, "frame") == pytest.approx(15, abs=0.05)


@pytest.mark.parametrize(
    ("rate", "per", "message"),
    [(0, "frame", "above 0 per frame, found 0"), (-1, "megapixel", "found -1"), (float("nan"), "frame", "found nan"),
     (float("inf"), "frame", "found inf"), (1, "frames", "did you mean 'frame'")],
)  # fmt: skip
def test_bad_rates(rate: float, per: str, message: str) -> None:
    with pytest.raises(MotesError) as caught:
        check_rate(rate, per)
    assert message in str(caught.value)


def test_another_card_and_the_same_network(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    file = make_onnx(tmp_path / "spot.onnx")
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {"author": "somebody", "motes": CARD.to_json()})
    onnx.save(model, str(file))
    long = CARD.replace(threshold=0.875, title="x" * 20000)
    (tmp_path / "other.onnx").write_bytes(onnx_with_card(file.read_bytes(), long))
    assert read_onnx_card(tmp_path / "other.onnx") == long
    assert onnx_metadata((tmp_path / "other.onnx").read_bytes(), "")["author"] == "somebody"
    changed = onnx.load(str(tmp_path / "other.onnx"))
    onnx.checker.check_model(changed)
    assert changed.graph == model.graph
    frame = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    before, after = (Detector(f).probability(frame) for f in (file, tmp_path / "other.onnx"))
    np.testing.assert_array_equal(before, after)
    with pytest.raises(CheckpointError, match="not an ONNX file"):
        onnx_with_card(b"hello", CARD)
