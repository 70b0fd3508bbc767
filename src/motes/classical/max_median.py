"""Max-median: what is brighter than the largest of four line medians through it.

S. D. Deshpande, M. H. Er, R. Venkateswarlu, P. Chan, "Max-mean and max-median filters for detection of small
targets", Proc. SPIE 3809, 1999.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from motes.classical.windows import LINES, Border, as_frame, lines, with_border

_STRIP = 128  # rows filtered at once: the line windows of a strip stay in the cache, and memory stays bounded


def max_median(
    image: np.ndarray,
    size: int = 5,
    positive: bool = True,
    border: Border = "symmetric",
    diagonals: Literal["both", "anti"] = "both",
) -> np.ndarray:
    """``image`` minus the largest of its vertical, horizontal and two diagonal line medians.

    Args:
        image: [H, W] counts, any real dtype; kept as they are, never rescaled.
        size: samples in each line, odd; the pixel itself is the middle one. A target wider than (size - 1) / 2 px
            along all lines survives in a median and is subtracted from itself.
        positive: cut the map at 0. The filter is signed: darker-than-the-lines pixels come out negative.
        border: "symmetric" mirrors with the edge pixel repeated, "replicate" repeats the edge pixel.
        diagonals: "anti" leaves the main diagonal out, as ISTD-python does by a slip; its settings are ``size=15``,
            ``border="replicate"``.

    Returns:
        [H, W] float32 counts.
    """
    frame = as_frame(image)
    h = frame.shape[0]
    out = np.empty_like(frame)
    steps = LINES if diagonals == "both" else [step for step in LINES if step != (1, 1)]
    for top in range(0, h, _STRIP):
        bottom = min(top + _STRIP, h)
        padded = with_border(frame, size // 2, border, top, bottom)
        background = np.full((bottom - top, frame.shape[1]), -np.inf, np.float32)
        for step in steps:
            np.maximum(background, _median(lines(padded, size, step)), out=background)
        np.subtract(frame[top:bottom], background, out=out[top:bottom])
    return np.maximum(out, 0, out=out) if positive else out


def _median(arrays: list[np.ndarray]) -> np.ndarray:
    """Element-wise median of an odd number of arrays: bubble passes until the middle one is in its place."""
    lanes = list(arrays)
    for last in range(len(lanes) - 1, len(lanes) // 2 - 1, -1):
        for k in range(last):
            lanes[k], lanes[k + 1] = np.minimum(lanes[k], lanes[k + 1]), np.maximum(lanes[k], lanes[k + 1])
    return lanes[len(lanes) // 2]
