"""TLLCM: the smoothed pixel against the brightest values of the cells around, in a window of three layers.

J. Han, S. Moradi, I. Faramarzi, C. Liu, H. Zhang, Q. Zhao, "A local contrast method for infrared small-target detection
utilizing a tri-layer window", IEEE Geoscience and Remote Sensing Letters 17(10), 1822-1826, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motes.classical.windows import (
    as_frame,
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


def tllcm(image: np.ndarray, sizes: Sequence[int] = (5, 7, 9), values: int = 9) -> np.ndarray:
    """Maximum over cell sizes of A^2 / B - A, cut at 0.

    A is the pixel after a 3x3 Gaussian, B the largest over the outer eight cells of the mean of their ``values``
    largest values. An offset of the counts changes the map (it is a contrast ratio): made for counts that start at 0.

    Args:
        image: [H, W] counts >= 0, any real dtype; kept as they are, never rescaled.
        sizes: sides of a cell, px, odd: the paper's by default, (9,) in the public code.
        values: largest values averaged in a cell (K), at most the square of the smallest size.

    Returns:
        [H, W] float32 counts, >= 0. Outside the frame the cells are 0, as in the public code (frames with a side below
        three times the largest size are mirrored instead); the Gaussian repeats the edge pixel.
    """
    frame = as_frame(image)
    floor, border = ratio_floor(frame), cell_border(frame.shape, max(sizes))
    core = smoothed(frame)
    out = np.zeros_like(frame)
    for top, bottom in strips(frame.shape):
        for s in sizes:
            (cells,) = top_means(with_border(frame, s + s // 2, border, top, bottom), s, [values])
            gain = ratio_gain(core[top:bottom], largest(ring(cells, s)), floor)
            np.maximum(out[top:bottom], gain, out=out[top:bottom])
    return out
