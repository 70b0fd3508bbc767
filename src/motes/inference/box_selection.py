"""From a detector's candidates to its detections in numpy, candidate for candidate as ``layers/box_selection`` does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from motes.cards import BoxSpec

VOTE_OVERLAP = 0.01
VOTE_SPREAD = 0.025


def select(
    candidates: Mapping[str, np.ndarray], spec: BoxSpec, size: tuple[int, int]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(boxes [N, 4] float32 px, scores [N] float32, labels [N] int64) of each image, best first.

    Args:
        candidates: ``boxes`` [B, P, 4] px, ``scores`` [B, P, K] and perhaps ``factors`` [B, P] in [0, 1], ``levels``
            [L]: how many candidates each level has, in order.
        spec: thresholds and limits.
        size: (height, width) that boxes are clipped to before they suppress each other, px.
    """
    factors = candidates.get("factors")
    counts = [int(n) for n in candidates["levels"]]
    limits = np.array([size[1], size[0], size[1], size[0]], np.float32)
    return [
        _select_one(np.clip(boxes, 0, limits), scores, None if factors is None else factors[i], counts, spec)
        for i, (boxes, scores) in enumerate(zip(candidates["boxes"], candidates["scores"], strict=True))
    ]


def _select_one(
    boxes: np.ndarray, scores: np.ndarray, factors: np.ndarray | None, counts: list[int], spec: BoxSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    classes = scores.shape[1]
    flat = scores.reshape(-1)
    chosen, start = [], 0
    for count in counts:
        level = flat[start * classes : (start + count) * classes]
        above = np.flatnonzero(level > spec.score)
        order = np.argsort(-level[above], kind="stable")[: spec.per_level]
        chosen.append(above[order] + start * classes)
        start += count
    at = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    places, labels = at // classes, at % classes
    boxes, found = boxes[places], flat[at]
    if factors is not None:
        found = found * factors[places]
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, found, labels = boxes[real], found[real], labels[real]
    kept = best(boxes, found, labels, spec.nms, spec.keep)
    chosen_boxes = boxes[kept]
    if spec.vote:
        chosen_boxes = _voted(chosen_boxes, labels[kept], boxes, found, labels, spec.score)
    return chosen_boxes, found[kept], labels[kept]


def best(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, nms: float | None, keep: int) -> np.ndarray:
    """Indices of at most ``keep`` boxes, best first, none of which overlaps a better one of its class by more than
    ``nms`` (None: overlaps do not matter)."""
    from motes.metrics.box_matching import box_iou  # late: the metrics bring scipy, which a start must not wait for

    order = np.argsort(-scores, kind="stable")
    if nms is None:
        return np.asarray(order[:keep])
    kept: list[int] = []
    while len(order) and len(kept) < keep:
        first, order = order[0], order[1:]
        kept.append(int(first))
        doubles = (box_iou(boxes[first][None], boxes[order])[0] > nms) & (labels[order] == labels[first])
        order = order[~doubles]
    return np.array(kept, np.int64)


def _voted(
    kept: np.ndarray, kept_labels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, least: float
) -> np.ndarray:
    """Boxes ``kept`` [N, 4] as means of ``boxes`` [M, 4] of their class, weighted by score and nearness in overlap."""
    from motes.metrics.box_matching import box_iou

    overlap = box_iou(kept, boxes)
    weight = np.exp(-((1 - overlap) ** 2) / VOTE_SPREAD) * scores
    near = (overlap > VOTE_OVERLAP) & (scores > least) & (kept_labels[:, None] == labels)
    weight = np.where(near, weight, 0).astype(np.float32)
    total = weight.sum(axis=1, keepdims=True)
    mean = np.divide(weight @ boxes, total, out=kept.copy(), where=total > 0)
    return np.asarray(mean)
