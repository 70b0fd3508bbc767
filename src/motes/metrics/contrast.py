"""NoCoAP, the normalised-contrast average precision of BAFE-Net's package: a detection is a point on a bright spot.

The published wrapper for detectors swaps x and y of boxes and points but not of the image, and takes the image at
network size; here all three are in px of the original image, and the inner functions are as published.
"""

from __future__ import annotations

import numpy as np

THRESHOLDS = tuple(k / 10 for k in range(1, 10))
"""Of the map, over which mNoCoAP is the mean."""


def contrast_map(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The truth as a map in [0, 1): a Gaussian over each box, times the contrast inside.

    Args:
        image: [H, W] counts.
        boxes: [N, 4] xyxy px, half-open, rounded to whole px. Later boxes are written over earlier ones; a box without
            pixels ends it.

    Returns:
        float64 [H, W].
    """
    height, width = image.shape
    out = np.zeros(image.shape)
    for x1, y1, x2, y2 in np.rint(boxes).astype(int).tolist():
        w, h = x2 - x1, y2 - y1
        inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        if not inside.size:
            break
        left, top, right, bottom = max(x1 - w, 0), max(y1 - h, 0), min(x2 + w, width), min(y2 + h, height)
        window = image[top:bottom, left:right].astype(np.float64)
        x = np.linspace(-1.5, 1.5, 3 * w)[left - (x1 - w) : right - (x1 - w)]
        y = np.linspace(-1.5, 1.5, 3 * h)[top - (y1 - h) : bottom - (y1 - h)]
        gauss = np.exp(-(np.square(x)[None] + np.square(y)[:, None]) / 2)
        low = window.min()
        p = gauss * (window - low) / (float(inside.max()) - low + 0.01)
        out[top:bottom, left:right] = (p - p.min()) / (p.max() - p.min() + 0.001)
    return out


def point_values(points: np.ndarray, truth: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each point meets: the map's value there [N], and the first box that holds it [N], -1 for none.

    Args:
        points: [N, 2] x, y px.
        truth: [H, W], of `contrast_map`.
        boxes: [M, 4] xyxy px; their edges belong to them.
    """
    height, width = truth.shape
    column, row = np.rint(points).astype(int).reshape(-1, 2).T
    there = (column >= 0) & (row >= 0) & (column <= width) & (row <= height)
    values = truth[row.clip(0, height - 1), column.clip(0, width - 1)] * there
    boxes = np.rint(boxes).reshape(-1, 4)
    held = (points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])
    inside = np.asarray(held.all(axis=2))
    if not len(boxes):
        return values, np.full(len(points), -1)
    return values, np.where(inside.any(axis=1), inside.argmax(axis=1), -1)
