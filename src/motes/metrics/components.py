"""Blobs of a binary mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Components:
    """8-connected components of a mask, numbered in raster order of their first pixel.

    Attributes:
        labels: int32 [H, W]; 0 is background, component ``i`` of the arrays below has label ``i + 1``.
        areas: int64 [N], px.
        centroids: float64 [N, 2]: x, y, the mean of pixel coordinates (a single pixel at column 3, row 5 has 3.0, 5.0).
        pixels: int64 [sum of areas], flat indices of all foreground pixels, ascending.
    """

    labels: np.ndarray
    areas: np.ndarray
    centroids: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def owners(self) -> np.ndarray:
        """int32 [sum of areas]: which component each of ``pixels`` belongs to, from 0."""
        return self.labels.ravel()[self.pixels] - 1

    def boxes(self) -> np.ndarray:
        """int64 [N, 4]: x1, y1, x2, y2 of every component, half-open, px."""
        y, x = np.divmod(self.pixels, self.labels.shape[1])
        boxes = np.full((len(self), 4), np.iinfo(np.int64).max)
        boxes[:, 2:] = 0
        owners = self.owners
        for column, values in enumerate((x, y)):
            np.minimum.at(boxes[:, column], owners, values)
            np.maximum.at(boxes[:, column + 2], owners, values + 1)
        return boxes


def components(mask: np.ndarray) -> Components:
    """The 8-connected components of ``mask`` [H, W] (bool, or 0 / non-zero)."""
    mask = np.ascontiguousarray(mask, np.bool_)
    if not mask.size:  # OpenCV crashes on it
        return Components(np.zeros(mask.shape, np.int32), *(np.zeros(s, np.int64) for s in (0, (0, 2), 0)))
    # The default (block-based) algorithm numbers by 2x2 blocks; this one by pixels, which greedy matching depends on.
    # Area and centroid from the foreground alone: OpenCV's statistics walk over the background too, at four times
    # the cost.
    count, labels = cv2.connectedComponentsWithAlgorithm(mask.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_SAUF)
    pixels = np.flatnonzero(mask)
    owners = labels.ravel()[pixels]
    y, x = np.divmod(pixels, mask.shape[1])
    areas = np.bincount(owners, minlength=count)[1:]
    sums = np.stack([np.bincount(owners, weights=c, minlength=count)[1:] for c in (x, y)], axis=1)
    return Components(labels, areas, sums / areas[:, None], pixels)
