"""Which probability counts as a target: a number, or a false-alarm rate through the card's calibration curve."""

from __future__ import annotations

import numpy as np

from motes.cards import Card
from motes.errors import CardError


def choose_threshold(card: Card, threshold: float | None = None, fa: float | None = None) -> float:
    """The threshold to use: ``threshold`` if given, else the one for ``fa``, else the card's.

    Args:
        card: of the network.
        threshold: probability in [0, 1).
        fa: false alarms per megapixel that are tolerated.

    Raises:
        CardError: both given, out of range, no calibration curve, or a rate the curve does not reach.
    """
    if threshold is not None and fa is not None:
        raise CardError("a threshold and a false-alarm rate exclude each other", "give --threshold or --fa")
    if fa is not None:
        return threshold_for(card, fa)
    if threshold is None:
        return float(card.threshold)
    if not 0 <= threshold < 1:
        raise CardError(f"a threshold is a probability in [0, 1), found {threshold:g}")
    return float(threshold)


def threshold_for(card: Card, fa: float) -> float:
    """The lowest calibrated threshold from which on the curve stays at or below ``fa`` false alarms per megapixel.

    A tabulated threshold, never one between two: what the curve promises was measured. Which frames it was measured on
    stands in the card; other scenes have other rates.
    """
    if not fa >= 0:
        raise CardError(f"a false-alarm rate is >= 0 per megapixel, found {fa:g}")
    curve = card.calibration
    thresholds = np.asarray(curve.get("threshold", ()), np.float64)
    rates = np.asarray(curve.get("fa_per_mpx", ()), np.float64)
    if not len(thresholds) or len(thresholds) != len(rates):
        raise CardError(f"the card of '{card.name}' has no calibration curve", "choose a probability with --threshold")
    # The worst rate at this or any higher threshold: a curve from few frames need not fall everywhere.
    worst = np.maximum.accumulate(rates[::-1])[::-1]
    good = np.flatnonzero(worst <= fa)
    if not len(good):
        raise CardError(
            f"the calibration of '{card.name}' ends at {rates[-1]:g} false alarms per megapixel, asked for {fa:g}",
            f"--threshold {thresholds[-1]:g} is the strictest that was measured",
        )
    return float(thresholds[good[0]])
