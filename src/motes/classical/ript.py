"""RIPT: the stack of patches as a tensor of low rank in every mode, plus sparse targets weighed against edges.

Y. Dai, Y. Wu, "Reweighted infrared patch-tensor model with both nonlocal and local priors for single-frame small target
detection", IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing 10(8), 2017.
"""

from __future__ import annotations

import numpy as np

from motes.classical.patches import check, in_blocks, patch_grid
from motes.classical.shrinkage import shrink_spectrum
from motes.classical.structure import min_max, structure_eigenvalues

_FLOOR = 0.01  # grey levels, in the weights of the sparse part
_MOST = 1000  # iterations; the rule on the number of targets ends after 3 to 7


def ript(
    image: np.ndarray,
    patch: int = 30,
    step: int = 10,
    combine: str = "mean",
    weight: float = 0.7,
    form: str = "authors",
    block: int = 1024,
) -> np.ndarray:
    """The sparse part of the patch tensor, put together again.

    Args:
        image: [H, W] grey levels, 0 to 255: the weights hold a constant in grey levels, so deeper counts must be
            scaled first.
        patch: side of the patches, px.
        step: px between patches.
        combine: what counts where patches overlap: ``mean``; ``last``, what the authors' published code does;
            ``median``. See `PatchGrid.paste`.
        weight: of the sparse part; it is divided by sqrt(min(patch, number of patches)).
        form: ``authors``; or ``tensoristd``, the port in TensorISTD: weight 1 / (number of patches) instead, no patch
            flush with the border (an uncovered rim is 0), and another first stop. With combine="median".
        block: larger frames are solved in blocks of at most this side, px.

    Returns:
        [H, W] float32 grey levels, >= 0.

    Raises:
        CardError: patch, step and block do not fit each other.
    """
    check("ript", patch, step, block)
    frame = np.asarray(image, dtype=np.float64)
    return in_blocks(lambda part: solve(part, patch, step, combine, weight, form)[0], frame, block, patch)


def solve(frame: np.ndarray, patch: int, step: int, combine: str, weight: float, form: str) -> tuple[np.ndarray, dict]:
    """The map of one [H, W] float64 frame, and ``iterations``."""
    authors = form == "authors"
    grid = patch_grid(frame.shape, patch, step, border="flush" if authors else "before", by_columns=authors)
    data = grid.cut(frame)
    if np.ptp(data) == 0:
        return np.zeros(frame.shape), {"iterations": 0}
    edges = grid.cut(edge_weight(frame))
    sparsity = weight / np.sqrt(min(grid.patch, len(grid))) if authors else 1 / len(grid)
    targets, iterations = _alm(data, edges, sparsity, data.size if authors else 0)
    return grid.paste(targets, combine), {"iterations": iterations}


def edge_weight(frame: np.ndarray) -> np.ndarray:
    """exp of the normalised difference of the structure tensor's eigenvalues: 1 on flat ground, e on the sharpest edge.

    [H, W] float64 -> [H, W] (equations 13 and 14 of the paper, h = 1). A frame of equal differences gives 1.
    """
    large, small = structure_eigenvalues(frame, inner=1.2, outer=2.0)
    return np.asarray(np.exp(min_max(large - small)))


def _alm(data: np.ndarray, edges: np.ndarray, sparsity: float, targets: int) -> tuple[np.ndarray, int]:
    """data [n, p, p] = low rank in three modes + sparse: (sparse, iterations). ``mu`` is the INVERSE penalty."""
    mu = 5 * data.std(ddof=1)
    norm = np.linalg.norm(data)
    sparse = np.zeros_like(data)
    multipliers = [np.zeros_like(data) for _ in range(3)]
    weights, iterations = edges, 0
    while iterations < _MOST:
        iterations += 1
        background = np.zeros_like(data)
        free = data.copy()
        for mode, y in enumerate(multipliers):
            low_rank = _shrink_mode(data + mu * y - sparse, mode, mu)
            y -= low_rank / mu
            free += mu / 3 * y
            background += low_rank / 3
        sparse = np.maximum(free - weights * (mu * sparsity / 3), 0)
        weights = edges / (sparse + _FLOOR)
        rest = data - sparse
        for y in multipliers:
            y += rest / mu
        mu /= 1.5
        before, targets = targets, int(np.count_nonzero(sparse))
        if targets == before or np.linalg.norm(rest - background) < 1e-7 * norm:
            break
    return sparse, iterations


def _shrink_mode(tensor: np.ndarray, mode: int, threshold: float) -> np.ndarray:
    """[n, p, p] with the singular values of its unfolding along ``mode`` lowered by ``threshold``."""
    unfolded = np.moveaxis(tensor, mode, 0)
    shrunk, _ = shrink_spectrum(unfolded.reshape(len(unfolded), -1), threshold)
    return np.moveaxis(shrunk.reshape(unfolded.shape), 0, mode)
