"""What each metric of boxes is, given the boxes of every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from motes.metrics.box_curves import Mode, Ranking
from motes.metrics.box_matching import best_truths, box_areas, centre_flags, coco_flags, voc_flags
from motes.metrics.box_protocols import BoxProtocol
from motes.metrics.contrast import THRESHOLDS as CONTRASTS
from motes.metrics.formulas import Value
from motes.metrics.intervals import bootstrap, resampling_weights, wilson, zero_rate

OVERLAPS = tuple(k / 20 for k in range(10, 20))
"""IoU thresholds over which COCO's AP is the mean."""
SHOWN = (0.3, 0.5, 0.75)
"""IoU thresholds whose AP is given on its own."""
BANDS = {
    "0-3": (0.0, 3.0), "3-4": (3.0, 4.0), "4-5": (4.0, 5.0), "5-8": (5.0, 8.0), "8-16": (8.0, 16.0),
    "16+": (16.0, np.inf),
}  # fmt: skip
"""Size bands: low and high square root of a box's area, px, low inclusive."""

_FEWER = 200  # resamples for means over many rankings
_ALL = {"all": (0.0, np.inf), **BANDS}
_GRID = tuple(sorted({*OVERLAPS, *SHOWN}))


@dataclass(frozen=True)
class Frame:
    """The boxes of one image: of detections and of truths, float32 [N, 4] and [M, 4], with what belongs to them.

    ``size``: (height, width), (0, 0) if unknown. ``pictured``: whether the image's pixels were given; if so ``values``
    and ``inside`` are what each detection meets on the contrast map, see `motes.metrics.contrast`. ``sky``: int64 [3],
    pixels that are sky in both, in the prediction only, in the truth only; -1 without maps.
    """

    name: str
    size: tuple[int, int]
    pictured: bool
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    inside: np.ndarray
    truths: np.ndarray
    truth_labels: np.ndarray
    ignored: np.ndarray
    sky: np.ndarray

    def key(self) -> tuple[str, bytes]:
        """By which images are sorted, so that equal scores in different images rank alike however shards are merged."""
        return self.name, self.boxes.tobytes() + self.scores.tobytes() + self.truths.tobytes()


@dataclass(frozen=True)
class Matches:
    """The detections of one class over all images, by descending score.

    Attributes:
        scores: [N].
        images: [N] number of the image.
        rows: [N] place in the detections of its image.
        overlap: [N] IoU with the truth overlapped most, under the protocol's unit.
        truth: [N] number of that truth over all images; -1 for none.
        ignored: bool, of these truths.
        coco: int8 [bands, IoUs, N] flags.
        centre: int8 [N] flags.
        areas: [N] px of the image that the box covers.
        truths: int [bands, I] boxes to be found in each image.
    """

    scores: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    overlap: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray
    coco: np.ndarray
    centre: np.ndarray
    areas: np.ndarray
    truths: np.ndarray

    def voc(self, iou: float) -> Ranking:
        """Ranked by VOC's rule."""
        return Ranking(voc_flags(self.overlap, self.truth, self.ignored, iou), self.images, self.truths[0])

    def by_coco(self, iou: float, band: str = "all") -> Ranking:
        """Ranked by COCO's rule."""
        k = list(_ALL).index(band)
        return Ranking(self.coco[k, _GRID.index(iou)], self.images, self.truths[k])

    def by_centre(self) -> Ranking:
        """Ranked by the distance of centres."""
        return Ranking(self.centre, self.images, self.truths[0])


def match(frames: Sequence[Frame], label: int, rule: BoxProtocol, coco: bool = True) -> Matches:
    """Match one class over sorted images; without ``coco`` its flags are left out (validation while training)."""
    bands = list(_ALL.values()) if coco else []
    parts: list[tuple[np.ndarray, ...]] = []
    flags: list[np.ndarray] = []
    ignored: list[np.ndarray] = []
    truths = np.zeros((len(_ALL), len(frames)), np.int64)
    limits = np.square(np.array(list(_ALL.values())))
    count = 0
    for i, frame in enumerate(frames):
        rows = np.flatnonzero(frame.labels == label)
        rows = rows[np.argsort(-frame.scores[rows], kind="stable")]
        mine = np.flatnonzero(frame.truth_labels == label)
        mine = mine[np.argsort(frame.ignored[mine], kind="stable")]
        boxes, found, aside = frame.boxes[rows], frame.truths[mine], frame.ignored[mine]
        areas = box_areas(found[~aside].astype(np.float64))
        truths[:, i] = ((areas >= limits[:, :1]) & (areas < limits[:, 1:])).sum(axis=1)
        overlap, best = best_truths(boxes, found, rule.plus_one)
        parts.append(
            (
                *(frame.scores[rows], np.full(len(rows), i), rows, overlap),
                np.where(best < 0, -1, best + count),
                centre_flags(boxes, found, aside, rule.distance),
                _covered(boxes, frame.size),
            )
        )
        wide = boxes.astype(np.float64), found.astype(np.float64)
        part = np.zeros((len(bands), len(_GRID), len(rows)), np.int8)
        if coco:
            part[..., : rule.most] = coco_flags(wide[0][: rule.most], wide[1], aside, _GRID, bands)
        flags.append(part)
        ignored.append(aside)
        count += len(mine)
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 7
    order = np.argsort(-columns[0], kind="stable")
    scores, images, places, overlap, truth, centre, covered = (np.asarray(c)[order] for c in columns)
    all_flags = np.concatenate(flags, axis=2)[..., order] if flags else np.zeros((0, len(_GRID), 0), np.int8)
    aside = np.concatenate(ignored) if ignored else np.zeros(0, bool)
    return Matches(
        scores, images.astype(int), places, overlap, truth.astype(int), aside, all_flags, centre, covered, truths
    )


