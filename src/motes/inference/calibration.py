"""How many blobs are left at every threshold, and the threshold that a wanted false-alarm rate asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from motes.cards import Card
from motes.errors import MotesError
from motes.metrics import Components, components, protocol
from motes.metrics.intervals import Interval, poisson_bounds, wilson
from motes.metrics.matching import hits
from motes.naming import look_up

PER = ("frame", "megapixel")
"""What a false-alarm rate may be counted by."""

APART = 11
"""Side of the square in which only the best peak counts, px: about a target and its blur."""


def _grid() -> tuple[float, ...]:
    """0.01 to 1 - 8e-7 in steps of 1/8 in log-odds, to four digits, and the strictest that a float32 map knows."""
    steps = np.arange(-36, 113) / 8
    low = [float(f"{1 / (1 + np.exp(-s)):.4g}") for s in steps[steps <= 0]]
    high = [1 - float(f"{1 / (1 + np.exp(s)):.4g}") for s in steps[steps > 0]]
    return (0.01, *low, *(float(f"{t:.11g}") for t in high), 0.9999999)


THRESHOLDS = _grid()
"""Thresholds at which blobs are counted, ascending; 0.5 is one of them."""


@dataclass(frozen=True)
class Curve:
    """False alarms over thresholds, counted on frames without targets.

    Attributes:
        thresholds: float64 [T], ascending.
        alarms: int64 [T], blobs in all frames.
        frames: how many.
        pixels: of all frames.
        detected: int64 [T], targets found in the labelled frames; None without such.
        targets: in the labelled frames.
    """

    thresholds: np.ndarray
    alarms: np.ndarray
    frames: int
    pixels: int
    detected: np.ndarray | None = None
    targets: int = 0

    def exposure(self, per: str) -> float:
        """Frames, or megapixels."""
        return float(self.frames) if per == "frame" else self.pixels / 1e6

    def rate(self, per: str) -> np.ndarray:
        """[T] false alarms per frame or per megapixel."""
        return self.alarms / self.exposure(per)

    def bounds(self, per: str) -> tuple[np.ndarray, np.ndarray]:
        """[T], [T]: the true rate is above the first, and below the second, each with 95 % confidence (Poisson)."""
        return poisson_bounds(self.alarms, self.exposure(per))

    def pd(self, k: int) -> tuple[float, Interval] | None:
        """Share of the labelled targets found at the k-th threshold, with Wilson's interval; None without targets."""
        if self.detected is None or not self.targets:
            return None
        found = int(self.detected[k])
        interval = wilson(found, self.targets)
        return (found / self.targets, interval) if interval is not None else None

    def at(self, threshold: float) -> int:
        """Index of the threshold nearest to this one."""
        return int(np.abs(self.thresholds - threshold).argmin())

    def choose(self, rate: float, per: str) -> int | None:
        """Index of the lowest threshold from which on at most ``rate`` false alarms are left; None if there is none.

        From which on: blobs that merge at a low threshold are few, and yet not few alarms.
        """
        worst = np.maximum.accumulate(self.rate(per)[::-1])[::-1]
        good = np.flatnonzero(worst <= rate)
        return int(good[0]) if len(good) else None

    def needed(self, rate: float, per: str) -> float:
        """Frames or megapixels below which not even a count of zero shows (95 %) that the rate is met."""
        return float(poisson_bounds(np.zeros(1), 1.0)[1][0]) / rate


def check_rate(rate: float, per: str) -> None:
    """Raises MotesError for a rate that nothing can meet, or one that is counted by something unknown."""
    look_up("unit of a rate", per, PER, MotesError)
    if not (rate > 0 and np.isfinite(rate)):
        raise MotesError(
            f"a false-alarm rate is above 0 per {per}, found {rate:g}", "no number of frames shows that there are none"
        )


def thresholds_for(card: Card) -> np.ndarray:
    """`THRESHOLDS`, and the card's own among them."""
    return np.unique([*THRESHOLDS, card.threshold])


def blobs_above(probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of 8-connected components of ``probability > t`` for every t, as `find_targets` counts them: int64 [T].

    Args:
        probability: [H, W] float32.
        thresholds: [T] ascending.
    """
    counts = np.zeros(len(thresholds), np.int64)
    for k, found in _levels(probability, thresholds):
        counts[k:] = len(found)
    return counts


def detected_above(probability: np.ndarray, label: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, int]:
    """Targets of ``label`` [H, W] bool that are found at every threshold, int64 [T], and how many there are.

    By the rule of the protocol `native`: a blob whose centre is less than 3 px from the target's.
    """
    rule, targets = protocol("native"), components(label)
    counts = np.zeros(len(thresholds), np.int64)
    for k, found in _levels(probability, thresholds):
        counts[k:] = hits(targets, found, rule).detected
    return counts, len(targets)


def scores_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of ``scores > t`` for every t: int64 [T]; the same for a network that answers with boxes."""
    return np.count_nonzero(scores.astype(np.float32)[:, None] > thresholds.astype(np.float32), axis=0)


def peaks(probability: np.ndarray, least: float, most: int) -> list[tuple[float, float, float]]:
    """(x, y, probability) of the largest local maxima above ``least``, best first, at most ``most``.

    A maximum is a pixel, or a plateau of equal ones, that is the largest within `APART` px; blobs would do for a
    network, but the map of a training-free method is one blob at low thresholds.
    """
    import cv2

    top = (probability == cv2.dilate(probability, np.ones((APART, APART), np.uint8))) & (probability > least)
    found = components(top)
    x, y = found.centroids.T
    # Not at the centroid, which need not lie on the plateau: at its first pixel.
    owners, first = np.unique(found.owners, return_index=True)
    score = np.empty(len(found))
    score[owners] = probability.ravel()[found.pixels[first]]
    order = np.lexsort((x, y, -score))[:most]
    return [(float(x[i]), float(y[i]), float(score[i])) for i in order]


def _levels(probability: np.ndarray, thresholds: np.ndarray) -> Iterator[tuple[int, Components]]:
    """(k, components above threshold k) for every k at which they differ from those of k - 1."""
    # As numpy compares a float32 map with a Python float: in float32.
    level = np.searchsorted(thresholds.astype(np.float32), probability, side="left").reshape(probability.shape)
    level = level.astype(np.int16)
    lost = np.bincount(level.ravel(), minlength=len(thresholds) + 1)
    for k in range(len(thresholds)):
        if k == 0 or lost[k]:
            yield k, components(level > k)
