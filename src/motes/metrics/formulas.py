"""What each metric is, given the counts of every image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motes.metrics import curves
from motes.metrics.intervals import Interval, bootstrap, resampling_weights, wilson, zero_rate
from motes.metrics.protocols import Protocol

COUNTS = (
    *("tp", "fp", "fn", "pixels", "targets", "detected", "missed", "false_pixels", "false_blobs"),
    *("matched", "false", "missed_opdc", "loc_itf", "loc_pcp", "loc_m2s", "loc_s2m"),
)
"""Per-image integers of the state, in column order."""
SUMS = ("seg_iou", "seg_mrg", "seg_itf", "seg_pcp", "pair_iou")
"""Per-image sums of ratios over matched pairs."""


@dataclass(frozen=True)
class Value:
    """A metric: ``value`` (None where 0/0), the numerator and denominator it came from, and its 95 % interval (None if
    unknown).

    Protocols that add an epsilon add it to ``denominator`` before dividing. ``auc`` and ``ap`` are given over pixel
    pairs and target pixels.
    """

    value: float | None
    numerator: float
    denominator: float
    interval: Interval | None = None


class Formulas:
    """The formula of every metric, over the per-image counts of :meth:`SegmentationScore.state`.

    Args:
        rule: the protocol.
        state: counts, sums, histograms.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """

    def __init__(self, rule: Protocol, state: dict[str, np.ndarray], resamples: int, seed: int) -> None:
        self.rule, self.intervals = rule, resamples > 0
        images = len(state["counts"])
        # Sorted by content, not by name: intervals must not depend on the order in which shards were merged.
        bins = np.prod(state["coarse"].shape[1:], dtype=int)
        mark = state["coarse"].reshape(images, bins) @ np.arange(1, 1 + bins, dtype=np.int64) ** 2
        order = np.lexsort([*state["counts"].T, *state["sums"].T, mark]) if images else np.zeros(0, int)
        counts, sums = state["counts"][order], state["sums"][order]
        self.columns = dict(zip(COUNTS, counts.T, strict=True)) | dict(zip(SUMS, sums.T, strict=True))
        self.coarse, self.levels = state["coarse"][order], state["levels"]
        self.weights = resampling_weights(images, resamples, seed) if images > 1 and resamples else None

    def values(self) -> dict[str, Value]:
        c, rule = self.columns, self.rule
        union = c["tp"] + c["fp"] + c["fn"]
        filled = union > 0
        iou = np.divide(c["tp"], union, out=np.zeros(len(union)), where=filled)
        counted = filled if rule.niou_empty == "exclude" else np.ones(len(union), bool)
        images = np.ones(len(union), np.int64)
        pairs = c["matched"] + c["false"] + c["missed_opdc"]
        zero, e = rule.pixel_zero, rule.epsilon
        values = {
            "iou": self.ratio(c["tp"], union, zero),
            "niou": self.ratio(iou, counted, zero),
            "precision": self.ratio(c["tp"], c["tp"] + c["fp"], zero, e),
            "recall": self.ratio(c["tp"], c["tp"] + c["fn"], zero, e),
            "f1": self.f1(),
            "pd": self.pd(),
            "fa": self.fa(),
            "false_alarms_per_image": self.rate(c["false_blobs"], images),
            "false_alarms_per_megapixel": self.rate(c["false_blobs"], c["pixels"] / 1e6),
            **self.areas(),
            "hiou": self.ratio(c["seg_iou"], pairs, rule.target_zero),
            "seg_iou": self.ratio(c["seg_iou"], c["matched"], rule.target_zero),
            "seg_mrg_err": self.ratio(c["seg_mrg"], c["matched"], rule.target_zero),
            "seg_itf_err": self.ratio(c["seg_itf"], c["matched"], rule.target_zero),
            "seg_pcp_err": self.ratio(c["seg_pcp"], c["matched"], rule.target_zero),
            "loc_iou": self.ratio(c["matched"], pairs, rule.target_zero),
            "loc_s2m_err": self.ratio(c["loc_s2m"], pairs, rule.target_zero),
            "loc_m2s_err": self.ratio(c["loc_m2s"], pairs, rule.target_zero),
            "loc_itf_err": self.ratio(c["loc_itf"], pairs, rule.target_zero),
            "loc_pcp_err": self.ratio(c["loc_pcp"], pairs, rule.target_zero),
        }
        if rule.matching == "diameter":
            values["target_niou"] = self.ratio(c["pair_iou"], c["targets"], rule.target_zero)
        return values

    def ratio(self, over: np.ndarray, under: np.ndarray, zero: float | None, epsilon: float = 0.0) -> Value:
        """Sum over sum, with a bootstrap interval over images."""
        numerator, denominator = _total(over), _total(under)
        value = numerator / (denominator + epsilon) if denominator else zero
        return Value(
            value, numerator, denominator, self.bootstrap(np.stack([over, under], axis=1), _first_by_second)[0]
        )

    def rate(self, over: np.ndarray, under: np.ndarray) -> Value:
        """A ratio of rare events: the interval of zero events is a Poisson one."""
        found = self.ratio(over, under, None)
        if self.intervals and found.numerator == 0:
            return Value(found.value, 0.0, found.denominator, zero_rate(found.denominator))
        return found

    def f1(self) -> Value:
        c, rule = self.columns, self.rule
        twice = 2 * c["tp"]
        found = self.ratio(twice, twice + c["fp"] + c["fn"], rule.pixel_zero)
        if not rule.f1_epsilon:
            return found
        tp, fp, fn = (_total(c[k]) for k in ("tp", "fp", "fn"))
        precision, recall = tp / (tp + fp + rule.epsilon), tp / (tp + fn + rule.epsilon)
        value = 2 * precision * recall / (precision + recall + rule.f1_epsilon)
        return Value(value, found.numerator, found.denominator, found.interval)

    def pd(self) -> Value:
        c = self.columns
        detected, targets = _total(c["detected"]), _total(c["detected"] + c["missed"])
        value = detected / targets if targets else self.rule.target_zero
        return Value(value, detected, targets, wilson(detected, targets) if self.intervals else None)

    def fa(self) -> Value:
        found = self.rate(self.columns["false_pixels"], self.columns["pixels"])
        if self.rule.fa_needs_targets and not self.columns["targets"].any():
            return Value(None, found.numerator, found.denominator, found.interval)
        return found

    def areas(self) -> dict[str, Value]:
        e, closed, zero = self.rule.roc_epsilon, self.rule.roc_thresholds is None, self.rule.pixel_zero
        background, target = (float(n) for n in self.levels.sum(axis=1))
        auc, ap = (float(v) for v in curves.areas(self.levels, e, closed))
        if not e:
            auc = auc if background and target else math.nan
            ap = ap if target else math.nan

        shape = (-1, *self.coarse.shape[1:])
        flat = self.coarse.reshape(len(self.coarse), shape[1] * shape[2])
        ends = self.bootstrap(flat, lambda sums: np.stack(curves.areas(sums.reshape(shape), e, closed)))
        found = {}
        for k, (key, value, under) in enumerate((("auc", auc, background * target), ("ap", ap, target))):
            if math.isnan(value):
                found[key] = Value(zero, 0.0, under)
            else:
                found[key] = Value(value, value * under, under, ends[k])
        return found

    def bootstrap(self, columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> list[Interval | None]:
        """One interval a row of what ``statistic`` returns; none for fewer than two images."""
        return [None, None] if self.weights is None else bootstrap(self.weights, columns, statistic)


def _first_by_second(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def _total(column: np.ndarray) -> float:
    """Exactly rounded, so that the order of images cannot show."""
    return float(column.sum()) if column.dtype.kind in "iub" else math.fsum(column.tolist())
