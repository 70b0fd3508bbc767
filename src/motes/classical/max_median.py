"""Max-median: what is brighter than the largest of four line medians through it.

S. D. Deshpande, M. H. Er, R. Venkateswarlu, P. Chan, "Max-mean and max-median filters for detection of small
targets", Proc. SPIE 3809, 1999.
"""

from __future__ import annotations

import numpy as np

_STRIP = 128  # rows filtered at once: the line windows of a strip stay in the cache, and memory stays bounded


def max_median(image: np.ndarray, size: int = 5, positive: bool = True) -> np.ndarray:
    """``image`` minus the largest of its vertical, horizontal and two diagonal line medians.

    Args:
        image: [H, W] counts, any real dtype; kept as they are, never rescaled.
        size: samples in each line, odd; the pixel itself is the middle one. A target wider than (size - 1) / 2 px
            along all lines survives in a median and is subtracted from itself.
        positive: cut the map at 0. The filter is signed: darker-than-the-lines pixels come out negative.

    Returns:
        [H, W] float32 counts. The border is mirrored with the edge pixel repeated ("symmetric").
    """
    frame = np.asarray(image, dtype=np.float32)
    h, w = frame.shape
    r = size // 2
    padded = np.pad(frame, r, mode="symmetric")
    out = np.empty_like(frame)
    steps = ((1, 0), (0, 1), (1, 1), (1, -1))
    for top in range(0, h, _STRIP):
        rows = min(_STRIP, h - top)
        background = np.full((rows, w), -np.inf, np.float32)
        for dy, dx in steps:
            line = [
                padded[top + r + k * dy : top + r + k * dy + rows, r + k * dx : r + k * dx + w]
                for k in range(-r, r + 1)
            ]
            median = _median(line)
            np.maximum(background, median, out=background)
        np.subtract(frame[top : top + rows], background, out=out[top : top + rows])
    return np.maximum(out, 0, out=out) if positive else out


def _median(arrays: list[np.ndarray]) -> np.ndarray:
    """Element-wise median of an odd number of arrays: bubble passes until the middle one is in its place."""
    lanes = list(arrays)
    for last in range(len(lanes) - 1, len(lanes) // 2 - 1, -1):
        for k in range(last):
            lanes[k], lanes[k + 1] = np.minimum(lanes[k], lanes[k + 1]), np.maximum(lanes[k], lanes[k + 1])
    return lanes[len(lanes) // 2]
