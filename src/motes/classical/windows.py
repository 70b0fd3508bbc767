"""What the window methods share: frame borders, strips of rows, line windows, and the cell grid.

The cell grid of size s (odd) is nine s x s cells that tile a 3s x 3s window centred on the pixel. The statistic of a
cell is computed once a pixel; the eight outer cells of a pixel are then that map seen from s px away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

Border = Literal["symmetric", "replicate", "zero"]
"""What lies outside the frame: its mirror image with the edge pixel repeated, the edge pixel, or 0."""

_STRIP = 1 << 19  # px at once: bounds the memory of a large frame
_LANE = 1 << 14  # px of one array while values are sorted: some twenty such arrays stay in the cache


def as_frame(image: np.ndarray) -> np.ndarray:
    """[H, W] of any real dtype -> contiguous float32, which holds counts up to 2**24 exactly."""
    return np.ascontiguousarray(image, dtype=np.float32)


def strips(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(top, bottom) of the strips of rows in which a frame of this [H, W] is worked through."""
    rows = max(64, _STRIP // shape[1])
    for top in range(0, shape[0], rows):
        yield top, min(top + rows, shape[0])


def with_border(frame: np.ndarray, halo: int, border: Border, top: int = 0, bottom: int | None = None) -> np.ndarray:
    """Rows [top, bottom) of ``frame`` with ``halo`` px around: [bottom - top + 2 halo, W + 2 halo], a copy.

    Above and below are the neighbouring rows where the frame has them, and ``border`` where it ends.
    """
    h = frame.shape[0]
    bottom = h if bottom is None else bottom
    above, below = max(0, halo - top), max(0, bottom + halo - h)
    sides = (halo, halo)
    if border == "zero":
        return np.pad(frame[max(0, top - halo) : bottom + halo], ((above, below), sides))
    mode: Literal["symmetric", "edge"] = "symmetric" if border == "symmetric" else "edge"
    if above or below:
        rows = np.pad(np.arange(h), halo, mode=mode)[top : bottom + 2 * halo]
        return np.pad(frame[rows], ((0, 0), sides), mode=mode)
    return np.pad(frame[top - halo : bottom + halo], ((0, 0), sides), mode=mode)


LINES = ((1, 0), (0, 1), (1, 1), (1, -1))
"""Steps (rows, columns) of the vertical and horizontal line, the main diagonal and the anti-diagonal."""


def lines(padded: np.ndarray, size: int, step: tuple[int, int]) -> list[np.ndarray]:
    """The ``size`` samples of a line through every pixel: views [H, W] into ``padded`` (by size // 2)."""
    r = size // 2
    h, w = padded.shape[0] - 2 * r, padded.shape[1] - 2 * r
    starts = [(r + k * step[0], r + k * step[1]) for k in range(-r, r + 1)]
    return [padded[y : y + h, x : x + w] for y, x in starts]


def box_mean(padded: np.ndarray, size: int) -> np.ndarray:
    """Mean of every ``size`` x ``size`` window that lies inside: [h, w] -> [h - size + 1, w - size + 1] float32."""
    import cv2

    r = size // 2
    inner = cv2.blur(padded, (size, size), borderType=cv2.BORDER_REPLICATE)  # sums are float64
    return np.asarray(inner[r : inner.shape[0] - r, r : inner.shape[1] - r])


def smoothed(frame: np.ndarray) -> np.ndarray:
    """The frame after the 3x3 Gaussian [1 2 1; 2 4 2; 1 2 1] / 16, edge pixel repeated."""
    import cv2

    row = np.array([0.25, 0.5, 0.25], np.float32)
    return np.asarray(cv2.sepFilter2D(frame, -1, row, row, borderType=cv2.BORDER_REPLICATE))


def ring(cells: np.ndarray, size: int) -> list[np.ndarray]:
    """The eight outer cells of every pixel, clockwise from top left: views [H, W]; i and i + 4 are opposite.

    Args:
        cells: [H + 2 size, W + 2 size], the statistic of the cell centred on each pixel, ``size`` px beyond the frame.
        size: side of a cell, px.
    """
    h, w = cells.shape[0] - 2 * size, cells.shape[1] - 2 * size
    around = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    return [cells[y * size : y * size + h, x * size : x * size + w] for y, x in around]


def largest(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Element-wise maximum, a new array."""
    out = np.maximum(arrays[0], arrays[1])
    for array in arrays[2:]:
        np.maximum(out, array, out=out)
    return out


def ratio_gain(centre: np.ndarray, background: np.ndarray, floor: float) -> np.ndarray:
    """A^2 / B - A, as A (A - B) / B, which keeps small contrasts on a high level; 0 where A is 0.

    ``floor`` stands for B where B is smaller: the quotient has no value where all cells around are black.
    """
    background = np.maximum(background, np.float32(floor))
    out = np.subtract(centre, background)
    out *= centre
    out /= background
    return out


def ratio_floor(frame: np.ndarray) -> float:
    """The least background level of a ratio: 2**-16 of the frame's maximum, so that a gain changes nothing."""
    return max(float(frame.max()) * 2.0**-16, float(np.finfo(np.float32).tiny))


def cell_border(shape: tuple[int, ...], size: int) -> Border:
    """The zero border of the published local-contrast code; mirrored where a side is below 3 ``size``, the window.

    With zeros, hardly a cell of so small a frame would hold image, and a flat frame would respond.
    """
    return "zero" if min(shape) >= 3 * size else "symmetric"


def top_means(padded: np.ndarray, size: int, counts: Sequence[int]) -> list[np.ndarray]:
    """For each k of ``counts`` the mean of the k largest values of every ``size`` x ``size`` window inside.

    Args:
        padded: [h, w] float32.
        size: side of the window, px.
        counts: values to average, each from 1 to size * size.

    Returns:
        [h - size + 1, w - size + 1] float32 for each of ``counts``.

    The largest values of a run of columns are merged from those of its parts: sorted columns first, then 1 + 1, 2 + 2,
    4 + 4 ... of them. All pixels of a few rows take part in each comparison, so there is no sorting by pixel.
    """
    h, w = padded.shape[0] - size + 1, padded.shape[1] - size + 1
    most = max(counts)
    out = [np.empty((h, w), np.float32) for _ in counts]
    rows = max(1, _LANE // padded.shape[1])
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        columns = _sorted([padded[top + k : bottom + k] for k in range(size)], most)
        total = np.zeros((bottom - top, w), np.float32)
        for k, values in enumerate(_over_columns(columns, size, most), start=1):
            total += values
            for one, count in zip(out, counts, strict=True):
                if count == k:
                    np.divide(total, np.float32(k), out=one[top:bottom])
    return out


def _over_columns(columns: list[np.ndarray], size: int, most: int) -> list[np.ndarray]:
    """The ``most`` largest of ``size`` neighbouring columns, descending; ``columns`` are those of single ones."""
    w = columns[0].shape[1] - size + 1
    run, width = columns, 1  # the largest of `width` columns, by the first of them
    found: list[np.ndarray] = []
    start = 0
    while True:
        if size & width:
            part = [v[:, start : start + w] for v in run]
            found = _merged(found, part, most) if found else part
            start += width
        if 2 * width > size:
            return found
        span = run[0].shape[1] - width
        run = _merged([v[:, :span] for v in run], [v[:, width : width + span] for v in run], most)
        width *= 2


def _sorted(lanes: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Element-wise: the ``most`` largest of the arrays, descending."""
    if len(lanes) == 1:
        return lanes
    half = len(lanes) // 2
    return _merged(_sorted(lanes[:half], most), _sorted(lanes[half:], most), most)


def _merged(a: list[np.ndarray], b: list[np.ndarray], most: int) -> list[np.ndarray]:
    """The ``most`` largest of two descending lists, descending.

    The larger of a[i] and b[n - 1 - i] over all i are the n largest; they fall and then rise.
    """
    n = min(most, len(a) + len(b))
    valley = []
    for i in range(n):
        j = n - 1 - i
        valley.append(a[i] if j >= len(b) else b[j] if i >= len(a) else np.maximum(a[i], b[j]))
    return _levelled(valley)


def _levelled(valley: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays that fall and then rise, brought into descending order (Batcher's bitonic merge, any number of them)."""
    n = len(valley)
    if n == 1:
        return valley
    m = 1 << (n - 1).bit_length() - 1
    valley = list(valley)
    for i in range(n - m):
        valley[i], valley[i + m] = np.maximum(valley[i], valley[i + m]), np.minimum(valley[i], valley[i + m])
    return _levelled(valley[: n - m]) + _levelled(valley[n - m :])
