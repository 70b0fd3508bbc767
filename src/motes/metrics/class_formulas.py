"""What each metric of class maps is, given one confusion matrix an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from motes.metrics.formulas import Value
from motes.metrics.intervals import Interval, bootstrap, resampling_weights, wilson

MEANS = {"miou": "iou", "mprecision": "precision", "mrecall": "recall", "mf1": "f1"}
"""Mean -> the per-class ratio that it is the mean of."""


class ClassFormulas:
    """The formula of every metric, over the counts of :meth:`ClassScore.state`.

    With TP, P and L the pixels of a class that are right, predicted and labelled: IoU = TP / (P + L - TP), precision =
    TP / P, recall = TP / L, F1 = 2 TP / (P + L). A mean is over the classes where the ratio is defined. OA is the part
    of right pixels; fwIoU = sum of L IoU over sum of L (the classes' IoUs weighted by how frequent they are).

    Args:
        names: of the classes.
        background: id that ``miou_foreground`` leaves out, or None.
        bands: names of the size bands.
        confusion: int64 [N, K, K], labels in rows.
        objects: int64 [N, bands, 2]: found objects, objects.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        names: Sequence[str],
        background: int | None,
        bands: Sequence[str],
        confusion: np.ndarray,
        objects: np.ndarray,
        resamples: int,
        seed: int,
    ) -> None:
        self.names, self.background, self.bands = names, background, bands
        self.intervals = resamples > 0
        images, k = len(confusion), len(names)
        right = np.diagonal(confusion, axis1=1, axis2=2)
        columns = np.concatenate([right, confusion.sum(axis=2), confusion.sum(axis=1)], axis=1)
        # Sorted by content: intervals must not depend on the order in which images or shards came.
        order = sorted(range(images), key=lambda i: columns[i].tobytes())
        self.columns = columns[order] if images else np.zeros((0, 3 * k), np.int64)
        self.totals = self.columns.sum(axis=0, dtype=np.int64)
        self.objects = objects.sum(axis=0, dtype=np.int64) if images else np.zeros((len(bands), 2), np.int64)
        self.weights = resampling_weights(images, resamples, seed) if images > 1 and resamples else None

    def values(self) -> dict[str, Value]:
        tops, bottoms = self._ratios(self.totals[None])
        ends = self._bootstrapped()
        found: dict[str, Value] = {}
        for mean, ratio in MEANS.items():
            found[mean] = self._mean(tops[ratio][0], bottoms[ratio][0], ends.get(mean))
            if mean == "miou" and self.background is not None:
                top, bottom = (np.delete(a[0], self.background) for a in (tops[ratio], bottoms[ratio]))
                found["miou_foreground"] = self._mean(top, bottom, ends.get("miou_foreground"))
        right, truth, _ = self.totals.reshape(3, -1)
        pixels = int(truth.sum())
        found["oa"] = _value(int(right.sum()), pixels, ends.get("oa"))
        weighted = math.fsum(n * t / b for n, t, b in zip(truth, tops["iou"][0], bottoms["iou"][0], strict=True) if b)
        found["fwiou"] = _value(weighted, pixels, ends.get("fwiou"))
        hit, objects = (int(n) for n in self.objects.sum(axis=0))
        found["object_recall"] = self._proportion(hit, objects)
        for band, (hit, objects) in zip(self.bands, self.objects.tolist(), strict=True):
            found[f"object_recall/{band}"] = self._proportion(hit, objects)
        for ratio in MEANS.values():
            for i, name in enumerate(self.names):
                key = f"{ratio}/{name}"
                found[key] = _value(int(tops[ratio][0, i]), int(bottoms[ratio][0, i]), ends.get(key))
        return found

    def _ratios(self, sums: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Sums [R, 3 K] -> numerators and denominators [R, K] of every per-class ratio."""
        right, truth, predicted = np.split(sums, 3, axis=1)
        tops = {"iou": right, "precision": right, "recall": right, "f1": 2 * right}
        bottoms = {
            "iou": truth + predicted - right,
            "precision": predicted,
            "recall": truth,
            "f1": truth + predicted,
        }
        return tops, bottoms

    def _bootstrapped(self) -> dict[str, Interval | None]:
        if self.weights is None:
            return {}
        keys: list[str] = []

        def statistics(sums: np.ndarray) -> np.ndarray:
            tops, bottoms = self._ratios(sums)
            ratios = {r: np.where(bottoms[r] > 0, tops[r] / bottoms[r], np.nan) for r in MEANS.values()}
            right, truth, _ = np.split(sums, 3, axis=1)
            pixels = truth.sum(axis=1)
            rows: dict[str, np.ndarray] = {mean: _nan_mean(ratios[ratio]) for mean, ratio in MEANS.items()}
            if self.background is not None:
                rows["miou_foreground"] = _nan_mean(np.delete(ratios["iou"], self.background, axis=1))
            rows["oa"] = right.sum(axis=1) / pixels
            rows["fwiou"] = (truth * np.nan_to_num(ratios["iou"])).sum(axis=1) / pixels
            for ratio, values in ratios.items():
                rows |= {f"{ratio}/{name}": values[:, i] for i, name in enumerate(self.names)}
            keys.extend(rows)
            return np.stack(list(rows.values()))

        ends = bootstrap(self.weights, self.columns, statistics)
        return dict(zip(keys, ends, strict=True))

    def _mean(self, top: np.ndarray, bottom: np.ndarray, interval: Interval | None) -> Value:
        known = [t / b for t, b in zip(top.tolist(), bottom.tolist(), strict=True) if b]
        return _value(math.fsum(known), len(known), interval)

    def _proportion(self, hit: int, of: int) -> Value:
        return _value(hit, of, wilson(hit, of) if self.intervals else None)


def _value(numerator: float, denominator: float, interval: Interval | None) -> Value:
    value = numerator / denominator if denominator else None
    return Value(value, float(numerator), float(denominator), interval if denominator else None)


def _nan_mean(rows: np.ndarray) -> np.ndarray:
    known = ~np.isnan(rows)
    mean: np.ndarray = np.where(known, rows, 0).sum(axis=1) / known.sum(axis=1)
    return mean
