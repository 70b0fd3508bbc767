"""WSLCM: the contrast of TLLCM, weighted by how irregular the cell is against the cells around.

J. Han, S. Moradi, I. Faramarzi, H. Zhang, Q. Zhao, X. Zhang, N. Li, "Infrared small target detection based on the
weighted strengthened local contrast measure", IEEE Geoscience and Remote Sensing Letters 18(9), 1670-1674, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motes.classical.windows import (
    as_frame,
    box_mean,
    cell_border,
    largest,
    ratio_floor,
    ratio_gain,
    ring,
    smoothed,
    strips,
    top_means,
    with_border,
)


def wslcm(
    image: np.ndarray,
    sizes: Sequence[int] = (5, 7, 9, 11),
    values: int = 9,
    floor: float = 5.0,
    median: bool = True,
) -> np.ndarray:
    """Maximum over cell sizes of S W_T W_D / W_B.

    With A the 3x3 Gaussian of the frame, and M_i and mu_i the mean of the ``values`` largest and of all values of cell
    i (0 the centre): S = A^2 / max M_i - A, cut at 0; irregularity r_i = M_i - mu_i; W_T = r_0;
    W_D = r_0 - max r_i, cut at 0; W_B = the standard deviation of the outer eight r_i, at least ``floor``.
    A product of three contrasts: its strongest target dwarfs all others of the frame.

    Args:
        image: [H, W] grey levels, 0..255 or about that: ``floor`` is an absolute level, so a gain of the counts changes
            more than the scale of the map. The card has frames deeper than 8 bits scaled (``GREY`` in methods.py).
        sizes: sides of a cell, px, odd.
        values: largest values averaged in a cell (K), at most the square of the smallest size.
        floor: least W_B (xi), grey levels.
        median: a 3x3 median first, as in the public code; it removes targets of one pixel.

    Returns:
        [H, W] float32, >= 0 but near the rim: outside the frame, M sees 0 and mu the repeated edge pixel, as in the
        public code (for M, frames with a side below three times the largest size are mirrored instead).
    """
    frame = as_frame(image)
    if median:
        frame = _median3(frame)
    least, border = ratio_floor(frame), cell_border(frame.shape, max(sizes))
    core = smoothed(frame)
    out = np.full_like(frame, -np.inf)
    for top, bottom in strips(frame.shape):
        for s in sizes:
            halo = s + s // 2
            (bright,) = top_means(with_border(frame, halo, border, top, bottom), s, [values])
            irregular = bright - box_mean(with_border(frame, halo, "replicate", top, bottom), s)
            measure = ratio_gain(core[top:bottom], largest(ring(bright, s)), least)
            np.maximum(measure, 0, out=measure)
            centre, around = irregular[s:-s, s:-s], ring(irregular, s)
            measure *= centre
            measure *= np.maximum(centre - largest(around), 0)
            measure /= np.maximum(_std(around), np.float32(floor))
            np.maximum(out[top:bottom], measure, out=out[top:bottom])
    return out


def _median3(frame: np.ndarray) -> np.ndarray:
    import cv2

    return np.ascontiguousarray(cv2.medianBlur(np.pad(frame, 1), 3)[1:-1, 1:-1])


def _std(arrays: list[np.ndarray]) -> np.ndarray:
    """Element-wise standard deviation over the arrays, divisor n - 1."""
    mean = np.add.reduce(arrays) / np.float32(len(arrays))
    total = np.zeros_like(mean)
    for array in arrays:
        difference = array - mean
        difference *= difference
        total += difference
    total /= np.float32(len(arrays) - 1)
    return np.sqrt(total, out=total)
