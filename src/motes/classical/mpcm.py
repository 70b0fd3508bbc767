"""MPCM: a cell that differs from opposite neighbours in the same direction.

Y. Wei, X. You, H. Li, "Multiscale patch-based contrast measure for small infrared target detection", Pattern
Recognition 58, 216-226, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from motes.classical.windows import as_frame, ring, strips, with_border


def mpcm(
    image: np.ndarray,
    sizes: Sequence[int] = (3, 5, 7, 9),
    border: Literal["symmetric", "replicate"] = "symmetric",
    bright: bool = False,
) -> np.ndarray:
    """Maximum over cell sizes of min_i d_i d_(i+4), cut at 0: d_i is the centre cell's mean minus that of outer cell i.

    Args:
        image: [H, W] counts, any real dtype; kept as they are, never rescaled.
        sizes: sides of a cell, px, odd.
        border: "symmetric" mirrors with the edge pixel repeated. "replicate" repeats the edge pixel of the frame, and
            then of its map of cell means (ISTD-python, TensorISTD).
        bright: only cells brighter than all eight around. The published measure answers to dark targets as well, since
            the product of two negative differences is positive.

    Returns:
        [H, W] float32, counts squared, >= 0. An offset of the counts changes nothing, a gain c is a gain c^2.
    """
    import cv2

    frame = as_frame(image)
    out = np.zeros_like(frame)
    outside = cv2.BORDER_REFLECT if border == "symmetric" else cv2.BORDER_REPLICATE
    for s in sizes:
        # The cell means of a mirrored frame are the mirrored cell means, so one border serves both steps.
        means = cv2.blur(frame, (s, s), borderType=outside)
        for top, bottom in strips(frame.shape):
            centre = means[top:bottom]
            around = ring(with_border(means, s, border, top, bottom), s)
            least = np.full(centre.shape, np.inf, np.float32)
            for one, other in zip(around[:4], around[4:], strict=True):
                d, opposite = centre - one, centre - other
                if bright:
                    np.maximum(d, 0, out=d)
                    np.maximum(opposite, 0, out=opposite)
                d *= opposite
                np.minimum(least, d, out=least)
            np.maximum(out[top:bottom], least, out=out[top:bottom])
    return out
