"""Class maps of a backend over a data set: score, tables, pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motes.data import Sample
from motes.data.classes import ClassTable
from motes.data.cutting import boxes, crop, is_whole, patch_name
from motes.data.labels import read_labels, write_labels
from motes.data.windows import different_sizes
from motes.errors import DataError
from motes.evaluation.class_gallery import ClassGallery
from motes.evaluation.run import overlap, what_ran
from motes.imaging import image_size, resize
from motes.inference.backend import Backend
from motes.inference.class_run import background_of, id_order, open_image
from motes.inference.segmenter import Segmenter
from motes.interrupts import raise_swallowed_interrupt
from motes.metrics import ClassProtocol, ClassScore, Value, class_protocol
from motes.metrics.report import write_metrics, write_per_image


@dataclass(frozen=True)
class ClassEvaluation:
    """``metrics`` by key, and ``run``: everything a reader must know beside them."""

    score: ClassScore
    metrics: dict[str, Value]
    run: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class ClassPrediction:
    """One image or patch at the size it is scored at: counts [H, W, C], ids of prediction and label [H, W] uint8."""

    name: str
    pixels: np.ndarray
    prediction: np.ndarray
    label: np.ndarray


def evaluate_classes(
    backend: Backend,
    samples: Sequence[Sample],
    table: ClassTable,
    *,
    data: str,
    split: str | None,
    rule: str | ClassProtocol = "native",
    weights_sha256: str | None = None,
    masks: Mapping[str, Path] | None = None,
    out: Path | None = None,
    show: Path | None = None,
    labels: bool = False,
    batch: int = 1,
    advance: Callable[[], object] | None = None,
) -> ClassEvaluation:
    """Scores ``samples`` and writes ``out``/metrics.json and per_image.csv.

    Args:
        backend: what runs the network.
        samples: images with masks.
        table: the classes of the masks; it has all classes of the network, in whatever order.
        data: name of the data set, for the record.
        split: name of the split, for the record.
        rule: the protocol.
        weights_sha256: of the weight file, for the record.
        masks: other mask files for some samples, by name.
        out: folder of the tables; None writes none.
        show: folder of overlays/ and gallery.png; None draws none.
        labels: also write ``out``/labels/<name>.png, the predicted ids.
        batch: windows that run at once.
        advance: called after every sample.

    Raises:
        DataError: a sample without a mask or with one of another size, before anything runs.
    """
    rule = class_protocol(rule)
    samples = [dataclasses.replace(s, mask=(masks or {}).get(s.name, s.mask)) for s in samples]
    check_pairs(samples)
    background = background_of(table.names)
    gallery = ClassGallery(show, table.names, background) if show is not None else None

    def each(found: ClassPrediction) -> None:
        if gallery is not None:
            gallery.add(found.name, found.pixels, found.prediction, found.label)
        if labels and out is not None:
            write_labels(out / "labels" / f"{found.name}.png", found.prediction)

    score = score_classes(backend, samples, table, rule, each, batch=batch, advance=advance)
    metrics = score.compute()
    warnings = overlap(backend.card, samples)
    run = {
        "data": data,
        "split": split,
        **score.facts(),
        "class_table": table.name,
        "protocol": rule.name,
        "rules": _plain(rule),
        **what_ran(backend.card, weights_sha256),
        "masks": {name: str(path) for name, path in (masks or {}).items()},
        "warnings": warnings,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_metrics(out / "metrics.json", run, metrics)
        write_per_image(out / "per_image.csv", score)
    if gallery is not None:
        gallery.write()
    return ClassEvaluation(score, metrics, run, warnings)


def score_classes(
    backend: Backend,
    samples: Iterable[Sample],
    table: ClassTable,
    rule: str | ClassProtocol = "native",
    each: Callable[[ClassPrediction], object] | None = None,
    *,
    batch: int = 1,
    advance: Callable[[], object] | None = None,
) -> ClassScore:
    """The accumulated score of a backend.

    Args:
        backend: what runs the network.
        samples: images with masks.
        table: the classes of the masks.
        rule: a protocol or its name; it fixes windows or patches, and the size at which they are scored.
        each: called with every image (or patch), for tables and pictures.
        batch: windows that run at once.
        advance: called after every sample.
    """
    segmenter = Segmenter(backend=backend, protocol=rule, batch=batch)
    background = background_of(table.names)
    score = ClassScore(table.names, table.ignore, background=background)
    for sample in samples:
        raise_swallowed_interrupt()
        for found in predict_classes(segmenter, sample, table):
            score.update(found.prediction, found.label, found.name)
            if each is not None:
                each(found)
        if advance is not None:
            advance()
    return score


def predict_classes(segmenter: Segmenter, sample: Sample, table: ClassTable) -> Iterator[ClassPrediction]:
    """The class map of a sample, or of each of its patches where the protocol cuts, in the ids of ``table``.

    Raises:
        DataError: the sample has no mask, or one of another size.
        ImageError: a file cannot be read.
    """
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask, so it cannot be scored")
    rule, order = segmenter.rule, id_order(segmenter.names, table)
    image, label = open_image(sample.image), read_labels(sample.mask, table)
    if label.shape != image.size:
        raise DataError(
            different_sizes(sample, image.size, (label.shape[0], label.shape[1])),
            "`motes data check` lists all such pairs",
        )
    cuts = boxes(image.size, *rule.cut) if rule.cut is not None else [(0, 0, image.size[1], image.size[0])]
    for box in cuts:
        whole = is_whole(box, image.size)
        name = sample.name if whole else patch_name(sample.name, box)
        # a whole large TIFF stays in its file; a patch is cropped from it
        pixels: Any = image.pixels if whole else crop(np.asarray(image.pixels), box)
        truth = label if whole else crop(label, box, table.ignore)
        if rule.scored_at == "resolution" and rule.resolution is not None:
            pixels = resize(np.asarray(pixels), rule.resolution, rule.image_filter)
            truth = resize(truth, rule.resolution, "nearest")
        ids = segmenter.labels(pixels)
        yield ClassPrediction(name, pixels, ids if order is None else order[ids], truth)


def check_pairs(samples: Sequence[Sample]) -> None:
    """Raises DataError for the first sample without a mask, or with one of another size, by their headers alone: an
    evaluation that takes hours does not end over its last mask."""
    bare = [s for s in samples if s.mask is None]
    if bare:
        raise DataError(
            f"{bare[0].image} has no mask, so it cannot be scored"
            + (f"; so have {len(bare) - 1} others of {len(samples)}" if len(bare) > 1 else ""),
            "choose a split with masks by --split, or `motes predict`",
        )
    for sample in samples:
        assert sample.mask is not None
        image, mask = image_size(sample.image), image_size(sample.mask)
        if image != mask:
            raise DataError(different_sizes(sample, image, mask), "`motes data check` lists all such pairs")


def _plain(rule: ClassProtocol) -> dict[str, Any]:
    values = dataclasses.asdict(rule)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k not in ("name", "title")}
