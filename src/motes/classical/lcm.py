"""LCM: how often the brightest pixel of a cell exceeds the brightest of the eight cells around, times itself.

C. L. P. Chen, H. Li, Y. Wei, T. Xia, Y. Y. Tang, "A local contrast method for small infrared target detection", IEEE
Transactions on Geoscience and Remote Sensing 52(1), 574-581, 2014; section III, definition 1 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from motes.classical.windows import as_frame, box_mean, largest, ratio_floor, ring, strips, with_border


def lcm(
    image: np.ndarray,
    sizes: Sequence[int] = (3, 5, 7, 9),
    border: Literal["symmetric", "replicate"] = "symmetric",
) -> np.ndarray:
    """Maximum over cell sizes s of L^2 / max_i m_i: L the maximum of the centre cell, m_i the means of the outer eight.

    On smooth background the map is about the grey level itself, never 0, and targets stand out by their contrast ratio:
    it takes a high threshold, and an offset of the counts changes it. Made for counts that start at 0.

    Args:
        image: [H, W] counts >= 0, any real dtype; kept as they are, never rescaled.
        sizes: sides of a cell, px, odd.
        border: "symmetric" mirrors with the edge pixel repeated; "replicate" repeats the edge pixel (ISTD-python).

    Returns:
        [H, W] float32 counts. A gain of the counts is a gain of the map.
    """
    import cv2

    frame = as_frame(image)
    floor = ratio_floor(frame)
    out = np.zeros_like(frame)
    for top, bottom in strips(frame.shape):
        for s in sizes:
            # What is mirrored or repeated is in the cell already, so the maximum need not look outside the frame.
            halo = s // 2
            rows = frame[max(0, top - halo) : bottom + halo]
            peak = cv2.dilate(rows, np.ones((s, s), np.uint8))[min(top, halo) :][: bottom - top]
            cells = box_mean(with_border(frame, s + halo, border, top, bottom), s)
            around = largest(ring(cells, s))
            np.maximum(around, np.float32(floor), out=around)
            np.divide(peak, around, out=around)
            around *= peak
            np.maximum(out[top:bottom], around, out=out[top:bottom])
    return out
