"""Takes out of frames without targets what is a target by any local measure: dust, lamps, drops, glints.

A network that must answer nothing there learns to overlook targets. What stays is clutter that its surroundings tell
from a target: edges, ends of poles, textures, clouds.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

LARGEST, AROUND, GAP = 17, 10, 3
"""px: the longest side of a spot, how far its surroundings reach beyond it, and what lies between the two."""
RISE, ALONE = 3.0, 0.5
"""A spot is RISE standard deviations of its surroundings above them, which nearly nowhere rise ALONE as far."""


def without_spots(grey: np.ndarray, reductions: Sequence[int] = (1,)) -> np.ndarray:
    """[H, W] uint8 -> the same with every spot painted over from around it, those too that it has once reduced."""
    found = np.zeros(grey.shape, np.uint8)
    for factor in reductions:
        size = (max(grey.shape[1] // factor, 1), max(grey.shape[0] // factor, 1))
        small = spots(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)).astype(np.uint8)
        found |= cv2.resize(small, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.inpaint(grey, found, 3, cv2.INPAINT_TELEA)


def spots(grey: np.ndarray) -> np.ndarray:
    """[H, W] uint8 -> [H, W] bool, each spot two pixels wider than it is."""
    level = grey.astype(np.float32)
    mean = cv2.blur(level, (31, 31))
    spread = np.sqrt(np.maximum(cv2.blur(level * level, (31, 31)) - mean * mean, 0))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (LARGEST, LARGEST))
    rises = cv2.subtract(grey, cv2.morphologyEx(grey, cv2.MORPH_OPEN, disc)) > np.maximum(8, 1.5 * spread)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(rises.astype(np.uint8))
    found = np.zeros(grey.shape, bool)
    for k in range(1, count):
        x, y, width, height, _ = boxes[k]
        if max(width, height) > LARGEST:
            continue
        window = slice(max(y - AROUND, 0), y + height + AROUND), slice(max(x - AROUND, 0), x + width + AROUND)
        spot = labels[window] == k
        if stands_alone(level[window], spot):
            found[window] |= grown(spot, GAP - 1)
    return found


def stands_alone(level: np.ndarray, spot: np.ndarray) -> bool:
    """Of a window [H, W] float32 around a spot, [H, W] bool."""
    around = level[~grown(spot, GAP)]
    if not around.size:
        return False
    rise = level[spot].mean() - around.mean()
    high = np.percentile(around, 99) - around.mean()
    return bool(rise >= RISE * max(around.std(), 1) and high <= ALONE * rise)


def grown(mask: np.ndarray, by: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0
