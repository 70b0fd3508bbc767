"""``MaskBoxes``: a network that answers with a map of targets, as one that answers with boxes."""

from __future__ import annotations

import dataclasses

import numpy as np

from motes.cards import BoxSpec
from motes.errors import CardError
from motes.inference.backend import Backend
from motes.inference.detector import pad_to, sigmoid
from motes.inference.targets import find_targets
from motes.inference.thresholds import choose_threshold

MOST = 1000
"""Targets of a frame at most; none is left out for its score."""


class MaskBoxes:
    """A `motes.inference.box_detector.CandidateBackend` made of one for the task ``irstd``.

    A box is what bounds an 8-connected part of the pixels above the threshold, its score the largest probability in it:
    the targets of `motes.Detector`. Two targets that touch are one box, and nothing scores less than the threshold.

    Args:
        backend: runs the network.
        threshold: probability above which a pixel is target; None = the card's.

    Raises:
        CardError: a network for another task.
    """

    def __init__(self, backend: Backend, threshold: float | None = None) -> None:
        card = backend.card
        if card.task != "irstd":
            raise CardError(f"'{card.name}' is a network for the task '{card.task}', boxes of masks need 'irstd'")
        self.backend = backend
        self.threshold = choose_threshold(card, threshold, None)
        # Frames come as they are: what a map is padded with is its own edge, a detector's zeros are not for it.
        spec = dataclasses.replace(card.input, stride=1, min_size=1)
        boxes = BoxSpec(score=0.0, nms=None, per_level=MOST, keep=MOST)
        self.card = card.replace(task="detection", input=spec, boxes=boxes)

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """``boxes`` [B, P, 4], ``scores`` [B, P, 1] and ``levels`` [1] of [B, C, H, W] float32; P of the fullest frame,
        zeros in the others."""
        height, width = batch.shape[2:]
        spec = self.backend.card.input
        logits = self.backend.run(pad_to(batch, spec.stride, spec.min_size))[:, 0, :height, :width]
        found = [find_targets(sigmoid(one), threshold=self.threshold) for one in logits]
        most = max(len(one.boxes) for one in found)
        boxes, scores = np.zeros((len(found), most, 4), np.float32), np.zeros((len(found), most, 1), np.float32)
        for i, one in enumerate(found):
            boxes[i, : len(one.boxes)], scores[i, : len(one.boxes), 0] = one.boxes, one.scores
        return {"boxes": boxes, "scores": scores, "levels": np.array([most])}
