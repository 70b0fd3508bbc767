"""Detectors in the field: selection as in the lab, frames of any size, tiles, the sky."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from spot_boxes import CARD, Spots, frame

from motes.cards import BoxSpec, InputSpec
from motes.errors import CardError, MotesError
from motes.inference.box_detector import BoxDetector
from motes.inference.box_selection import best, select
from motes.metrics.box_matching import box_iou


def test_targets_of_a_frame() -> None:
    backend = Spots()
    found = BoxDetector(backend=backend).detect(frame(50, 70, [(20, 30), (45, 60)]))
    assert backend.shapes == [(1, 1, 64, 96)]  # zeros at the right and below, up to the stride
    assert sorted(found.boxes.tolist()) == [[28.5, 18.5, 32.5, 22.5], [58.5, 43.5, 62.5, 47.5]]
    np.testing.assert_allclose(found.scores, 0.4)
    np.testing.assert_allclose(found.centroids[found.boxes[:, 0] < 40], [[30, 20]], atol=0.05)
    assert (found.scr > 3).all() and (found.areas == 25).all()


def test_boxes_end_at_the_frame() -> None:
    found = BoxDetector(backend=Spots()).boxes(frame(50, 70, [(49, 69)]))
    assert found.boxes.tolist() == [[67.5, 47.5, 70, 50]]


def test_threshold_is_for_detect_alone() -> None:
    detector = BoxDetector(backend=Spots(), threshold=0.5)
    pixels = frame(50, 70, [(20, 30)])
    assert len(detector.boxes(pixels).boxes) == 1 and len(detector.detect(pixels)) == 0


def test_only_sky() -> None:
    found = BoxDetector(backend=Spots(), only_sky=True).detect(frame(64, 64, [(20, 30), (50, 30)]))
    assert found.boxes[:, 1].tolist() == [18.5]
    with pytest.raises(CardError, match="no sky branch"):
        BoxDetector(backend=Spots(sky=False), only_sky=True).detect(frame(64, 64, []))


def test_tiles_give_what_the_whole_frame_gives() -> None:
    spots = [(3, 3), (60, 71), (61, 140), (100, 95), (150, 96), (199, 249), (72, 72)]
    pixels = frame(200, 250, spots)
    backend = Spots()
    whole = BoxDetector(backend=Spots(dataclasses.replace(CARD, input=InputSpec(channels=1, stride=32, tile=512))))
    cut = BoxDetector(backend=backend, tile=96, overlap=24)
    assert sorted(cut.boxes(pixels).boxes.tolist()) == sorted(whole.boxes(pixels).boxes.tolist())
    assert len(backend.shapes) == 12 and {s[2:] for s in backend.shapes} == {(96, 96)}


def test_a_size_is_undone() -> None:
    pixels = np.full((100, 60), 20, np.uint8)
    pixels[40:50, 30:36] = 255  # stays one full pixel, or more, at half the height and width
    found = BoxDetector(backend=Spots(), size=(50, 30)).boxes(pixels)
    x = (found.boxes[:, 0] + found.boxes[:, 2]) / 2
    y = (found.boxes[:, 1] + found.boxes[:, 3]) / 2
    assert len(found.boxes) and (np.abs(x - 33) < 4).all() and (np.abs(y - 45) < 6).all()
    assert found.sky is not None and found.sky.shape == (100, 60)


def test_a_network_for_masks_is_refused() -> None:
    with pytest.raises(CardError, match="boxes need 'detection'"):
        BoxDetector(backend=Spots(dataclasses.replace(CARD, task="irstd")))
    with pytest.raises(MotesError, match="tiles of 4 px"):
        BoxDetector(backend=Spots(), tile=4)


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize("nms", [None, 0.3, 0.6])
def test_selects_what_the_lab_selects(nms: float | None, vote: bool) -> None:
    torch = pytest.importorskip("torch")
    from motes.layers.box_selection import select as in_torch

    rng = np.random.default_rng(0)
    low = rng.uniform(-5, 90, (2, 300, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + rng.uniform(-0.5, 12, (2, 300, 2)).astype(np.float32)], axis=2).clip(0, 96)
    candidates = {
        "boxes": boxes,
        "scores": rng.uniform(0, 1, (2, 300, 2)).astype(np.float32) ** 3,
        "factors": rng.uniform(0.2, 1, (2, 300)).astype(np.float32),
        "levels": np.array([200, 80, 20]),
    }
    spec = BoxSpec(score=0.1, nms=nms, per_level=60, keep=40, vote=vote)
    expected = in_torch({k: torch.from_numpy(v) for k, v in candidates.items()}, spec)
    for (found, scores, labels), one in zip(select(candidates, spec, (96, 96)), expected, strict=True):
        np.testing.assert_allclose(found, one["boxes"].numpy(), atol=1e-4)
        np.testing.assert_allclose(scores, one["scores"].numpy(), rtol=1e-6)
        np.testing.assert_array_equal(labels, one["labels"].numpy())
        assert len(found) == 40


def test_nothing_above_the_least_score() -> None:
    nothing = {"boxes": np.zeros((1, 5, 4), np.float32), "scores": np.zeros((1, 5, 1), np.float32), "levels": [5]}
    ((boxes, scores, labels),) = select(nothing, BoxSpec(), (32, 32))
    assert boxes.shape == (0, 4) and len(scores) == len(labels) == 0


def test_doubles_of_another_class_stay() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [10, 10, 12, 12]], np.float32)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert best(boxes, scores, np.array([0, 0, 0]), 0.5, 10).tolist() == [1, 2]
    assert best(boxes, scores, np.array([0, 1, 0]), 0.5, 10).tolist() == [1, 2, 0]
    assert box_iou(boxes[:1], boxes).tolist() == [[1, 1, 0]]
