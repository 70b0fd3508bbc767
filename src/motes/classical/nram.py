"""NRAM: IPI with a rank that counts large singular values less, and a third part for edges.

L. Zhang, L. Peng, T. Zhang, S. Cao, Z. Peng, "Infrared small target detection via non-convex rank approximation
minimization joint l2,1 norm", Remote Sensing 10(11), 1821, 2018.
"""

from __future__ import annotations

import numpy as np

from motes.classical.patches import check, in_blocks, patch_grid
from motes.classical.shrinkage import leading_spectrum, weigh_spectrum

_GAMMA = 0.002  # of the rank surrogate (1 + gamma) s / (gamma + s)
_FLOOR = 0.04  # in the sparse weights, where the paper has a tiny number
_MOST = 1000  # iterations


def nram(image: np.ndarray, patch: int = 50, step: int = 10, combine: str = "last", block: int = 640) -> np.ndarray:
    """The sparse part of the patch image, beside a low-rank part and one of whole patches (edges, l2,1 norm).

    As in the authors' code, where it departs from the paper: the sparse weights come from the same iteration and have
    0.04 in the denominator, and negative entries, whose threshold lacks its division by mu, hardly ever appear.

    Args:
        image: [H, W] counts, any real dtype. A gain or a constant on them changes nothing.
        patch: side of the patches, px.
        step: px between patches.
        combine: what counts where patches overlap: ``last`` (the authors' code), ``mean``, ``median``; see
            `PatchGrid.paste`.
        block: larger frames are solved in blocks of at most this side, px.

    Returns:
        [H, W] float32, in units of the range of the frame's counts.

    Raises:
        CardError: patch, step and block do not fit each other.
    """
    check("nram", patch, step, block)
    frame = np.asarray(image, dtype=np.float64)
    scale = float(frame.min()), float(np.ptp(frame))
    return in_blocks(lambda part: solve(part, patch, step, combine, scale)[0], frame, block, patch)


def solve(
    frame: np.ndarray, patch: int, step: int, combine: str, scale: tuple[float, float] | None = None
) -> tuple[np.ndarray, dict]:
    """The map of one [H, W] float64 frame, and ``iterations``.

    ``scale``: the counts that are taken as 0, and their range; None: those of the frame.
    """
    grid = patch_grid(frame.shape, patch, step)
    low, span = scale or (float(frame.min()), float(np.ptp(frame)))
    if np.ptp(frame) == 0:
        return np.zeros(frame.shape), {"iterations": 0}
    # [patches, patch^2]: the transpose of the paper's patch image
    data = (grid.cut(frame).reshape(len(grid), -1) - low) / span
    targets, iterations = _alm(data)
    return grid.paste(targets.reshape(-1, grid.patch, grid.patch), combine), {"iterations": iterations}


def _alm(data: np.ndarray) -> tuple[np.ndarray, int]:
    """data = low rank + sparse + edges by alternating directions: (sparse, iterations). One row is one patch."""
    short, long = np.sqrt(min(data.shape)), np.sqrt(max(data.shape))
    sparse_weight, edge_weight, scale, mu = 1 / short, 3 / short, short / 2.5, 3 * long
    norm = np.linalg.norm(data)
    sparse, edges, multiplier = np.zeros_like(data), np.zeros_like(data), np.zeros_like(data)
    spectrum = np.zeros(min(data.shape))
    iterations = 0
    while iterations < _MOST:
        iterations += 1
        rest = data - multiplier / mu
        low_rank, spectrum = _shrink_rank(rest - sparse - edges, spectrum, mu)

        free = rest - low_rank - edges
        threshold = scale * sparse_weight / (np.abs(free) + _FLOOR)
        sparse = np.maximum(free - threshold / mu, 0) + np.minimum(free + threshold, 0)

        edges = rest - low_rank - sparse
        length = np.linalg.norm(edges, axis=1, keepdims=True)
        edges *= np.maximum(1 - (edge_weight / mu) / np.where(length > 0, length, 1), 0)

        residual = low_rank + edges + sparse - data
        multiplier += mu * residual
        mu *= 1.1
        if np.linalg.norm(residual) < 1e-7 * norm:
            break
    return sparse, iterations


def _shrink_rank(matrix: np.ndarray, before: np.ndarray, mu: float) -> tuple[np.ndarray, np.ndarray]:
    """The proximal step of the rank surrogate, by fixed-point iteration from the spectrum ``before``.

    A singular value that was 0 survives only above (1 + gamma) / (gamma mu), and the others are the leading ones: no
    other is needed.
    """
    values, vectors = leading_spectrum(matrix, int(np.count_nonzero(before)), (1 + _GAMMA) / (_GAMMA * mu))
    spectrum = before[: len(values)]
    for _ in range(100):
        shrunk = np.maximum(values - (1 + _GAMMA) * _GAMMA / (_GAMMA + spectrum) ** 2 / mu, 0)
        change, spectrum = float(((shrunk - spectrum) ** 2).sum()), shrunk
        if change < 1e-6:
            break
    kept = spectrum > 0
    low_rank = weigh_spectrum(matrix, vectors[:, kept], spectrum[kept] / values[kept])
    return low_rank, np.concatenate([spectrum, np.zeros(len(before) - len(spectrum))])
