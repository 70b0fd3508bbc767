"""Scores of probability maps against masks: one accumulator for folders, evaluation, training and several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from motes.errors import DataError
from motes.metrics import curves
from motes.metrics.components import Components, components
from motes.metrics.formulas import COUNTS, SUMS, Formulas, Value
from motes.metrics.matching import Hits, hits, quality
from motes.metrics.protocols import Protocol
from motes.metrics.protocols import protocol as look_up_protocol

_STRIDE = 16  # levels put together in the per-image histograms, which only the intervals of AUC and AP need


class SegmentationScore:
    """Accumulates images and computes IoU, nIoU, Pd, Fa, ROC and hIoU under a protocol.

    Counts are kept per image as integers, and sums over images are correctly rounded, so neither the order of images
    nor how they were spread over processes changes any value or interval.

    Args:
        protocol: a name of :data:`PROTOCOLS` or a :class:`Protocol`.
        sweep: thresholds of the target ROC (:meth:`target_curve`); none by default, for each costs one labelling per
            image.
        resamples: bootstrap resamples behind the intervals.
        seed: of the bootstrap.
    """

    def __init__(
        self, protocol: str | Protocol = "native", *, sweep: Sequence[float] = (), resamples: int = 1000, seed: int = 0
    ) -> None:
        self.protocol = look_up_protocol(protocol)
        self.sweep = np.asarray(sorted(sweep), np.float64)
        self.resamples, self.seed = resamples, seed
        roc = self.protocol.roc_thresholds
        self._roc = None if roc is None else np.asarray(roc)
        self.reset()

    COLUMNS = ("image", *COUNTS, "iou", "hiou")
    """Columns of :meth:`per_image`."""

    def reset(self) -> None:
        """Forget every image."""
        levels = (len(curves.LEVEL_THRESHOLDS) if self._roc is None else len(self._roc)) + 1
        self._names: list[str] = []
        self._counts: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._coarse: list[np.ndarray] = []
        self._levels = np.zeros((2, levels), np.int64)
        self._sweep = np.zeros((len(self.sweep), 6), np.int64)

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order they came."""
        return list(self._names)

    def update(self, probability: np.ndarray, label: np.ndarray, name: str = "") -> None:
        """Add one image.

        Args:
            probability: [H, W] float in [0, 1], or bool.
            label: [H, W] bool, the size of ``probability``; nothing is resized here.
            name: for the per-image table.

        Raises:
            DataError: wrong shapes, sizes, dtypes, NaN, or values outside [0, 1].
        """
        probability, label = _checked(probability, label, name)
        rule = self.protocol
        mask = probability > rule.threshold
        tp = int(np.count_nonzero(mask & label))
        predicted, positive = int(np.count_nonzero(mask)), int(np.count_nonzero(label))
        levels = curves.count_levels(probability, label, self._roc)
        targets = components(label)
        if rule.target_threshold != rule.threshold:
            mask = probability > rule.target_threshold
        found = components(mask)
        hit = hits(targets, found, rule)
        q = quality(targets, found, rule)
        counts = (
            *(tp, predicted - tp, positive - tp, label.size),
            *(len(targets), hit.detected, hit.missed, hit.false_pixels, hit.false_blobs),
            *(q.matched, q.false, q.missed, q.interference, q.perception, q.m2s, q.s2m),
        )
        self._sweep += self._sweep_counts(probability, label, targets, mask, hit)
        self._levels += levels
        self._coarse.append(self._coarsened(levels))
        self._counts.append(np.array(counts, np.int64))
        self._sums.append(np.array((q.seg_iou, q.seg_mrg, q.seg_itf, q.seg_pcp, hit.pair_iou)))
        self._names.append(name)

    def merge(self, other: SegmentationScore) -> SegmentationScore:
        """Add the images of ``other`` (same protocol and sweep); returns self."""
        if other.protocol != self.protocol or not np.array_equal(other.sweep, self.sweep):
            raise DataError(
                f"cannot merge scores of protocols '{self.protocol.name}' and '{other.protocol.name}' "
                f"with {len(self.sweep)} and {len(other.sweep)} sweep thresholds",
                "score every shard with the same protocol, threshold and sweep",
            )
        for mine, theirs in ((self._names, other._names), (self._counts, other._counts)):
            mine.extend(theirs)  # type: ignore[arg-type]
        self._sums.extend(other._sums)
        self._coarse.extend(other._coarse)
        self._levels += other._levels
        self._sweep += other._sweep
        return self

    def compute(self, intervals: bool = True) -> dict[str, Value]:
        """Every metric by key. Without ``intervals`` the bootstrap is skipped (validation while training)."""
        return Formulas(self.protocol, self.state(), self.resamples if intervals else 0, self.seed).values()

    def pixel_curve(self) -> curves.PixelCurve:
        """ROC and precision-recall over all pixels."""
        false, true = curves.above(self._levels)
        background, target = self._levels.sum(axis=1)
        thresholds = curves.LEVEL_THRESHOLDS if self._roc is None else self._roc
        e = self.protocol.roc_epsilon
        with np.errstate(divide="ignore", invalid="ignore"):
            tpr, fpr, precision = true / (target + e), false / (background + e), true / (true + false + e)
        values = self.compute(intervals=False)
        return curves.PixelCurve(thresholds, tpr, fpr, precision, values["auc"].value, values["ap"].value)

    def target_curve(self) -> curves.TargetCurve:
        """Pd over Fa at the thresholds of ``sweep``."""
        counts = np.stack(self._counts) if self._counts else np.zeros((0, len(COUNTS)), np.int64)
        pixels = counts[:, COUNTS.index("pixels")].sum()
        detected, missed, false_pixels, false_blobs, tp, predicted = self._sweep.T
        positive = counts[:, [COUNTS.index("tp"), COUNTS.index("fn")]].sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            return curves.TargetCurve(
                self.sweep,
                detected / (detected + missed),
                false_pixels / pixels,
                false_blobs / np.int64(len(self)),
                false_blobs * 1e6 / pixels,
                tp / (predicted + positive - tp),
                detected.copy(),
                int(counts[:, COUNTS.index("targets")].sum()),
            )

    def per_image(self) -> list[dict[str, float | str | None]]:
        """One row an image, by name: its counts, IoU and hIoU."""
        rows: list[dict[str, float | str | None]] = []
        for name, counts, sums in sorted(zip(self._names, self._counts, self._sums, strict=True), key=lambda r: r[0]):
            c: dict[str, int] = dict(zip(COUNTS, counts.tolist(), strict=True))
            union = c["tp"] + c["fp"] + c["fn"]
            pairs = c["matched"] + c["false"] + c["missed_opdc"]
            iou = c["tp"] / union if union else None
            rows.append({"image": name, **c, "iou": iou, "hiou": float(sums[0]) / pairs if pairs else None})
        return rows

    def facts(self) -> dict[str, Any]:
        """What was scored and by which rules, for ``run`` in metrics.json."""
        rule, counts = (
            self.protocol,
            dict(zip(COUNTS, np.sum(self._counts, axis=0).tolist(), strict=True)) if len(self) else {},
        )
        empty = [not (c[0] + c[1] + c[2]) for c in self._counts]
        return {
            "protocol": rule.name,
            "threshold": rule.threshold,
            "target_threshold": rule.target_threshold,
            "matching": rule.matching,
            "distance": rule.distance,
            "false_alarms": rule.false_alarms,
            "niou_empty": rule.niou_empty,
            "phantoms": rule.phantoms,
            "images": len(self),
            "images_without_target": sum(not c[COUNTS.index("targets")] for c in self._counts),
            "empty_pairs": sum(empty),
            "targets": counts.get("targets", 0),
            "pixels": counts.get("pixels", 0),
        }

    def state(self) -> dict[str, np.ndarray]:
        """Everything counted so far, as plain arrays: gather it from every process, save it by ``numpy.savez``."""
        k = self._coarsened(self._levels).shape[-1]
        return {
            "protocol": np.array(self.protocol.name),
            "thresholds": np.array([self.protocol.threshold, self.protocol.target_threshold]),
            "sweep": self.sweep,
            "names": np.array(self._names, dtype=np.str_),
            "counts": np.stack(self._counts) if self._counts else np.zeros((0, len(COUNTS)), np.int64),
            "sums": np.stack(self._sums) if self._sums else np.zeros((0, len(SUMS))),
            "coarse": np.stack(self._coarse) if self._coarse else np.zeros((0, 2, k), np.int32),
            "levels": self._levels.copy(),
            "sweep_counts": self._sweep.copy(),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], protocol: str | Protocol | None = None) -> SegmentationScore:
        """The score whose :meth:`state` this is. A protocol that is not one of the named ones has to be given."""
        rule = protocol if isinstance(protocol, Protocol) else look_up_protocol(protocol or str(state["protocol"]))
        threshold, target_threshold = (float(t) for t in state["thresholds"])
        if (threshold, target_threshold) != (rule.threshold, rule.target_threshold):
            rule = replace(rule, threshold=threshold, target_threshold=target_threshold)
        score = cls(rule, sweep=state["sweep"].tolist())
        score._names = [str(n) for n in state["names"]]
        score._counts = list(np.asarray(state["counts"], np.int64))
        score._sums = list(np.asarray(state["sums"], np.float64))
        score._coarse = list(np.asarray(state["coarse"], np.int32))
        score._levels = np.array(state["levels"], np.int64)
        score._sweep = np.array(state["sweep_counts"], np.int64)
        return score

    def _sweep_counts(
        self, probability: np.ndarray, label: np.ndarray, targets: Components, mask: np.ndarray, hit: Hits
    ) -> np.ndarray:
        """int64 [T, 6]: detected, missed, false pixels, false blobs, true positive pixels, predicted pixels."""
        rows = np.zeros((len(self.sweep), 6), np.int64)
        known = {int(np.count_nonzero(mask)): hit}
        for row, threshold in zip(rows, self.sweep.tolist(), strict=True):
            mask = probability > threshold
            predicted = int(np.count_nonzero(mask))
            if predicted not in known:  # the masks are nested: as many pixels are the same pixels
                known[predicted] = hits(targets, components(mask), self.protocol)
            found = known[predicted]
            true = int(np.count_nonzero(mask & label))
            row[:] = found.detected, found.missed, found.false_pixels, found.false_blobs, true, predicted
        return rows

    def _coarsened(self, levels: np.ndarray) -> np.ndarray:
        """int32 [2, K]: neighbouring levels put together."""
        stride = _STRIDE if self._roc is None else 1
        starts = np.arange(0, levels.shape[1], stride)
        return np.add.reduceat(levels, starts, axis=1).astype(np.int32)


