"""One row of a leaderboard: what was scored, on what, by which rules, at what cost. Kept as a folder of two files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from motes.benchmark.box_standing import box_measurements
from motes.benchmark.latency import Timed
from motes.cards import list_models, model_card
from motes.classical import METHODS
from motes.data import Sample
from motes.errors import MotesError
from motes.evaluation.run import overlap
from motes.evaluation.score import predict
from motes.imaging import atomic_path
from motes.inference import Backend, Detector
from motes.interrupts import raise_swallowed_interrupt
from motes.metrics import BoxProtocol, Protocol, SegmentationScore
from motes.metrics.curves import SWEEP

KINDS = ("trained here", "published weights", "training-free")

RANKED_BY = {"irstd": "iou", "detection": "map12"}
"""The metric by which the rows of a task are sorted."""

UNFINISHED = 0.5
"""A network trained for less than this share of its recipe's epochs is listed apart."""


ARRAYS = ("masks", "score", "boxes", "curves")
"""Fields of a `Standing` that are kept in row.npz."""


@dataclass(frozen=True)
class Entrant:
    """Something to be scored: a label, the backend that runs it, and where its weights are from."""

    label: str
    backend: Backend
    kind: str
    sha256: str | None = None
    epochs: tuple[float, int] | None = None
    """Done, and those of its recipe; None where nothing was trained here."""
    params: int | None = None
    macs: int | None = None
    """Of one 256x256 frame; of a detector, 512x512."""


@dataclass(frozen=True)
class Standing:
    """One measured row. ``metrics`` are those of metrics.json, ``run`` says what was scored by which rules.

    For pictures: ``masks`` and ``score``, or of a detector ``boxes`` and ``curves``: `motes.benchmark.box_standing`.
    """

    label: str
    kind: str
    model: str
    variant: str | None
    data: str
    split: str | None
    run: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    key: str
    epochs: tuple[float, int] | None = None
    params: int | None = None
    macs: int | None = None
    ms: float | None = None
    warnings: tuple[str, ...] = ()
    task: str = "irstd"
    masks: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    score: SegmentationScore | None = field(default=None, repr=False)
    boxes: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def finished(self) -> bool:
        """Whether it may stand beside finished ones."""
        return self.epochs is None or self.epochs[0] >= UNFINISHED * self.epochs[1]

    def value(self, metric: str) -> float:
        """NaN where there is none."""
        value = self.metrics.get(metric, {}).get("value")
        return float("nan") if value is None else float(value)

    @property
    def rank(self) -> tuple[float, str]:
        """For sorting: best IoU (of detectors, mAP12) first, rows without one last."""
        value = self.value(RANKED_BY[self.task])
        return (2.0 if value != value else -value, self.label)


def stand(
    entrant: Entrant,
    samples: Sequence[Sample],
    data: str,
    split: str | None,
    rule: Protocol | BoxProtocol,
    folder: Path,
    shown: Sequence[str] = (),
    advance: Callable[[], object] | None = None,
) -> Standing:
    """Scores an entrant and keeps the row below ``folder``; what is there already for the same weights, frames and
    rules is read instead.

    Args:
        entrant: what to run.
        samples: frames with masks; for a detector with boxes or masks.
        data: name of the data set.
        split: name of its split.
        rule: the protocol; one of boxes for a detector.
        folder: ``row.json`` and ``row.npz`` go into a folder of the label's name below it.
        shown: names of frames of which is kept, for pictures, what was found.
        advance: called after every frame.
    """
    card = entrant.backend.card
    place = folder / slug(entrant.label)
    known = read_standing(place)
    key = fingerprint(entrant, samples, rule, shown)
    if known is not None and known.key == key:
        for _ in samples:
            if advance:
                advance()
        return replace(known, epochs=entrant.epochs)  # a training goes on while its best weights stay
    if isinstance(rule, BoxProtocol):
        measured = box_measurements(entrant.backend, samples, data, split, rule, entrant.sha256, shown, advance)
    else:
        measured = map_measurements(entrant, samples, rule, shown, advance)
    row = Standing(
        label=entrant.label,
        kind=entrant.kind,
        model=card.name,
        variant=card.variant,
        data=data,
        split=split,
        key=key,
        epochs=entrant.epochs,
        params=entrant.params,
        macs=entrant.macs,
        **measured,
    )
    write_standing(place, row)
    return row


