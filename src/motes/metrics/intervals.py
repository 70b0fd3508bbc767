"""How far a number can be trusted: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NORMAL = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

Interval = tuple[float, float]


def wilson(successes: float, trials: float) -> Interval | None:
    """Wilson's interval of a proportion; None without trials. 277 of 297 gives (0.898, 0.956)."""
    if trials <= 0:
        return None
    p, z2 = successes / trials, NORMAL**2
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    # The ends at 0 and n are exact; rounding must not put them at 1e-17 or 0.9999999.
    return (0.0 if successes <= 0 else centre - half, 1.0 if successes >= trials else centre + half)


def zero_rate(exposure: float) -> Interval | None:
    """Interval of a Poisson rate after no event in ``exposure``: 0 to 3.689 / exposure."""
    return (0.0, -math.log(0.025) / exposure) if exposure > 0 else None


def poisson_bounds(events: np.ndarray, exposure: float, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The rates that ``events`` in ``exposure`` speak against: (lower, upper), each alone with this ``confidence``.

    Exact (Garwood, Biometrika 28, 1936). After no event the upper bound is 3.0 / exposure at 95 %: the rule of three.
    Together the two are an interval of 2 * confidence - 1.
    """
    from scipy.special import gammaincinv

    counts = np.asarray(events, np.float64)
    # Of no event the lower bound is 0, where the quantile is not defined.
    lower = np.where(counts > 0, gammaincinv(np.maximum(counts, 1), 1 - confidence), 0.0)
    return lower / exposure, gammaincinv(counts + 1, confidence) / exposure


def resampling_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image occurs in each bootstrap resample: float64 [resamples, images]."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(images, size=(resamples, images)) + np.arange(resamples)[:, None] * images
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images).astype(np.float64)


def bootstrap(
    weights: np.ndarray, columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> list[Interval | None]:
    """Percentile intervals of statistics of summed columns.

    Args:
        weights: [resamples, images].
        columns: per-image counts [images, K].
        statistic: sums [resamples, K] -> values [resamples] or [S, resamples]; NaN where undefined.

    Returns:
        One interval a statistic; None where no resample defines it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = np.atleast_2d(statistic(weights @ columns.astype(np.float64)))
    intervals: list[Interval | None] = []
    for values in rows:
        values = values[np.isfinite(values)]
        intervals.append(
            (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))) if len(values) else None
        )
    return intervals
