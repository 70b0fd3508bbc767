"""Boxes of a detector over a data set: score, tables, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from motes.cards import Card
from motes.data import Sample
from motes.data.annotations import Truth, check_sky, noted, read_boxes, read_sky, reader_shift
from motes.errors import DataError
from motes.evaluation.box_gallery import BoxGallery
from motes.evaluation.run import overlap, what_ran
from motes.imaging import read_image, resize
from motes.interrupts import raise_swallowed_interrupt
from motes.metrics import BoxProtocol, BoxScore, Value, box_protocol
from motes.metrics.box_report import write_box_curves
from motes.metrics.report import write_metrics, write_per_image


class BoxSource(Protocol):
    """Anything that finds boxes in an image."""

    card: Card

    def boxes(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Counts [H, W, C] -> boxes [N, 4] xyxy px of the image, half-open; scores [N]; labels [N], index into
        ``card.classes``; and the probability of sky [H, W], or None where there is no such output."""
        ...


@dataclass(frozen=True)
class BoxEvaluation:
    """``metrics`` by key, and ``run``: everything a reader must know beside them."""

    score: BoxScore
    metrics: dict[str, Value]
    run: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class BoxPrediction:
    """One image: counts [H, W, C], what was found, what is there (both in px of the image), and both sky maps."""

    name: str
    pixels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    truth: Truth
    sky: np.ndarray | None
    truth_sky: np.ndarray | None


def evaluate_boxes(
    source: BoxSource,
    samples: Sequence[Sample],
    *,
    data: str,
    split: str | None,
    rule: str | BoxProtocol = "exact",
    weights_sha256: str | None = None,
    out: Path | None = None,
    show: Path | None = None,
    contrast: bool = True,
    advance: Callable[[], object] | None = None,
) -> BoxEvaluation:
    """Scores ``samples`` and writes ``out``/metrics.json, per_image.csv and curves.json.

    Args:
        source: what finds boxes.
        samples: images with boxes, or with masks, whose targets' bounding boxes are taken.
        data: name of the data set, for the record.
        split: name of the split, for the record.
        rule: the protocol.
        weights_sha256: of the weight file, for the record.
        out: folder of the tables; None writes none.
        show: folder of overlays/, gallery.png and pr.png; None draws none.
        contrast: also compute mNoCoAP.
        advance: called after every sample.

    Raises:
        DataError: bad boxes, or a class that the network does not know, before anything runs; a sky map of another size
            after the first image, if the network gives one.
    """
    rule = box_protocol(rule)
    with noted() as notes:
        check_truth(samples, source.card, rule)
    gallery = BoxGallery(show, rule, source.card.classes) if show is not None else None
    bare: int | None = None

    def each(found: BoxPrediction) -> None:
        nonlocal bare
        if found.sky is not None and bare is None:
            bare = _without_sky(samples)
        if gallery is not None:
            gallery.add(found.name, found.pixels, found.boxes, found.scores, found.labels, found.truth)
        if advance is not None:
            advance()

    with noted():  # they are known
        score = score_boxes(source, samples, rule, each, contrast=contrast)
    metrics = score.compute()
    warnings = [*overlap(source.card, samples), *_gathered(notes)]
    if bare:
        others = "sky IoU is that of the others" if bare < len(samples) else "so there is no sky IoU"
        warnings.append(f"{bare} of {len(samples)} images have no sky map: {others}")
    trained = trained_reader(source.card)
    if trained != rule.reader:
        warnings.append(
            f"trained on corners of reader '{trained}', scored with '{rule.reader}': the boxes found were moved from "
            "the one to the other"
        )
    run = {
        "data": data,
        "split": split,
        **score.facts(),
        "resolution": list(rule.resolution) if rule.resolution else None,
        "trained_reader": trained,
        **what_ran(source.card, weights_sha256),
        "warnings": warnings,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_metrics(out / "metrics.json", run, metrics)
        write_per_image(out / "per_image.csv", score)
        write_box_curves(out / "curves.json", score)
    if gallery is not None:
        warnings += gallery.write(score)
    return BoxEvaluation(score, metrics, run, warnings)


def score_boxes(
    source: BoxSource,
    samples: Iterable[Sample],
    rule: str | BoxProtocol = "exact",
    each: Callable[[BoxPrediction], object] | None = None,
    *,
    contrast: bool = True,
) -> BoxScore:
    """The accumulated score of a detector.

    Args:
        source: what finds boxes.
        samples: images with boxes or masks.
        rule: a protocol or its name; it fixes how the truth is read and the size at which the network runs.
        each: called with every prediction, for tables and pictures.
        contrast: also count what mNoCoAP needs.
    """
    score = BoxScore(rule, source.card.classes)
    for sample in samples:
        raise_swallowed_interrupt()
        found = predict_boxes(source, sample, score.protocol)
        height, width = found.pixels.shape[:2]
        score.update(
            found.boxes, found.scores, found.labels, *found.truth, size=(height, width), name=sample.name,
            image=found.pixels if contrast else None, sky=found.sky, truth_sky=found.truth_sky,
        )  # fmt: skip
        if each is not None:
            each(found)
    return score


def predict_boxes(source: BoxSource, sample: Sample, rule: str | BoxProtocol = "exact") -> BoxPrediction:
    """The boxes of one sample in px of its image, in the coordinates in which the protocol reads the truth."""
    rule = box_protocol(rule)
    truth = read_boxes(sample, source.card.classes, rule.reader)
    pixels = read_image(sample.image).pixels
    height, width = pixels.shape[:2]
    seen = pixels if rule.resolution is None else resize(pixels, rule.resolution, rule.image_filter)
    boxes, scores, labels, sky = source.boxes(seen)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if rule.resolution is not None:
        tall, wide = rule.resolution
        boxes = boxes * np.array([width / wide, height / tall] * 2)
        sky = None if sky is None else resize(np.asarray(sky, np.float32), (height, width), "bilinear")
    trained = trained_reader(source.card)
    if trained != rule.reader:
        boxes = boxes + reader_shift(sample, rule.reader) - reader_shift(sample, trained)
    truth_sky = read_sky(sample) if sky is not None and sample.sky is not None else None
    return BoxPrediction(sample.name, pixels, boxes, np.asarray(scores), np.asarray(labels), truth, sky, truth_sky)


def trained_reader(card: Card) -> str:
    """How the corners were read that a network learned: ``training.reader`` of its card, else ``exact``."""
    return str(card.training.get("reader", "exact"))


def check_truth(samples: Sequence[Sample], card: Card, rule: BoxProtocol) -> None:
    """Raises DataError for the first sample whose boxes cannot be used: an evaluation of hours does not end over its
    last file."""
    bare = [s for s in samples if s.boxes is None and s.mask is None]
    if bare:
        more = f"; so have {len(bare) - 1} others of {len(samples)}" if len(bare) > 1 else ""
        raise DataError(f"{bare[0].image} has neither boxes nor a mask, so it cannot be scored{more}")
    for sample in samples:
        if sample.boxes is not None:
            read_boxes(sample, card.classes, rule.reader)


def _without_sky(samples: Sequence[Sample]) -> int:
    """How many have no sky map; DataError for the first one of another size than its image."""
    for sample in samples:
        check_sky(sample)
    return sum(sample.sky is None for sample in samples)


def _gathered(notes: Sequence[str]) -> list[str]:
    return [*notes[:3], *([f"and {len(notes) - 3} more of this kind"] if len(notes) > 3 else [])]
