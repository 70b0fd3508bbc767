"""The structure tensor: how much, and in how many directions, the grey levels change around a pixel."""

from __future__ import annotations

import numpy as np


def structure_eigenvalues(image: np.ndarray, inner: float, outer: float) -> tuple[np.ndarray, np.ndarray]:
    """The larger and the smaller eigenvalue of the structure tensor of an [H, W] image, each [H, W].

    Both large: a corner or a small target; one large: an edge; exactly 0 where the image is constant around a pixel.

    Args:
        image: [H, W] float64.
        inner: standard deviation of the 3x3 Gaussian over the image, px.
        outer: that of the 3x3 Gaussian over the products of the gradients.
    """
    smooth = _gauss3(image, inner)
    dy, dx = _gradient(smooth, 0), _gradient(smooth, 1)
    xx, xy, yy = (_gauss3(product, outer) for product in (dx * dx, dx * dy, dy * dy))
    trace, gap = xx + yy, np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    return (trace + gap) / 2, (trace - gap) / 2


def min_max(values: np.ndarray) -> np.ndarray:
    """(values - min) / (max - min) over the defined ones; 0 where undefined (NaN) or where all are equal."""
    defined = values[~np.isnan(values)]
    if not defined.size or defined.min() == defined.max():
        return np.zeros_like(values)
    low, high = defined.min(), defined.max()
    return np.nan_to_num((values - low) / (high - low), nan=0.0)


def _gauss3(image: np.ndarray, sigma: float) -> np.ndarray:
    """3x3 Gaussian, the edge pixel repeated. Plain sums, so that equal neighbourhoods give exactly equal results."""
    side = np.exp(-0.5 / sigma**2)
    side, middle = side / (1 + 2 * side), 1 / (1 + 2 * side)
    padded = np.pad(image, 1, mode="edge")
    rows = side * padded[:-2] + middle * padded[1:-1] + side * padded[2:]
    return np.asarray(side * rows[:, :-2] + middle * rows[:, 1:-1] + side * rows[:, 2:])


def _gradient(image: np.ndarray, axis: int) -> np.ndarray:
    """Central differences, one-sided at the border; 0 along a side of one pixel."""
    return np.zeros_like(image) if image.shape[axis] == 1 else np.gradient(image, axis=axis)
