"""Blobs of a binary mask."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Components(NamedTuple):
    """8-connected components of a mask, numbered in raster order of their first pixel.

    Attributes:
        labels: int32 [H, W]; 0 is background, component ``i`` of the arrays below has label ``i + 1``.
        stats: int32 [N, 5]: x, y, width, height of the bounding box and area, px.
        centroids: float64 [N, 2]: x, y, the mean of pixel coordinates (a single pixel at column 3, row 5 has 3.0, 5.0).
    """

    labels: np.ndarray
    stats: np.ndarray
    centroids: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """int64 [N], px."""
        return self.stats[:, cv2.CC_STAT_AREA].astype(np.int64)

    def __len__(self) -> int:
        return len(self.stats)


def components(mask: np.ndarray) -> Components:
    """The 8-connected components of ``mask`` [H, W] (bool, or 0 / non-zero)."""
    if mask.size == 0:  # OpenCV crashes on it
        return Components(np.zeros(mask.shape, np.int32), np.zeros((0, 5), np.int32), np.zeros((0, 2)))
    pixels = mask.view(np.uint8) if mask.dtype == np.bool_ else (mask != 0).view(np.uint8)
    # The default (block-based) algorithm numbers by 2x2 blocks; this one by pixels, which greedy matching depends on.
    _, labels, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
        np.ascontiguousarray(pixels), 8, cv2.CV_32S, cv2.CCL_SAUF
    )
    return Components(labels, stats[1:], centroids[1:])
