"""From a probability map to targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from motes.inference.detections import Detections

RING = 20
"""Reach of the surroundings that SCR compares with, px: the usual d = 20 of the papers that report SCR."""

GUARD = 2
"""Pixels next to any target belong to neither side: the blur of the optics spreads a target beyond its mask."""


def find_targets(
    probability: np.ndarray,
    pixels: np.ndarray | None = None,
    threshold: float = 0.5,
    *,
    classes: tuple[str, ...] = ("target",),
    path: Path | None = None,
    name: str = "",
    page: int = 0,
) -> Detections:
    """The 8-connected components of ``probability > threshold``, best score first.

    Args:
        probability: [H, W] float in [0, 1].
        pixels: [H, W] or [H, W, C] counts of the same frame, for sub-pixel centroids and SCR (colour: the mean of the
            channels). Without them centroids are weighted by probability and SCR is NaN.
        threshold: a pixel is target where its probability is larger.
    """
    import cv2

    mask = (probability > threshold).astype(np.uint8)
    size = (probability.shape[0], probability.shape[1])
    facts: dict[str, Any] = {"classes": classes, "path": path, "name": name, "page": page, "size": size}
    count, components, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    count -= 1  # label 0 is the background
    if count == 0:
        return Detections(**facts)

    at = np.flatnonzero(components)
    member = components.reshape(-1)[at] - 1
    inside = probability.reshape(-1)[at]
    scores = _largest(inside, member, count)
    x1, y1, w, h, areas = stats[1:].T
    boxes = np.stack([x1, y1, x1 + w, y1 + h], axis=1)

    if pixels is None:
        weight, scr = inside.astype(np.float64), np.full(count, np.nan)
    else:
        grey = pixels if pixels.ndim == 2 else (pixels[:, :, 0] if pixels.shape[2] == 1 else None)
        counts = grey.reshape(-1)[at] if grey is not None else pixels.reshape(-1, pixels.shape[2])[at].mean(1)
        counts = counts.astype(np.float64)
        mean, std = surroundings(mask, pixels, boxes)
        signal = np.bincount(member, counts, count) / areas - mean
        scr = np.divide(signal, std, out=np.full(count, np.nan), where=std > 0)
        # A dark target weighs by how far it lies below its surroundings.
        sign = np.where(signal < 0, -1.0, 1.0)
        weight = np.maximum(np.nan_to_num((counts - mean[member]) * sign[member]), 0.0)
    centroids = _weighted_centers(at, member, weight, centers[1:], probability.shape[1])

    order = np.lexsort((x1, y1, -scores))
    return Detections(
        boxes=boxes[order],
        centroids=centroids[order],
        centers=centers[1:][order],
        scores=scores[order],
        areas=areas[order],
        scr=scr[order],
        labels=np.zeros(count, np.int64),
        **facts,
    )


def _largest(values: np.ndarray, member: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(member, kind="stable")
    first = np.searchsorted(member[order], np.arange(count))
    return np.maximum.reduceat(values[order], first)


def _weighted_centers(
    at: np.ndarray, member: np.ndarray, weight: np.ndarray, centers: np.ndarray, width: int
) -> np.ndarray:
    """[N, 2] x, y weighted by ``weight``; the geometric centre where all weights are zero."""
    count = len(centers)
    total = np.bincount(member, weight, count)
    # Relative to the geometric centre: sums of coordinates times counts would lose digits on large frames.
    dx = np.bincount(member, weight * (at % width - centers[member, 0]), count)
    dy = np.bincount(member, weight * (at // width - centers[member, 1]), count)
    safe = np.where(total > 0, total, 1.0)
    return np.asarray(centers + np.stack([dx / safe, dy / safe], axis=1))


def surroundings(mask: np.ndarray, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the counts within RING px of each box that lie GUARD px from every target.

    NaN where nothing is left.
    """
    import cv2

    guard = np.ones((2 * GUARD + 1, 2 * GUARD + 1), np.uint8)
    height, width = mask.shape
    mean, std = np.full(len(boxes), np.nan), np.full(len(boxes), np.nan)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        rows = slice(max(y1 - RING, 0), min(y2 + RING, height))
        columns = slice(max(x1 - RING, 0), min(x2 + RING, width))
        outer_rows = slice(max(y1 - RING - GUARD, 0), min(y2 + RING + GUARD, height))
        outer_columns = slice(max(x1 - RING - GUARD, 0), min(x2 + RING + GUARD, width))
        near = cv2.dilate(mask[outer_rows, outer_columns], guard)
        top, left = rows.start - outer_rows.start, columns.start - outer_columns.start
        near = near[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        window = pixels[rows, columns]
        free = window[near == 0].astype(np.float64)
        if free.ndim == 2:
            free = free.mean(axis=1)
        if free.size:
            mean[i], std[i] = free.mean(), free.std()
    return mean, std
