"""Precision over recall of ranked detections, and the areas under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Mode = Literal["area", "11points", "101points"]

GRIDS = {"11points": np.arange(0, 1.001, 0.1), "101points": np.linspace(0.0, 1.0, 101)}
"""Recall levels. VOC2007's are those of ``numpy.arange``: 0.3, 0.6 and 0.7 lie a rounding error above the decimal
number, so a recall of exactly 3/10 does not reach 0.3."""


@dataclass(frozen=True)
class BoxCurve:
    """Precision over recall, a point a detection, best score first: float64 [N] each; ``truths`` are to be found."""

    scores: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    truths: int


@dataclass(frozen=True)
class Ranking:
    """The detections of a class over all images, by descending score.

    Attributes:
        flags: int8 [N], 1 hit, -1 false alarm, 0 not counted.
        images: [N], number of the image.
        truths: [I], boxes to be found in each image.
    """

    flags: np.ndarray
    images: np.ndarray
    truths: np.ndarray

    @property
    def hits(self) -> int:
        """Number of hits."""
        return int((self.flags > 0).sum())

    @property
    def false(self) -> int:
        """Number of false alarms."""
        return int((self.flags < 0).sum())

    def curve(self, scores: np.ndarray) -> BoxCurve:
        """The curve; ``scores`` [N] as sorted."""
        hit, false = np.cumsum(self.flags > 0), np.cumsum(self.flags < 0)
        total = int(self.truths.sum())
        return BoxCurve(scores, hit / max(total, 1), hit / np.maximum(hit + false, 1), total)

    def average_precision(self, mode: Mode) -> float:
        """The area under the curve; NaN without truths."""
        return float(self.resampled(mode, np.ones((1, len(self.truths))))[0])

    def resampled(self, mode: Mode, weights: np.ndarray) -> np.ndarray:
        """The area for every row of image weights [R, I] (how often an image counts): [R], NaN without truths.

        ``area``: recall gained times the best precision from there on (VOC2010, ``map12``). Else the mean over the
        levels of `GRIDS` of the best precision at that recall or more, 0 where it is not reached.
        """
        out = np.zeros(len(weights))
        step = max(1, 2_000_000 // max(1, self.hits))
        for k in range(0, len(weights), step):
            out[k : k + step] = self._areas(mode, weights[k : k + step])
        return out

    def _areas(self, mode: Mode, weights: np.ndarray) -> np.ndarray:
        total = weights @ self.truths.astype(np.float64)
        hit, false = self._counts(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = hit / total[:, None]
            precision = hit / np.maximum(hit + false, np.finfo(np.float32).eps)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        if mode == "area":
            gained = np.diff(recall, axis=1, prepend=0)
            areas = (gained * best).sum(axis=1)
        else:
            best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
            at = np.stack([np.searchsorted(r, GRIDS[mode]) for r in recall]) if len(recall) else np.zeros((0, 1), int)
            areas = np.take_along_axis(best, at, axis=1).mean(axis=1)
        return np.where(total > 0, areas, np.nan)

    def _counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted hits and false alarms up to each hit, [R, hits]: precision is best at hits, so no other counts."""
        at = np.flatnonzero(self.flags > 0)
        hit = np.cumsum(weights[:, self.images[at]], axis=1)
        wrong = np.flatnonzero(self.flags < 0)
        before = np.searchsorted(at, wrong)  # hits in front of each false alarm
        if len(weights) == 1:
            added = np.bincount(before, weights[0, self.images[wrong]], len(at) + 1)[None]
        else:
            from scipy.sparse import csr_array

            cells = csr_array(
                (np.ones(len(wrong)), (before, self.images[wrong])), shape=(len(at) + 1, weights.shape[1])
            )
            added = np.asarray((cells @ weights.T).T)
        return hit, np.cumsum(added[:, : len(at)], axis=1)
