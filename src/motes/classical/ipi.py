"""IPI: the patch image of a frame is a low-rank background plus sparse targets.

C. Gao, D. Meng, Y. Yang, Y. Wang, X. Zhou, A. G. Hauptmann, "Infrared patch-image model for small target detection in a
single image", IEEE Transactions on Image Processing 22(12), 2013.
"""

from __future__ import annotations

import numpy as np

from motes.classical.patches import check, in_blocks, patch_grid
from motes.classical.shrinkage import shrink_spectrum, singular_values, soft

_TAU = 2.0  # Lipschitz constant of the smooth term of "apg"
_MOST = 1000  # iterations
_PATIENCE = 10  # iterations of the same rank after which "apg" counts the background as found
_STILL = 20  # entries by which the targets may change meanwhile


def ipi(
    image: np.ndarray,
    patch: int = 50,
    step: int = 10,
    solver: str = "apg",
    combine: str = "median",
    border: str = "inside",
    positive: bool = True,
    block: int = 640,
) -> np.ndarray:
    """The sparse part of the patch image, put together again.

    Args:
        image: [H, W] counts, any real dtype. A gain or a constant on them changes nothing in "apg".
        patch: side of the patches, px.
        step: px between patches.
        solver: ``apg``: the authors' accelerated proximal gradient. ``alm``: the inexact augmented Lagrangian of
            ISTD-python, whose settings are patch 30, step 10.
        combine: what counts where patches overlap: ``median`` (the paper), ``mean``, or ``shifted``, the mean with an
            off-by-one that ISTD-python takes; see `PatchGrid.paste`.
        border: ``inside``: patches end where the next one would cross the border, as in both codes, so up to step - 1
            px at the bottom and right are never searched: 0. ``flush``: one more patch ends at the border.
        positive: cut the map at 0. The sparse part is signed: dark targets come out negative.
        block: larger frames are solved in blocks of at most this side, px.

    Returns:
        [H, W] float32. "apg": in units of the range of the frame's counts. "alm": counts, never negative.

    Raises:
        CardError: patch, step and block do not fit each other.
    """
    check("ipi", patch, step, block)
    frame = np.asarray(image, dtype=np.float64)

    def solve_block(part: np.ndarray) -> np.ndarray:
        scale = None if part.shape == frame.shape else (float(frame.min()), float(np.ptp(frame)))
        return solve(part, patch, step, solver, combine, border, scale)[0]

    found = in_blocks(solve_block, frame, block, patch)
    return np.maximum(found, 0, out=found) if positive else found


def solve(
    frame: np.ndarray,
    patch: int,
    step: int,
    solver: str,
    combine: str,
    border: str = "inside",
    scale: tuple[float, float] | None = None,
) -> tuple[np.ndarray, dict]:
    """The map of one [H, W] float64 frame, and ``iterations`` and the ``rank`` of the background.

    ``scale``: the counts that "apg" takes as 0, and their range; None: those of the patches.
    """
    grid = patch_grid(frame.shape, patch, step, border=border, by_columns=False)
    # [patches, patch^2]: the transpose of the paper's patch image, which has the same singular values
    data = grid.cut(frame).reshape(len(grid), -1)
    low, span = scale or (float(data.min()), float(np.ptp(data)))
    if np.ptp(data) == 0:
        return np.zeros(frame.shape), {"iterations": 0, "rank": 0}
    weight = 1 / np.sqrt(max(frame.shape))  # the authors' code; the paper has the size of the patch image
    if solver == "alm":
        targets, iterations, rank = _alm(data, weight)
    else:
        targets, iterations, rank = _apg((data - low) / span, weight)
    found = grid.paste(targets.reshape(-1, grid.patch, grid.patch), combine)
    return found, {"iterations": iterations, "rank": rank}


def _apg(data: np.ndarray, weight: float) -> tuple[np.ndarray, int, int]:
    """min ||A||_* + weight ||E||_1 with A + E = data by accelerated proximal gradient: (E, iterations, rank of A)."""
    spectrum = singular_values(data)
    if len(spectrum) < 2 or spectrum[1] <= 1e-7 * spectrum[0]:  # patches that are multiples of one: all background
        return np.zeros_like(data), 0, 1
    mu, mu_least = spectrum[1], 0.005 * spectrum[min(3, len(spectrum) - 1)]
    low_rank = sparse = low_rank_before = sparse_before = np.zeros_like(data)
    t = t_before = 1.0
    rank_before = reference = same = iterations = 0
    while iterations < _MOST:
        iterations += 1
        momentum = (t_before - 1) / t
        at_low = low_rank + momentum * (low_rank - low_rank_before)
        at_sparse = sparse + momentum * (sparse - sparse_before)
        gradient = (at_low + at_sparse - data) / _TAU
        low_rank_before, sparse_before = low_rank, sparse
        low_rank, rank = shrink_spectrum(at_low - gradient, mu / _TAU)
        sparse = soft(at_sparse - gradient, weight * mu / _TAU)
        card = int(np.count_nonzero(sparse))

        # Their two subgradients tau (Y - X) + (A + E - Y_A - Y_E) are each other's negative for tau = 2.
        subgradient = np.linalg.norm((at_low - low_rank) - (at_sparse - sparse)) * np.sqrt(2)
        size = np.hypot(np.linalg.norm(low_rank), np.linalg.norm(sparse))
        converged = subgradient <= 1e-6 * _TAU * max(1.0, size)
        mu = max(0.9 * mu, mu_least)
        t_before, t = t, (1 + np.sqrt(1 + 4 * t * t)) / 2
        same = same + 1 if rank == rank_before and abs(card - reference) < _STILL else 0
        if rank != rank_before:
            rank_before, reference = rank, card
        if converged or same > _PATIENCE or rank > 0.3 * min(data.shape):
            break
    return sparse, iterations, rank


def _alm(data: np.ndarray, weight: float) -> tuple[np.ndarray, int, int]:
    """The same with E >= 0 by an inexact augmented Lagrangian: (E, iterations, rank of A)."""
    rho, norm = 1 / (5 * data.std()), np.linalg.norm(data)
    sparse, multiplier = np.zeros_like(data), np.zeros_like(data)
    card = rank = iterations = 0
    while iterations < _MOST:
        iterations += 1
        shifted = data + multiplier / rho
        low_rank, rank = shrink_spectrum(shifted - sparse, 1 / rho)
        sparse = np.maximum(shifted - low_rank - weight / rho, 0)
        residual = data - low_rank - sparse
        multiplier += rho * residual
        rho *= 1.5
        card_before, card = card, int(np.count_nonzero(sparse))
        if card == card_before or np.linalg.norm(residual) < 1e-7 * norm:
            break
    return sparse, iterations, rank
