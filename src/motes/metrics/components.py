"""Blobs of a binary mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class Components:
    """8-connected components of a mask, numbered in raster order of their first pixel. Made by :func:`components`.

    Attributes:
        shape: (H, W) of the mask.
        areas: int64 [N], px.
        centroids: float64 [N, 2]: x, y, the mean of pixel coordinates (a pixel at column 3, row 5 has 3.0, 5.0).
        rows: int64, the rows that ``cells`` holds.
        columns: int64, the columns that ``cells`` holds.
        cells: int32 [rows, columns], labels where there may be any.
    """

    shape: tuple[int, int]
    areas: np.ndarray
    centroids: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    cells: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    @cached_property
    def labels(self) -> np.ndarray:
        """int32 [H, W]: 0 is background, component ``i`` has label ``i + 1``."""
        if self.cells.shape == self.shape:
            return self.cells
        labels = np.zeros(self.shape, np.int32)
        labels[self.rows[:, None], self.columns] = self.cells
        return labels

    @cached_property
    def pixels(self) -> np.ndarray:
        """int64 [sum of areas], flat indices of all foreground pixels, ascending."""
        y, x = np.divmod(np.flatnonzero(self.cells), max(self.cells.shape[1], 1))
        return self.rows[y] * self.shape[1] + self.columns[x]

    @property
    def owners(self) -> np.ndarray:
        """int32 [sum of areas]: which component each of ``pixels`` belongs to, from 0."""
        return self.cells[self.cells > 0] - 1

    def boxes(self) -> np.ndarray:
        """int64 [N, 4]: x1, y1, x2, y2 of every component, half-open, px."""
        y, x = np.divmod(self.pixels, max(self.shape[1], 1))
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
    shape = (mask.shape[0], mask.shape[1])
    rows, columns = _worth_reading(mask.any(axis=1)), _worth_reading(mask.any(axis=0))
    if 4 * len(rows) * len(columns) < mask.size or not mask.size:
        cells = mask[rows[:, None], columns]
    else:
        rows, columns, cells = np.arange(shape[0]), np.arange(shape[1]), mask
    if not cells.size:  # OpenCV crashes on it
        nothing = np.zeros(0, np.int64)
        return Components(shape, nothing, np.zeros((0, 2)), rows, columns, np.zeros(cells.shape, np.int32))
    # OpenCV's default algorithm numbers by 2x2 blocks, this one by pixels, which greedy matching depends on. Its
    # statistics walk over the background too: where few pixels are foreground, it is quicker to add up theirs.
    foreground = np.count_nonzero(cells)
    if foreground == mask.size:  # the lowest threshold of a sweep
        middle = np.array([[(shape[1] - 1) / 2, (shape[0] - 1) / 2]])
        return Components(shape, np.array([foreground]), middle, rows, columns, np.ones(shape, np.int32))
    if cells is mask and 8 * foreground > mask.size:
        _, labels, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
            mask.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_SAUF
        )
        return Components(shape, stats[1:, cv2.CC_STAT_AREA].astype(np.int64), centroids[1:], rows, columns, labels)
    count, labels = cv2.connectedComponentsWithAlgorithm(cells.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_SAUF)
    pixels = np.flatnonzero(cells)
    owners = labels.ravel()[pixels]
    y, x = np.divmod(pixels, cells.shape[1])
    areas = np.bincount(owners, minlength=count)[1:]
    centroids = np.empty((count - 1, 2))
    for k, values in enumerate((columns[x], rows[y])):
        centroids[:, k] = np.bincount(owners, weights=values, minlength=count)[1:] / areas
    return Components(shape, areas, centroids, rows, columns, labels)


def _worth_reading(occupied: Any) -> np.ndarray:
    """Indices of the lines that hold something, and of one empty line after each run of them.

    That line keeps apart what is apart: leaving out the other empty ones joins no components and changes no order.
    """
    kept = occupied.copy()
    kept[1:] |= occupied[:-1]
    return np.flatnonzero(kept)
