"""Scores of boxes against boxes: one accumulator for evaluation, training, files and several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from motes.errors import DataError
from motes.metrics.box_curves import BoxCurve
from motes.metrics.box_formulas import BoxFormulas, Frame, Matches, match
from motes.metrics.box_matching import proposal_ious
from motes.metrics.box_protocols import BoxProtocol, box_protocol
from motes.metrics.contrast import contrast_map, point_values
from motes.metrics.formulas import Value


class BoxScore:
    """Accumulates images and computes mAP, recall, COCO's AP by size, centre AP, NoCoAP, Pd and Fa under a protocol.

    Boxes are kept as they come, and images are sorted before anything is computed, so neither the order of images nor
    how they were spread over processes changes any value or interval.

    Args:
        protocol: a name of :data:`motes.metrics.box_protocols.BOX_PROTOCOLS` or a :class:`BoxProtocol`.
        classes: names by label.
        resamples: bootstrap resamples behind the intervals.
        seed: of the bootstrap.
    """

    COLUMNS = (
        *("image", "height", "width", "truths", "ignored", "detections", "hits", "false_alarms"),
        *("detected", "false_blobs", "sky_iou"),
    )
    """Columns of :meth:`per_image`."""

    def __init__(
        self,
        protocol: str | BoxProtocol = "exact",
        classes: Sequence[str] = ("target",),
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.protocol = box_protocol(protocol)
        self.classes = tuple(classes)
        self.resamples, self.seed = resamples, seed
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self._frames: list[Frame] = []
        self._sorted = True
        self._matches: dict[bool, dict[int, Matches]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [f.name for f in self._frames]

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        truth_boxes: np.ndarray,
        truth_labels: np.ndarray,
        ignored: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
        name: str | None = None,
        *,
        image: np.ndarray | None = None,
        sky: np.ndarray | None = None,
        truth_sky: np.ndarray | None = None,
    ) -> None:
        """Add one image. All boxes are xyxy px of the original image, half-open.

        Args:
            boxes: [N, 4] detections, in any order.
            scores: [N] in [0, 1].
            labels: [N] class numbers from 0.
            truth_boxes: [M, 4], read as the protocol's ``reader`` says.
            truth_labels: [M].
            ignored: bool [M], truths that are neither to be found nor false alarms; default: none.
            size: (height, width) of the image, px; Fa needs it.
            name: for the per-image table.
            image: [H, W] or [H, W, C] counts, for mNoCoAP (the mean of the channels), which needs that of every image.
            sky: [H, W] probability of sky, or bool.
            truth_sky: [H, W], 1 sky, 0 other, 255 not counted.

        Raises:
            DataError: wrong shapes, numbers that are not finite, boxes upside down, scores outside [0, 1].
        """
        where = f" of '{name}'" if name else ""
        boxes, labels = _boxes(boxes, f"detections{where}"), _column(labels, np.int64, f"labels{where}")
        scores = _column(scores, np.float32, f"scores{where}")
        truths = _boxes(truth_boxes, f"truths{where}")
        truth_labels = _column(truth_labels, np.int64, f"truth labels{where}")
        aside = _column(np.zeros(len(truths)) if ignored is None else ignored, np.bool_, f"ignored{where}")
        for what, count, column in (
            ("scores", len(boxes), scores),
            ("labels", len(boxes), labels),
            ("truth labels", len(truths), truth_labels),
            ("marks of ignored truths", len(truths), aside),
        ):
            if len(column) != count:
                raise DataError(f"{count} boxes{where} come with {len(column)} {what}, expected as many")
        if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
            raise DataError(f"scores{where} from {scores.min():g} to {scores.max():g}, expected 0 to 1")
        if image is not None and size is None:
            size = (int(image.shape[0]), int(image.shape[1]))
        values, inside = _contrast(boxes, truths, image)
        self._frames.append(
            Frame(
                *(name or "", size or (0, 0), image is not None, boxes, scores, labels, values, inside),
                *(truths, truth_labels, aside, _sky(sky, truth_sky, where)),
            )
        )
        self._changed()

    def merge(self, other: BoxScore) -> BoxScore:
        """Add the images of ``other`` (same protocol and classes); returns self."""
        if other.protocol != self.protocol or other.classes != self.classes:
            raise DataError(
                f"cannot merge scores of protocols '{self.protocol.name}' and '{other.protocol.name}' with classes "
                f"{', '.join(self.classes)} and {', '.join(other.classes)}",
                "score every shard with the same protocol, threshold and classes",
            )
        self._frames.extend(other._frames)
        self._changed()
        return self

    def compute(self, intervals: bool = True, coco: bool = True) -> dict[str, Value]:
        """Every metric by key. Without ``intervals`` the bootstrap is skipped (validation while training), without
        ``coco`` the AP of COCO's rule, which takes longest."""
        frames = self._images()
        resamples = self.resamples if intervals else 0
        matches = self._matched(coco)
        return BoxFormulas(frames, matches, self.protocol, self.classes, coco, resamples, self.seed).values()

    def curve(self, iou: float | None = None, label: int = 0) -> BoxCurve:
        """Precision over recall of a class by VOC's rule, at ``iou`` or the protocol's."""
        found = self._matched(coco=False).get(label)
        if found is None:
            found = match(self._images(), label, self.protocol, coco=False)
        return found.voc(self.protocol.iou if iou is None else iou).curve(found.scores)

    def average_precision(self, mode: Any = "area", iou: float | None = None) -> dict[int, float]:
        """AP by VOC's rule of every class that occurs, NaN without truths; ``area``, ``11points`` or ``101points``."""
        at = self.protocol.iou if iou is None else iou
        return {label: m.voc(at).average_precision(mode) for label, m in self._matched(coco=False).items()}

    def proposal_recall(self, counts: Sequence[int], overlaps: Sequence[float], label: int = 0) -> np.ndarray:
        """Share of truths, of whatever class, that the best detections of one class reach: [counts, overlaps].

        For each count n, the n best detections of each image are paired one-to-one with its truths, the pair of highest
        IoU first. mmdetection's ``eval_recalls``.
        """
        rows = []
        for n in counts:
            ious = [np.zeros(0)]
            for f in self._images():
                mine = np.flatnonzero(f.labels == label)
                best = mine[np.argsort(-f.scores[mine], kind="stable")[:n]]
                ious.append(proposal_ious(f.boxes[best], f.truths[~f.ignored], self.protocol.plus_one))
            every = np.concatenate(ious)
            rows.append([float((every >= t).mean()) if len(every) else 0.0 for t in overlaps])
        return np.array(rows)

    def per_image(self) -> list[dict[str, float | str | None]]:
        """One row an image, by name: truths, detections, hits by VOC's rule, targets found at the score threshold."""
        frames = self._images()
        counts = np.zeros((4, len(frames)), np.int64)
        for m in self._matched(coco=False).values():
            flags, shown = m.voc(self.protocol.iou).flags, m.scores >= self.protocol.threshold
            chosen = (flags > 0, flags < 0, shown & (m.centre > 0), shown & (m.centre < 0))
            counts += np.stack([np.bincount(m.images[c], minlength=len(frames)) for c in chosen])
        rows: list[dict[str, float | str | None]] = []
        for f, column in zip(frames, counts.T.tolist(), strict=True):
            sky = float(f.sky[0] / f.sky.sum()) if (f.sky >= 0).all() and f.sky.sum() else None
            shape = f.size if f.size != (0, 0) else (None, None)
            truths, ignored = int((~f.ignored).sum()), int(f.ignored.sum())
            values = (f.name, *shape, truths, ignored, len(f.boxes), *column, sky)
            rows.append(dict(zip(self.COLUMNS, values, strict=True)))
        return rows

    def flags(self) -> dict[str, np.ndarray]:
        """Name -> int8 [N], for each detection in the order it was given: 1 hit, -1 false alarm, 0 not counted."""
        frames = self._images()
        out = [np.zeros(len(f.boxes), np.int8) for f in frames]
        for m in self._matched(coco=False).values():
            flags = m.voc(self.protocol.iou).flags
            for image, row, flag in zip(m.images.tolist(), m.rows.tolist(), flags.tolist(), strict=True):
                out[image][row] = flag
        return {f.name: o for f, o in zip(frames, out, strict=True)}

    def facts(self) -> dict[str, Any]:
        """What was scored and by which rules, for ``run`` in metrics.json."""
        rule = self.protocol
        return {
            "protocol": rule.name,
            "plus_one": rule.plus_one,
            "reader": rule.reader,
            "iou": rule.iou,
            "threshold": rule.threshold,
            "distance": rule.distance,
            "classes": list(self.classes),
            "images": len(self),
            "images_without_target": sum(bool(f.ignored.all()) for f in self._frames),
            "targets": sum(int((~f.ignored).sum()) for f in self._frames),
            "ignored": sum(int(f.ignored.sum()) for f in self._frames),
            "detections": sum(len(f.boxes) for f in self._frames),
            "pixels": sum(f.size[0] * f.size[1] for f in self._frames),
        }

    def state(self) -> dict[str, np.ndarray]:
        """Everything seen so far, as plain arrays: gather it from every process, save it by ``numpy.savez``."""
        frames = self._images()
        rule = self.protocol

        def joined(name: str, dtype: Any, *shape: int) -> np.ndarray:
            return np.concatenate([np.zeros((0, *shape), dtype), *(getattr(f, name) for f in frames)])

        return {
            "boxes_of": np.array(rule.name),
            "rule": np.array([rule.iou, rule.threshold, rule.distance, rule.most]),
            "classes": np.array(self.classes, dtype=np.str_),
            "names": np.array([f.name for f in frames], dtype=np.str_),
            "sizes": np.array([f.size for f in frames], np.int64).reshape(-1, 2),
            "pictured": np.array([f.pictured for f in frames], bool),
            "sky": np.array([f.sky for f in frames], np.int64).reshape(-1, 3),
            "counts": np.array([(len(f.boxes), len(f.truths)) for f in frames], np.int64).reshape(-1, 2),
            "boxes": joined("boxes", np.float32, 4),
            "scores": joined("scores", np.float32),
            "labels": joined("labels", np.int64),
            "values": joined("values", np.float64),
            "inside": joined("inside", np.int64),
            "truths": joined("truths", np.float32, 4),
            "truth_labels": joined("truth_labels", np.int64),
            "ignored": joined("ignored", np.bool_),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], protocol: str | BoxProtocol | None = None) -> BoxScore:
        """The score whose :meth:`state` this is. A protocol that is not one of the named ones has to be given."""
        rule = box_protocol(protocol or str(state["boxes_of"]))
        iou, threshold, distance, most = (float(v) for v in state["rule"])
        rule = replace(rule, iou=iou, threshold=threshold, distance=distance, most=int(most))
        score = cls(rule, [str(c) for c in state["classes"]])
        found, truths = (np.r_[0, np.cumsum(state["counts"][:, k])].tolist() for k in (0, 1))
        for i, name in enumerate(state["names"]):
            a, b = slice(found[i], found[i + 1]), slice(truths[i], truths[i + 1])
            height, width = (int(v) for v in state["sizes"][i])
            columns = {k: state[k][a] for k in ("boxes", "scores", "labels", "values", "inside")}
            columns |= {k: state[k][b] for k in ("truths", "truth_labels", "ignored")}
            pictured = bool(state["pictured"][i])
            score._frames.append(Frame(str(name), (height, width), pictured, sky=state["sky"][i], **columns))
        score._changed()
        return score

    def _changed(self) -> None:
        self._sorted = False
        self._matches = {}

    def _images(self) -> list[Frame]:
        if not self._sorted:
            self._frames.sort(key=Frame.key)
            self._sorted = True
        return self._frames

    def _matched(self, coco: bool) -> dict[int, Matches]:
        """Matches of every class that occurs; those with COCO's flags serve for all."""
        if not coco and False in self._matches:
            return self._matches[False]
        if True not in self._matches or (not coco and not self._matches):
            frames = self._images()
            labels = {int(c) for f in frames for c in np.unique(np.r_[f.labels, f.truth_labels]).tolist()}
            found = {c: match(frames, c, self.protocol, coco) for c in sorted(labels)}
            self._matches = {coco: found, False: found}
        return self._matches[coco]


