"""Boxes as targets: centroid and signal-to-clutter ratio of what lies inside each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from motes.inference.detections import Detections
from motes.inference.targets import surroundings


def boxed_targets(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    pixels: np.ndarray,
    *,
    classes: tuple[str, ...] = ("target",),
    path: Path | None = None,
    name: str = "",
    page: int = 0,
) -> Detections:
    """The targets that boxes hold, in the order given.

    A target is all pixels that its box touches: its area counts them, its centroid weighs them by their counts above
    the local background (below it, where the target is dark).

    Args:
        boxes: [N, 4] xyxy px, half-open, inside the frame.
        scores: [N] in [0, 1].
        labels: [N] index into ``classes``.
        pixels: [H, W] or [H, W, C] counts of the frame (colour: the mean of the channels).
    """
    height, width = pixels.shape[:2]
    facts: dict[str, Any] = {"classes": classes, "path": path, "name": name, "page": page, "size": (height, width)}
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    touched = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int64)
    touched = np.clip(touched, 0, [width, height, width, height])
    mask = np.zeros((height, width), np.uint8)
    for x1, y1, x2, y2 in touched.tolist():
        mask[y1:y2, x1:x2] = 1
    mean, std = surroundings(mask, pixels, touched)
    centers = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
    centroids, scr = centers.copy(), np.full(len(boxes), np.nan)
    for i, (x1, y1, x2, y2) in enumerate(touched.tolist()):
        inside = pixels[y1:y2, x1:x2].astype(np.float64)
        inside = inside.mean(axis=2) if inside.ndim == 3 else inside
        signal = inside.mean() - mean[i]
        weight = np.maximum(np.nan_to_num((inside - mean[i]) * (-1.0 if signal < 0 else 1.0)), 0)
        if weight.sum() > 0:
            rows, columns = np.mgrid[y1:y2, x1:x2]
            centroids[i] = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
        if std[i] > 0:
            scr[i] = signal / std[i]
    return Detections(
        boxes=boxes,
        centroids=centroids,
        centers=centers,
        scores=scores,
        areas=(touched[:, 2] - touched[:, 0]) * (touched[:, 3] - touched[:, 1]),
        scr=scr,
        labels=labels,
        **facts,
    )