def _checked(probability: np.ndarray, label: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    where = f" of '{name}'" if name else ""
    probability, label = np.asarray(probability), np.asarray(label)
    if label.dtype != np.bool_:
        if label.dtype.kind not in "iu" or (label.size and (label.min() < 0 or label.max() > 1)):
            raise DataError(
                f"the label{where} is {label.dtype}, expected bool or 0/1",
                "decide what a target is: mask > 0, or mask == 255",
            )
        label = label.astype(bool)
    if probability.ndim != 2 or probability.shape != label.shape:
        raise DataError(
            f"the map{where} is {_size(probability)} and its label {_size(label)}, expected the same [H, W]",
            "maps are never resized here: resize before scoring, or score at the size the network saw",
        )
    if probability.size == 0:
        raise DataError(f"the map{where} has no pixels")
    if probability.dtype == np.bool_:
        return probability.astype(np.float32), label
    if probability.dtype.kind != "f":
        raise DataError(
            f"the map{where} is {probability.dtype}, expected float in [0, 1] or bool", "divide 8-bit maps by 255"
        )
    if probability.dtype == np.float16:
        probability = probability.astype(np.float32)
    low, high = float(probability.min()), float(probability.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"the map{where} has values from {low:g} to {high:g}, expected probabilities from 0 to 1",
            "apply a sigmoid to logits, or divide by the largest possible value",
        )
    return probability, label


def _size(array: np.ndarray) -> str:
    return "x".join(str(n) for n in array.shape) or "a single number"
