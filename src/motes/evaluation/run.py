"""One evaluation: score, what it was scored on, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motes.cards import Card
from motes.data import Sample
from motes.data.scan import digest
from motes.evaluation.gallery import Gallery
from motes.evaluation.score import Prediction, score_samples
from motes.imaging import read_image, write_image
from motes.inference.backend import Backend
from motes.metrics import Protocol, SegmentationScore, Value, protocol
from motes.metrics.report import write_metrics, write_per_image


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` by key, and ``run``: everything a reader must know beside them."""

    score: SegmentationScore
    metrics: dict[str, Value]
    run: dict[str, Any]
    warnings: list[str]


def evaluate(
    backend: Backend,
    samples: Sequence[Sample],
    *,
    data: str,
    split: str | None,
    rule: str | Protocol = "native",
    weights_sha256: str | None = None,
    masks: Mapping[str, Path] | None = None,
    out: Path | None = None,
    show: Path | None = None,
    probabilities: bool = False,
    advance: Callable[[], object] | None = None,
) -> Evaluation:
    """Scores ``samples`` and writes ``out``/metrics.json and per_image.csv.

    Args:
        backend: what runs the network.
        samples: frames with masks.
        data: name of the data set, for the record.
        split: name of the split, for the record.
        rule: the protocol.
        weights_sha256: of the weight file, for the record.
        masks: other mask files for some samples, by name.
        out: folder of the tables; None writes none.
        show: folder of overlays/ and gallery.png; None draws none.
        probabilities: also write ``out``/probabilities/<name>.tif (float32), for ``motes plot``.
        advance: called after every frame.
    """
    rule = protocol(rule)
    gallery = Gallery(show, rule) if show is not None else None

    def each(prediction: Prediction) -> None:
        if gallery is not None:
            gallery.add(prediction)
        if probabilities and out is not None:
            write_image(out / "probabilities" / f"{prediction.sample.name}.tif", prediction.probability)
        if advance is not None:
            advance()

    if probabilities and out is not None:
        (out / "probabilities").mkdir(parents=True, exist_ok=True)
    score = score_samples(backend, samples, rule, each, masks)
    metrics = score.compute()
    warnings = overlap(backend.card, samples)
    run = {
        "data": data,
        "split": split,
        **score.facts(),
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
    return Evaluation(score, metrics, run, warnings)


def what_ran(card: Card, weights_sha256: str | None) -> dict[str, Any]:
    """The network and its training, for ``run`` in metrics.json."""
    return {
        "model": card.name,
        "variant": card.variant,
        "form": card.form,
        "options": dict(card.options),
        "weights_sha256": weights_sha256,
        "training": {k: v for k, v in card.training.items() if k != "frames"},
    }


def overlap(card: Card, samples: Sequence[Sample]) -> list[str]:
    """Warns of frames that the weights were trained on, recognised by their content."""
    trained = set(card.training.get("frames", ()))
    if not trained:
        return []
    known = [s.name for s in samples if digest(read_image(s.image).pixels)[:12] in trained]
    if not known:
        return []
    return [
        f"{len(known)} of {len(samples)} frames were trained on, for instance {known[0]}: these numbers are too good"
    ]
