"""Threshold rules: which pixels of a method's map are target. Published tables differ in little else.

With o the map of a frame, m and s its mean and (population) standard deviation, u = (o - min o) / (max o - min o):

=====================  ==========================================  ====================================================
name                   target                                      used by
=====================  ==========================================  ====================================================
``mean+Kstd``          o > m + K s                                 LCM (K 3..5), IPI, MPCM, RLCM, most later tables
``minmax_T``           u > T                                       BasicIRSTD (T = 0.5; its issue 46)
``max_T``              o / max o > T, negative values kept         ISTD-python (T = 0.5)
``bench``              u >= 0.5                                    ISTD-Benchmark
``dnanet_adaptive``    u > max(0.7 max u, 0.5 std u + mean u)      DNANet
``lambda_L``           o > L max o + (1 - L) m                     TLLCM (L 0.7..0.9), WSLCM
``best-of-256``        u > the best of 256 thresholds              ACM and ALCNet tables
=====================  ==========================================  ====================================================

The last one chooses a threshold for the whole data set by its labels, mostly on the test set, and so is an upper bound:
as the rule of a frame it only says that the probability is u; ``BestOf256`` in best_threshold.py finds the threshold.

How a map becomes a probability: for each rule, p > 0.5 means exactly "target", and p rises with the map. Any other
threshold t has a meaning too, so that curves need no other rule:

* ``mean+Kstd``: with z = (o - m) / s, p = z / (z + K) where z > 0, else 0; p > t means o > m + K t / (1 - t) s. A
  logistic of z - K would have the same threshold but is 1.0 in float32 for every strong target, which makes them
  indistinguishable; this one keeps their order.
* all others are levels of a map v whose maximum is 1 (u; o / max o; (o - m) / (max o - m)): the odds of p are those of
  v over those of the level, and p = v where the level is 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motes.errors import CardError
from motes.naming import look_up

_FLOOR = 1e-6  # smallest odds: keeps the logit finite where the map is at or below its zero
_SIDE = 1e-6  # smallest logit of a target: its sigmoid is above 0.5 in float32
BENCH, DNANET, BEST = "bench", "dnanet_adaptive", "best-of-256"


@dataclass(frozen=True)
class Scale:
    """Where a rule cuts one map: target is (o - ``zero``) / ``unit`` > ``level``; ``bounded``: that is at most 1."""

    zero: float
    unit: float
    level: float
    bounded: bool = True


@dataclass(frozen=True)
class Rule:
    """A threshold rule. ``scale`` looks at one map; ``inclusive``: the threshold itself is target."""

    name: str
    scale: Callable[[np.ndarray], Scale]
    inclusive: bool = False

    def targets(self, response: np.ndarray) -> np.ndarray:
        """Map [H, W] -> bool [H, W]; a flat map holds no target."""
        scale = self.scale(response)
        if not scale.unit > 0:
            return np.zeros(response.shape, bool)
        return self._targets(response, scale)

    def logits(self, response: np.ndarray) -> np.ndarray:
        """Map [H, W] float32 -> logits [H, W] float32, > 0 exactly where `targets` is true."""
        scale = self.scale(response)
        if not scale.unit > 0:
            return np.full(response.shape, np.log(_FLOOR), np.float32)
        out = np.subtract(response, np.float32(scale.zero), dtype=np.float32)
        out *= np.float32(1.0 / scale.unit)
        if scale.bounded:
            rest = np.maximum(1 - out, np.float32(_FLOOR))
            out /= rest
            level = scale.level / max(1.0 - scale.level, _FLOOR)
        else:
            level = scale.level
        out *= np.float32(1.0 / level)
        np.maximum(out, np.float32(_FLOOR), out=out)
        np.log(out, out=out)
        target = self._targets(response, scale)
        np.maximum(out, np.float32(_SIDE), out=out, where=target)
        np.minimum(out, 0, out=out, where=~target)
        return out

    def _targets(self, response: np.ndarray, scale: Scale) -> np.ndarray:
        threshold = np.float64(scale.zero + scale.level * scale.unit)
        return np.asarray(response >= threshold if self.inclusive else response > threshold)


def threshold_rule(text: str) -> Rule:
    """The rule of that name, a number in the place of K, T or L: "mean+5std", "minmax_0.5", "lambda_0.7".

    Raises:
        CardError: no such rule, or a number that does not fit it.
    """
    if text in _PLAIN:
        return _PLAIN[text]
    for name, (pattern, make, most) in _WITH_NUMBER.items():
        found = re.fullmatch(pattern, text)
        if found:
            value = _value(found[1])
            if value is None or not 0 < value < most:
                limit = f"between 0 and {most:g}" if np.isfinite(most) else "> 0"
                raise CardError(f"threshold rule '{text}': the number in {name} must be {limit}, found '{found[1]}'")
            return Rule(text, make(value))
    look_up("threshold rule", text, RULES, CardError)
    raise CardError(f"threshold rule '{text}' needs a number in the place of its capital letter", "such as mean+5std")


def mean_std(k: float) -> Rule:
    """The rule "mean+Kstd", K > 0."""
    return threshold_rule(f"mean+{k:.12g}std")


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _moments(o: np.ndarray) -> tuple[float, float]:
    return float(o.mean(dtype=np.float64)), float(o.std(dtype=np.float64))


def _mean_std(k: float) -> Callable[[np.ndarray], Scale]:
    def scale(o: np.ndarray) -> Scale:
        mean, std = _moments(o)
        return Scale(mean, std, k, bounded=False)

    return scale


def _minmax(level: float) -> Callable[[np.ndarray], Scale]:
    return lambda o: Scale(float(o.min()), float(o.max()) - float(o.min()), level)


def _max(level: float) -> Callable[[np.ndarray], Scale]:
    return lambda o: Scale(0.0, float(o.max()) if np.ptp(o) > 0 else 0.0, level)


def _lambda(level: float) -> Callable[[np.ndarray], Scale]:
    def scale(o: np.ndarray) -> Scale:
        mean = float(o.mean(dtype=np.float64))
        return Scale(mean, float(o.max()) - mean if np.ptp(o) > 0 else 0.0, level)

    return scale


def _dnanet(o: np.ndarray) -> Scale:
    low, span = float(o.min()), float(o.max()) - float(o.min())
    mean, std = _moments(o)
    return Scale(low, span, max(0.7, (0.5 * std + mean - low) / span) if span > 0 else 0.7)


_WITH_NUMBER: dict[str, tuple[str, Callable[[float], Callable[[np.ndarray], Scale]], float]] = {
    "mean+Kstd": (r"mean\+(.*)std", _mean_std, float("inf")),
    "minmax_T": (r"minmax_(.*)", _minmax, 1.0),
    "max_T": (r"max_(.*)", _max, 1.0),
    "lambda_L": (r"lambda_(.*)", _lambda, 1.0),
}

_PLAIN = {
    r.name: r
    for r in (
        Rule(BENCH, _minmax(0.5), inclusive=True),
        Rule(DNANET, _dnanet),
        Rule(BEST, _minmax(0.5)),
    )
}

RULES = (*_WITH_NUMBER, *_PLAIN)
"""The names of all rules, capital letters for a number."""
