"""Histograms of probability over pixels, and the curves and areas that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SHIFT = 15  # of a float32's bits; 8 bits of mantissa are left
_HALF_CELL = int(np.float32(0.5).view(np.int32)) >> _SHIFT


def _level_table() -> tuple[np.ndarray, np.ndarray]:
    """Thresholds, and the level of every probability cut to 16 bits.

    Thresholds are 0 and steps of 1/64 in log-odds (1/16 below 2e-9), up to the last float32 below 1.
    Up to 0.5 the thresholds are float32 whose low bits are zero, above it one minus such a number. So "how many
    thresholds lie strictly below p" is a look-up on the high bits of p, or of 1 - p (exact above 0.5), and no pixel
    needs a logarithm or a search. 0.5 is a threshold, and all k/255 fall into levels of their own.
    """
    odds = np.r_[np.arange(-87 * 16, -20 * 16) / 16, np.arange(-20 * 64, 1) / 64]
    low = (1 / (1 + np.exp(-odds))).astype(np.float32)
    low = np.unique(((low.view(np.int32) >> _SHIFT) << _SHIFT).view(np.float32))
    upper = low[(low < 0.5) & (low > 2**-24.2)]  # the distances to 1 of the thresholds above 0.5
    low = np.r_[np.float32(0), low]
    cells = (np.arange(_HALF_CELL + 1, dtype=np.int32) << _SHIFT).view(np.float32)
    below = np.searchsorted(low, cells, side="right")  # p in (cell, next cell]
    beyond = len(low) + len(upper) - np.searchsorted(upper, cells, side="right")  # 1 - p in [cell, next cell)
    thresholds = np.r_[low.astype(np.float64), 1 - upper[::-1].astype(np.float64)]
    return thresholds, np.r_[0, below, beyond].astype(np.int32)  # the first entry is p = 0: see _cells


SWEEP = (*(x / 1000 for x in (1, 2, 5)), *(x / 100 for x in (1, 2, *range(5, 100, 5), 98, 99)), 0.995, 0.998, 0.999)
"""Thresholds at which a target ROC is usually drawn."""

LEVEL_THRESHOLDS, _LEVEL_OF = _level_table()
_STARTS = np.flatnonzero(np.diff(_LEVEL_OF, prepend=-1))  # the first of neighbouring cells of one level


def _levels(probability: np.ndarray) -> np.ndarray:
    """Number of ``LEVEL_THRESHOLDS`` strictly below each probability, int32, any shape."""
    return _LEVEL_OF[_cells(probability)].reshape(np.shape(probability))


def _cells(probability: np.ndarray) -> np.ndarray:
    """Where in ``_LEVEL_OF`` the level of each probability stands, int32 [N]."""
    p = np.asarray(probability, np.float32).ravel() + np.float32(0)  # a copy without -0.0
    upper = np.flatnonzero(p > 0.5)
    above_half = ((1 - p[upper]).view(np.int32) >> _SHIFT) + (_HALF_CELL + 2)
    cell = p.view(np.int32)  # in place: a megabyte more is a page fault more every 4 kB
    cell += (1 << _SHIFT) - 1  # strictly below the next cell; p = 0 becomes the first entry
    cell >>= _SHIFT
    cell[upper] = above_half
    return cell


@dataclass(frozen=True)
class PixelCurve:
    """ROC and precision-recall over all pixels; thresholds ascending, rates as the protocol defines them.

    Every array is float64 [T]; ``precision`` is NaN where nothing is predicted.
    """

    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    precision: np.ndarray
    auc: float | None
    ap: float | None


@dataclass(frozen=True)
class TargetCurve:
    """Target ROC: detection probability over false alarms; arrays [T], thresholds ascending.

    ``pd``, ``fa`` and ``iou`` are fractions, ``blobs_per_image`` and ``blobs_per_megapixel`` count false blobs.
    """

    thresholds: np.ndarray
    pd: np.ndarray
    fa: np.ndarray
    blobs_per_image: np.ndarray
    blobs_per_megapixel: np.ndarray
    iou: np.ndarray
    detected: np.ndarray
    targets: int


def count_levels(probability: np.ndarray, label: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Pixels by level, int64 [2, T + 1]: row 0 background, row 1 targets; level = thresholds strictly below p."""
    if thresholds is None:
        cell, count = _cells(probability), len(LEVEL_THRESHOLDS) + 1
        # Cells are counted and then added up by level: there are fewer cells than pixels to look up.
        cells = np.add.reduceat(np.bincount(cell, minlength=len(_LEVEL_OF)), _STARTS)
        total = np.bincount(_LEVEL_OF[_STARTS], cells, count).astype(np.int64)
        on_target = np.bincount(_LEVEL_OF[cell[label.ravel()]], minlength=count)
    else:
        level = np.searchsorted(thresholds.astype(probability.dtype), probability, side="left")
        count = len(thresholds) + 1
        total, on_target = np.bincount(level.ravel(), minlength=count), np.bincount(level[label], minlength=count)
    return np.stack([total - on_target, on_target])


def above(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Background and target pixels above each threshold, [..., T], from levels [..., 2, T + 1]."""
    tail = np.cumsum(levels[..., ::-1], axis=-1)[..., ::-1][..., 1:]
    return tail[..., 0, :], tail[..., 1, :]


def areas(levels: np.ndarray, epsilon: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """AUC and average precision of histograms [..., 2, T + 1]; NaN where undefined.

    AUC is the trapezoidal area: pairs of a target and a background pixel in one level count half. ``closed`` adds the
    corner (1, 1). AP is the sum over levels of precision times the recall gained.
    """
    false, true = above(levels)
    background, target = levels[..., 0, :].sum(-1), levels[..., 1, :].sum(-1)
    if closed:
        false = np.concatenate([background[..., None], false], axis=-1)
        true = np.concatenate([target[..., None], true], axis=-1)
    false, true = (np.concatenate([a, np.zeros_like(a[..., :1])], axis=-1).astype(np.float64) for a in (false, true))
    with np.errstate(divide="ignore", invalid="ignore"):
        fpr, tpr = false / (background[..., None] + epsilon), true / (target[..., None] + epsilon)
        auc = ((fpr[..., :-1] - fpr[..., 1:]) * (tpr[..., :-1] + tpr[..., 1:]) / 2).sum(-1)
        precision = true[..., :-1] / np.maximum(true[..., :-1] + false[..., :-1], 1)
        ap = (precision * (tpr[..., :-1] - tpr[..., 1:])).sum(-1)
    return auc, ap