def _boxes(values: Any, what: str) -> np.ndarray:
    boxes = np.asarray(values, np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{what}: boxes of shape {list(boxes.shape)}, expected [N, 4] (x1, y1, x2, y2)")
    if not np.isfinite(boxes).all():
        raise DataError(f"{what}: boxes with numbers that are not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        i = int(np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))[0])
        corners = ", ".join(f"{v:g}" for v in boxes[i])
        raise DataError(f"{what}: box {i + 1} is ({corners}), expected x1 <= x2 and y1 <= y2")
    return boxes


def _column(values: Any, dtype: Any, what: str) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim != 1 and column.size:
        raise DataError(f"{what}: expected one number a box, found an array of shape {list(column.shape)}")
    return column.reshape(-1).astype(dtype)


def _contrast(boxes: np.ndarray, truths: np.ndarray, image: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if image is None:
        return np.zeros(len(boxes)), np.full(len(boxes), -1)
    plane = np.asarray(image, np.float64)
    plane = plane.mean(axis=2) if plane.ndim == 3 else plane
    centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
    return point_values(centres, contrast_map(plane, truths), truths)


def _sky(sky: np.ndarray | None, truth: np.ndarray | None, where: str) -> np.ndarray:
    if sky is None or truth is None:
        return np.full(3, -1, np.int64)
    if sky.shape != truth.shape:
        raise DataError(f"the sky map{where} is {sky.shape}, its truth {truth.shape}, expected the same [H, W]")
    found, known, there = sky > 0.5, truth != 255, truth == 1
    counts = (found & there & known, found & ~there & known, ~found & there & known)
    return np.array([np.count_nonzero(c) for c in counts], np.int64)