class BoxFormulas:
    """The formula of every metric.

    Args:
        frames: sorted by `Frame.key`.
        matches: one a class, by label.
        rule: the protocol.
        classes: names by label, for the rows of single classes where there are several.
        coco: whether to give what COCO's rule says; ``matches`` must have its flags then.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        matches: dict[int, Matches],
        rule: BoxProtocol,
        classes: Sequence[str],
        coco: bool,
        resamples: int,
        seed: int,
    ) -> None:
        self.frames, self.rule, self.classes = frames, rule, classes
        self.matches, self.coco = matches, coco
        self.intervals = resamples > 0
        self.weights = resampling_weights(len(frames), resamples, seed) if len(frames) > 1 and self.intervals else None

    def values(self) -> dict[str, Value]:
        rule = self.rule
        values = {
            "map12": self.mean(lambda m: [m.voc(rule.iou)], "area"),
            "map07": self.mean(lambda m: [m.voc(rule.iou)], "11points"),
            **self.totals(),
        }
        if self.coco:
            values["coco_ap"] = self.coco_mean(OVERLAPS)
            for t in SHOWN:
                values[f"ap@{t:g}"] = self.coco_mean([t])
            for band in BANDS:
                values[f"ap/{band}"] = self.coco_mean(OVERLAPS, band)
        values["centre_ap"] = self.mean(lambda m: [m.by_centre()], "area")
        if (contrast := self.contrast()) is not None:
            values["mnocoap"] = contrast
        values |= self.alarms()
        if any((f.sky >= 0).all() for f in self.frames):
            values["sky_iou"] = self.sky()
        if len(self.matches) > 1:
            for label, m in self.matches.items():
                name = self.classes[label] if label < len(self.classes) else str(label)
                values[f"map12:{name}"] = self.mean(lambda m: [m.voc(rule.iou)], "area", [m])
        return values

    def coco_mean(self, overlaps: Sequence[float], band: str = "all") -> Value:
        """AP by COCO's rule, the mean over IoU thresholds, of a size band."""
        return self.mean(lambda m: [m.by_coco(t, band) for t in overlaps], "101points")

    def mean(
        self, rankings: Callable[[Matches], list[Ranking]], mode: Mode, chosen: Sequence[Matches] | None = None
    ) -> Value:
        """AP, the mean over rankings of a class, then over the classes that have truths."""
        every = [rankings(m) for m in (self.matches.values() if chosen is None else chosen)]
        every = [rows for rows in every if rows[0].truths.sum()]
        truths = float(sum(rows[0].truths.sum() for rows in every))
        if not every:
            return Value(self.rule.zero, 0.0, 0.0)
        value = float(np.mean([np.mean([r.average_precision(mode) for r in rows]) for rows in every]))
        interval = None
        if self.weights is not None:
            weights = self.weights
            if len(every[0]) > 1:
                weights = weights[:_FEWER]
            drawn = np.stack([np.mean([r.resampled(mode, weights) for r in rows], axis=0) for rows in every])
            counted = np.isfinite(drawn)
            if counted.any():
                means = (np.where(counted, drawn, 0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1))[
                    counted.any(axis=0)
                ]
                interval = (float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))
        return Value(value, value * truths, truths, interval)

    def totals(self) -> dict[str, Value]:
        """Recall and precision of all detections handed in, whatever their score."""
        hits, false, truths = (np.zeros(len(self.frames)) for _ in range(3))
        for m in self.matches.values():
            ranking = m.voc(self.rule.iou)
            hits += np.bincount(m.images[ranking.flags > 0], minlength=len(hits))
            false += np.bincount(m.images[ranking.flags < 0], minlength=len(hits))
            truths += ranking.truths
        return {"recall": self.share(hits, truths), "precision": self.ratio(hits, hits + false)}

    def alarms(self) -> dict[str, Value]:
        """Pd and false alarms at the protocol's score threshold, and Pd at one false alarm an image."""
        count = len(self.frames)
        detected, blobs, area, truths = (np.zeros(count) for _ in range(4))
        for m in self.matches.values():
            shown = m.scores >= self.rule.threshold
            false = shown & (m.centre < 0)
            detected += np.bincount(m.images[shown & (m.centre > 0)], minlength=count)
            blobs += np.bincount(m.images[false], minlength=count)
            area += np.bincount(m.images[false], m.areas[false], minlength=count)
            truths += m.truths[0]
        pixels = np.array([f.size[0] * f.size[1] for f in self.frames], np.float64).reshape(count)
        values = {
            "pd": self.share(detected, truths),
            "fa": self.rate(area, pixels),
            "false_alarms_per_image": self.rate(blobs, np.ones(count)),
            "false_alarms_per_megapixel": self.rate(blobs, pixels / 1e6),
        }
        scores = np.concatenate([m.scores for m in self.matches.values()] or [np.zeros(0)])
        flags = np.concatenate([m.centre for m in self.matches.values()] or [np.zeros(0)])
        order = np.argsort(-scores, kind="stable")
        scores, flags = scores[order], flags[order]
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores come together
        allowed = np.cumsum(flags < 0)[last] <= count
        best = int(np.cumsum(flags > 0)[last][allowed].max(initial=0))
        total = float(truths.sum())
        interval = wilson(best, total) if self.intervals else None
        values["pd@1"] = Value(best / total if total else None, best, total, interval)
        return values

    def contrast(self) -> Value | None:
        """mNoCoAP; None unless every image was given with its pixels."""
        if not self.frames or not all(f.pictured for f in self.frames):
            return None
        scores = np.concatenate([f.scores for f in self.frames])
        images = np.repeat(np.arange(len(self.frames)), [len(f.scores) for f in self.frames])
        counts = np.array([len(f.truths) for f in self.frames])
        starts = np.cumsum(counts) - counts
        inside = np.concatenate(
            [np.where(f.inside < 0, -1, f.inside + s) for f, s in zip(self.frames, starts, strict=True)]
        )
        values = np.concatenate([f.values for f in self.frames])
        ignored = np.concatenate([f.ignored for f in self.frames])
        truths = np.array([int((~f.ignored).sum()) for f in self.frames])
        order = np.argsort(-scores, kind="stable")
        aps = []
        for threshold in CONTRASTS:
            least = float(np.nextafter(threshold, 1))
            flags = voc_flags(values[order], inside[order], ignored, least)
            aps.append(Ranking(flags, images[order], truths))
        total = float(truths.sum())
        if not total:
            return Value(self.rule.zero, 0.0, 0.0)
        value = float(np.mean([r.average_precision("area") for r in aps]))
        interval = None
        if self.weights is not None:
            drawn = np.mean([r.resampled("area", self.weights) for r in aps], axis=0)
            drawn = drawn[np.isfinite(drawn)]
            interval = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))) if len(drawn) else None
        return Value(value, value * total, total, interval)

    def sky(self) -> Value:
        """IoU of the sky over all images that have both maps."""
        rows = np.stack([f.sky if (f.sky >= 0).all() else np.zeros(3, np.int64) for f in self.frames])
        return self.ratio(rows[:, 0], rows.sum(axis=1))

    def share(self, over: np.ndarray, under: np.ndarray) -> Value:
        """A proportion, with Wilson's interval."""
        a, b = float(over.sum()), float(under.sum())
        return Value(a / b if b else self.rule.zero, a, b, wilson(a, b) if self.intervals else None)

    def ratio(self, over: np.ndarray, under: np.ndarray) -> Value:
        """Sum over sum, with a bootstrap interval over images."""
        a, b = float(over.sum()), float(under.sum())
        interval = None
        if self.weights is not None:
            interval = bootstrap(self.weights, np.stack([over, under], axis=1), lambda s: s[:, 0] / s[:, 1])[0]
        return Value(a / b if b else self.rule.zero, a, b, interval)

    def rate(self, over: np.ndarray, under: np.ndarray) -> Value:
        """A ratio of rare events: the interval of zero events is a Poisson one; None where the size is unknown."""
        if not (under > 0).all() or not len(under):
            return Value(None, float(over.sum()), 0.0)
        found = self.ratio(over, under)
        if self.intervals and found.numerator == 0:
            return Value(found.value, 0.0, found.denominator, zero_rate(found.denominator))
        return found


def _covered(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area [N] of the part of each box inside of the image; of all of it where the size is unknown."""
    boxes = boxes.astype(np.float64)
    if size != (0, 0):
        height, width = size
        boxes = boxes.clip(0, [width, height, width, height])
    return box_areas(boxes).clip(0)
