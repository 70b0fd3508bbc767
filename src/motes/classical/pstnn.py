"""PSTNN: a patch tensor whose slices keep their largest singular values, plus sparse targets at corners.

L. Zhang, Z. Peng, "Infrared small target detection based on partial sum of the tensor nuclear norm", Remote Sensing
11(4), 382, 2019.
"""

from __future__ import annotations

import numpy as np

from motes.classical.patches import check, in_blocks, patch_grid
from motes.classical.shrinkage import shrink_tail, singular_values
from motes.classical.structure import min_max, structure_eigenvalues

_FLOOR = 0.01  # grey levels, in the weights of the sparse part
_MOST = 500  # iterations; the rule on the number of targets ends after 2 to 4 in ordinary frames


def pstnn(
    image: np.ndarray,
    patch: int = 40,
    step: int = 40,
    weight: float = 0.7,
    combine: str = "last",
    slices: str = "all",
    block: int = 2048,
) -> np.ndarray:
    """The sparse part of the patch tensor, put together again.

    The number of singular values that are kept comes from a reshaped tensor whose rows mix patches, as in the authors'
    code. Where the corner measure is undefined (flat and saturated areas) no target is found; nor is one in a sky so
    even that patches differ by the target alone, for then the target is what is kept.

    Args:
        image: [H, W] grey levels, 0 to 255: the method's constants are grey levels, so deeper counts must be scaled
            first (on frames in [0, 1] nearly everything would be background).
        patch: side of the patches, px.
        step: px between patches.
        weight: of the sparse part; it is divided by sqrt(patch * number of patches). The paper has 0.6.
        combine: what counts where patches overlap: ``last`` (the authors' code), ``mean``, ``median``; see
            `PatchGrid.paste`.
        slices: ``all``; or ``istd``, the defect of ISTD-python, which loses the middle slices of the transformed
            tensor for 5, 9, 13, ... patches.
        block: larger frames are solved in blocks of at most this side, px.

    Returns:
        [H, W] float32 grey levels, >= 0.

    Raises:
        CardError: patch, step and block do not fit each other.
    """
    check("pstnn", patch, step, block)
    frame = np.asarray(image, dtype=np.float64)
    return in_blocks(lambda part: solve(part, patch, step, weight, combine, slices)[0], frame, block, patch)


def solve(
    frame: np.ndarray, patch: int, step: int, weight: float, combine: str, slices: str
) -> tuple[np.ndarray, dict]:
    """The map of one [H, W] float64 frame, and ``iterations``, ``kept`` singular values, ``patches``."""
    grid = patch_grid(frame.shape, patch, step)
    data = grid.cut(frame)
    if np.ptp(data) == 0:
        return np.zeros(frame.shape), {"iterations": 0, "kept": 0, "patches": len(grid)}
    corners = grid.cut(corner_weight(frame))
    kept = _rank(data)
    sparsity = weight / np.sqrt(grid.patch * len(grid))
    lost = slices == "istd" and len(grid) % 4 == 1
    targets, iterations = _admm(data, corners, sparsity, kept, lost)
    return grid.paste(targets, combine), {"iterations": iterations, "kept": kept, "patches": len(grid)}


def corner_weight(frame: np.ndarray) -> np.ndarray:
    """How much a pixel is a corner, 0 to 1: normalised l1^2 l2 / (l1 + l2) of the structure tensor's eigenvalues.

    [H, W] float64 -> [H, W]; 0 where the frame is constant around a pixel, which makes the quotient 0/0.
    """
    large, small = structure_eigenvalues(frame, inner=2.0, outer=9.0)
    total = large + small
    corner = np.divide(large * small, total, out=np.full_like(total, np.nan), where=total != 0)
    return min_max(corner * np.maximum(large, small))


def _rank(data: np.ndarray) -> int:
    """Leading singular values before the first below a tenth of the largest, at least 1.

    The published code takes the tensor's values in column-major order into as many rows as there are patches, which is
    not an unfolding. Where no value is that small it fails; all are counted here, below the side of a patch.
    """
    n, p = data.shape[:2]
    in_order = data.transpose(0, 2, 1).reshape(-1)
    spectrum = singular_values(in_order.reshape(-1, n))
    small = np.flatnonzero(spectrum < 0.1 * spectrum[0])
    return max(1, int(small[0])) if small.size else max(1, min(len(spectrum), p - 1))


def _admm(data: np.ndarray, corners: np.ndarray, sparsity: float, kept: int, lost: bool) -> tuple[np.ndarray, int]:
    """data [n, p, p] = low tubal rank + sparse by alternating directions: (sparse, iterations)."""
    mu, norm = 0.002, np.linalg.norm(data)
    sparse, multiplier = np.zeros_like(data), np.zeros_like(data)
    weights: np.ndarray | float = 1.0
    targets = iterations = 0
    while iterations < _MOST:
        iterations += 1
        rest = data - multiplier / mu
        transformed = np.fft.rfft(rest - sparse, axis=0)
        transformed = shrink_tail(transformed, kept, 1 / mu)
        if lost:
            transformed[-1] = 0
        background = np.fft.irfft(transformed, n=len(data), axis=0)
        sparse = np.maximum(rest - background - weights * (sparsity / mu), 0)
        with np.errstate(divide="ignore"):
            weights = kept / (sparse + _FLOOR) / corners  # no corner: infinite, never a target again
        residual = background + sparse - data
        before, targets = targets, int(np.count_nonzero(sparse))
        if np.linalg.norm(residual) < 1e-3 * norm or 0 < targets == before:
            break
        multiplier += mu * residual
        mu = min(1.05 * mu, 1e10)
    return sparse, iterations
