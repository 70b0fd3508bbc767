"""Thresholding of singular values and entries: the two proximal steps of every low-rank plus sparse method.

Singular values come from the eigenvalues of the smaller Gram matrix, ten times faster for the long thin matrices here.
That squares the condition: a singular value s is known to about 1e-16 s_max^2 / s. Thresholds below `_FINE` of the
largest one therefore take a true decomposition.
"""

from __future__ import annotations

import numpy as np

_FINE = 1e-6  # the Gram matrix then knows the smallest singular value that survives to 1e-4 of itself


def soft(values: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Entries moved towards 0 by ``threshold``: the proximal step of the l1 norm."""
    return values - np.clip(values, -threshold, threshold)


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """All singular values of an [m, n] matrix, largest first; those below 1e-8 of the largest are noise."""
    squares = np.linalg.eigvalsh(_gram(matrix))[::-1]
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def shrink_spectrum(matrix: np.ndarray, threshold: float) -> tuple[np.ndarray, int]:
    """Singular values lowered by ``threshold`` and cut at 0: the proximal step of the nuclear norm.

    Returns:
        The [m, n] matrix, and how many singular values lie above the threshold.
    """
    from scipy.linalg import eigh

    gram = _gram(matrix)
    if threshold <= _FINE * np.sqrt(np.trace(gram)):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        return (u * np.maximum(s - threshold, 0)) @ vt, int((s > threshold).sum())
    squares, vectors = eigh(gram, subset_by_value=(threshold**2, np.inf), driver="evr", overwrite_a=True)
    return weigh_spectrum(matrix, vectors, 1 - threshold / np.sqrt(squares)), len(squares)


def leading_spectrum(matrix: np.ndarray, least: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values: ``least`` of them or more, and all above ``floor``.

    Returns:
        Values [r], largest first, and the vectors [min(m, n), r] that `weigh_spectrum` takes.
    """
    from scipy.linalg import eigh

    gram = _gram(matrix)
    n = len(gram)
    count = min(n, least + 8)
    squares, vectors = eigh(gram, subset_by_index=(n - count, n - 1), driver="evr")
    if count < n and squares[0] > floor**2:  # there are more
        squares, vectors = eigh(gram, subset_by_value=(floor**2, np.inf), driver="evr")
    return np.sqrt(np.maximum(squares[::-1], 0)), vectors[:, ::-1]


def weigh_spectrum(matrix: np.ndarray, vectors: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The part of ``matrix`` along these singular vectors, each times its factor; without the rest.

    Args:
        matrix: [m, n].
        vectors: [min(m, n), r] singular vectors of its shorter side.
        factors: [r].
    """
    m, n = matrix.shape
    scaled = vectors * factors
    if 2 * vectors.shape[1] >= len(vectors):  # many vectors: their projector first
        projector = scaled @ vectors.T
        return projector @ matrix if m <= n else matrix @ projector
    return scaled @ (vectors.T @ matrix) if m <= n else (matrix @ vectors) @ scaled.T


def shrink_tail(slices: np.ndarray, keep: int, threshold: float) -> np.ndarray:
    """Per matrix of [b, p, p], the ``keep`` largest singular values stay and the others are shrunk by ``threshold``.

    The proximal step of the partial sum of singular values; slices may be complex.
    """
    adjoint = slices.conj().swapaxes(-1, -2)
    squares, vectors = np.linalg.eigh(slices @ adjoint)
    if threshold <= _FINE * np.sqrt(max(squares.max(), 0)):
        u, s, vt = np.linalg.svd(slices, full_matrices=False)
        s[:, keep:] = np.maximum(s[:, keep:] - threshold, 0)
        return np.asarray((u * s[:, None]) @ vt)
    values = np.sqrt(np.maximum(squares, 0))  # ascending
    factors = 1 - threshold / np.maximum(values, threshold)
    factors[:, values.shape[1] - keep :] = 1
    return np.asarray((vectors * factors[:, None]) @ (vectors.conj().swapaxes(-1, -2) @ slices))


def _gram(matrix: np.ndarray) -> np.ndarray:
    m, n = matrix.shape
    return np.asarray(matrix @ matrix.T if m <= n else matrix.T @ matrix)
