"""RLCM: a cell's brightest values against those of the eight cells around, at three numbers of values.

J. Han, K. Liang, B. Zhou, X. Zhu, J. Zhao, L. Zhao, "Infrared small target detection utilizing the multiscale relative
local contrast measure", IEEE Geoscience and Remote Sensing Letters 15(4), 612-616, 2018.
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
    strips,
    top_means,
    with_border,
)


def rlcm(image: np.ndarray, size: int = 9, pairs: Sequence[tuple[int, int]] = ((2, 4), (5, 9), (9, 16))) -> np.ndarray:
    """Maximum over pairs (K1, K2) of A^2 / B - A, cut at 0.

    A is the mean of the K1 largest values of the centre cell, B the largest over the outer eight of the mean of their
    K2 largest. Every target answers with a block of about ``size`` x ``size`` px, so its IoU is low by construction.
    An offset of the counts changes the map (it is a contrast ratio): made for counts that start at 0.

    Args:
        image: [H, W] counts >= 0, any real dtype; kept as they are, never rescaled.
        size: side of a cell, px, odd.
        pairs: (K1, K2), each at most size * size.

    Returns:
        [H, W] float32 counts, >= 0. Outside the frame is 0, as in the public code, so bright rims respond; frames with
        a side below 3 ``size`` are mirrored instead.
    """
    frame = as_frame(image)
    floor, border = ratio_floor(frame), cell_border(frame.shape, size)
    counts = sorted({k for pair in pairs for k in pair})
    out = np.zeros_like(frame)
    for top, bottom in strips(frame.shape):
        padded = with_border(frame, size + size // 2, border, top, bottom)
        means = dict(zip(counts, top_means(padded, size, counts), strict=True))
        for centre, around in pairs:
            core = means[centre][size:-size, size:-size]
            gain = ratio_gain(core, largest(ring(means[around], size)), floor)
            np.maximum(out[top:bottom], gain, out=out[top:bottom])
    return out
