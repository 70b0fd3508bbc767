"""Max-mean: what is brighter than the largest of four line means through it.

S. D. Deshpande, M. H. Er, R. Venkateswarlu, P. Chan, "Max-mean and max-median filters for detection of small
targets", Proc. SPIE 3809, 1999.
"""

from __future__ import annotations

import numpy as np

from motes.classical.windows import LINES, Border, as_frame, largest, lines, strips, with_border


def max_mean(image: np.ndarray, size: int = 5, positive: bool = True, border: Border = "symmetric") -> np.ndarray:
    """``image`` minus the largest of its vertical, horizontal and two diagonal line means.

    ISTD-Benchmark's MAXMEAN is not this filter but the max-median; rows of tables made with it belong to that.

    Args:
        image: [H, W] counts, any real dtype; kept as they are, never rescaled.
        size: samples in each line, odd; the pixel itself is the middle one.
        positive: cut the map at 0. The filter is signed: darker-than-the-lines pixels come out negative.
        border: "symmetric" mirrors with the edge pixel repeated, "replicate" repeats the edge pixel.

    Returns:
        [H, W] float32 counts.
    """
    frame = as_frame(image)
    out = np.empty_like(frame)
    for top, bottom in strips(frame.shape):
        padded = with_border(frame, size // 2, border, top, bottom)
        background = largest([_sum(lines(padded, size, step)) for step in LINES])
        background /= np.float32(size)
        np.subtract(frame[top:bottom], background, out=out[top:bottom])
    return np.maximum(out, 0, out=out) if positive else out


def _sum(arrays: list[np.ndarray]) -> np.ndarray:
    total = arrays[0] + arrays[1]
    for array in arrays[2:]:
        total += array
    return total
