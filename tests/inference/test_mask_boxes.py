"""Boxes of a map's targets: where they lie, what they score, and what a detector makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motes.cards import Card, InputSpec
from motes.errors import CardError
from motes.inference import BoxDetector, Detector
from motes.inference.mask_boxes import MaskBoxes


class Bright:
    """A "network" whose logit is 10 at counts of 200, 0 at 100; it takes multiples of 16 px alone."""

    def __init__(self, task: str = "irstd") -> None:
        self.card = Card("bright", task, input=InputSpec(channels=1, stride=16, min_size=32))

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert not any(side % 16 for side in batch.shape[2:])
        return batch * 25.5 - 10


def frame() -> np.ndarray:
    pixels = np.zeros((37, 45), np.uint8)
    pixels[4:7, 5:9] = 200
    pixels[5, 6] = 255
    pixels[20:22, 40:45] = 180  # at the edge
    pixels[30, 3], pixels[31, 4] = 210, 210  # touch at a corner
    return pixels


def test_boxes_are_those_of_the_targets_of_the_map() -> None:
    backend: Any = Bright()
    found = BoxDetector(backend=MaskBoxes(backend)).boxes(frame()[..., None])
    expected = Detector(backend=backend).detect(frame())
    order = np.argsort(-expected.scores, kind="stable")
    assert found.boxes.tolist() == expected.boxes[order].tolist()
    assert sorted(found.boxes.tolist()) == [[3, 30, 5, 32], [5, 4, 9, 7], [40, 20, 45, 22]]
    assert np.allclose(found.scores, expected.scores[order]) and set(found.labels.tolist()) == {0}


def test_the_threshold_says_where_a_target_ends() -> None:
    backend: Any = Bright()
    sure = BoxDetector(backend=MaskBoxes(backend, threshold=0.99999)).boxes(frame()[..., None])
    assert sure.boxes.tolist() == [[6, 5, 7, 6], [3, 30, 5, 32]][: len(sure.boxes)]


def test_frames_of_a_batch_may_have_other_counts() -> None:
    backend: Any = Bright()
    batch = np.stack([frame(), np.zeros_like(frame())])[:, None].astype(np.float32) / 255
    found = MaskBoxes(backend).candidates(batch)
    assert found["boxes"].shape == (2, 3, 4) and found["levels"].tolist() == [3]
    assert (found["scores"][0] > 0.5).all() and not found["scores"][1].any()
    assert MaskBoxes(backend).candidates(batch[1:])["boxes"].shape == (1, 0, 4)


def test_only_networks_that_segment_targets() -> None:
    backend: Any = Bright("detection")
    with pytest.raises(CardError, match="boxes of masks need 'irstd'"):
        MaskBoxes(backend)