def map_measurements(
    entrant: Entrant,
    samples: Sequence[Sample],
    rule: Protocol,
    shown: Sequence[str],
    advance: Callable[[], object] | None,
) -> dict[str, Any]:
    """The fields of a `Standing` that have to be measured, of a network or method that gives maps."""
    card, timer = entrant.backend.card, Timed(entrant.backend)
    detector, score = Detector(backend=timer), SegmentationScore(rule, sweep=SWEEP)
    masks, seconds = {}, []
    for sample in samples:
        raise_swallowed_interrupt()
        before = timer.seconds
        prediction = predict(detector, sample, rule)
        seconds.append(timer.seconds - before)
        score.update(prediction.probability, prediction.label, name=sample.name)
        if sample.name in shown:
            masks[sample.name] = prediction.probability > rule.target_threshold
        if advance:
            advance()
    return {
        "run": {**score.facts(), "weights_sha256": entrant.sha256, "options": dict(card.options)},
        "metrics": {k: asdict(v) for k, v in score.compute().items()},
        "ms": 1e3 * float(np.median(seconds)),
        "warnings": tuple(overlap(card, samples)),
        "masks": masks,
        "score": score,
    }


def published(name: str, data: str) -> list[Mapping[str, Any]]:
    """What others say of the network or training-free method ``name`` on this data set; nothing of a name that is
    neither."""
    if name in METHODS:
        rows = METHODS[name].published
    else:
        rows = model_card(name).published if name in list_models() else ()
    return [row for row in rows if plain(str(row.get("data"))) == plain(data)]


def plain(name: str) -> str:
    """A data set's name without case, dashes and underscores: ``NUDT-SIRST`` and ``nudt_sirst`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.") or "row"


def fingerprint(entrant: Entrant, samples: Sequence[Sample], rule: Protocol | BoxProtocol, shown: Sequence[str]) -> str:
    """Changes with the weights, the options, the frames and the rules."""
    card = entrant.backend.card
    facts = [entrant.label, entrant.sha256, card.to_dict(), asdict(rule), [s.name for s in samples], list(shown)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write_standing(place: Path, row: Standing) -> None:
    """``row.npz`` first: a row.json says that all is there."""
    groups = {"score": row.score.state() if row.score is not None else {}, "mask": row.masks, "boxes": row.boxes,
              "curve": row.curves}  # fmt: skip
    arrays = {f"{group}/{k}": v for group, values in groups.items() for k, v in values.items()}
    with atomic_path(place / "row.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    values = {k: v for k, v in vars(row).items() if k not in ARRAYS}
    with atomic_path(place / "row.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_standing(place: Path) -> Standing | None:
    """A kept row; None where there is none, or none that can be read."""
    try:
        values = json.loads((place / "row.json").read_text(encoding="utf-8"))
        groups: dict[str, dict[str, np.ndarray]] = {"mask": {}, "score": {}, "boxes": {}, "curve": {}}
        with np.load(place / "row.npz") as arrays:
            for name in arrays.files:
                group, _, key = name.partition("/")
                groups[group][key] = arrays[name]
        values["warnings"] = tuple(values["warnings"])
        values["epochs"] = tuple(values["epochs"]) if values["epochs"] else None
        score = SegmentationScore.from_state(groups["score"]) if values.get("task") != "detection" else None
        return Standing(**values, masks=groups["mask"], score=score, boxes=groups["boxes"], curves=groups["curve"])
    except (OSError, ValueError, KeyError, TypeError, MotesError):
        return None
