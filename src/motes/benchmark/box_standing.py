"""What a detector gives for its row of a leaderboard: numbers, curves, boxes for pictures, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from motes.benchmark.complexity import complexity
from motes.benchmark.latency import Timed
from motes.benchmark.published_cost import SIDE
from motes.cards import Card, list_models
from motes.checkpoints.loading import own_options
from motes.data import Sample
from motes.evaluation.boxes import evaluate_boxes
from motes.inference import Backend, BoxDetector
from motes.metrics import BoxProtocol, BoxScore
from motes.metrics.box_matching import centre_flags
from motes.models import create_model


def box_measurements(
    backend: Backend,
    samples: Sequence[Sample],
    data: str,
    split: str | None,
    rule: BoxProtocol,
    weights_sha256: str | None,
    shown: Sequence[str] = (),
    advance: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """The fields of a `motes.benchmark.standing.Standing` that have to be measured.

    No box of the truth is among them: rows are published with their page, annotations are not ours.

    Args:
        backend: runs a detector.
        samples: frames with boxes, or with masks.
        data: name of the data set, for the record.
        split: name of its split, for the record.
        rule: the protocol.
        weights_sha256: of the weight file, for the record.
        shown: names of frames whose boxes are kept for pictures.
        advance: called after every frame.

    Raises:
        DataError: frames with neither boxes nor masks, or classes that the network does not know.
    """
    timer = Timed(backend)
    times = [0.0]

    def each() -> None:
        times.append(timer.seconds)
        if advance:
            advance()

    found = evaluate_boxes(
        BoxDetector(backend=timer), samples, data=data, split=split, rule=rule, weights_sha256=weights_sha256,
        contrast=False, advance=each,
    )  # fmt: skip
    return {
        "task": "detection",
        "run": {k: v for k, v in found.run.items() if k != "warnings"},
        "metrics": {k: asdict(v) for k, v in found.metrics.items()},
        "ms": 1e3 * float(np.median(np.diff(times))),
        "warnings": tuple(found.warnings),
        "boxes": kept_boxes(found.score, shown),
        "curves": curves(found.score),
    }


def curves(score: BoxScore) -> dict[str, np.ndarray]:
    """``recall`` and ``precision`` [N] of the first class at the protocol's IoU, and ``alarms`` [M] a frame with
    ``pd`` [M], hits by centre, of all classes; best score first."""
    curve = score.curve()
    alarms, pd = alarm_curve(score)
    return {
        name: values.astype(np.float32)
        for name, values in {"recall": curve.recall, "precision": curve.precision, "alarms": alarms, "pd": pd}.items()
    }


def alarm_curve(score: BoxScore) -> tuple[np.ndarray, np.ndarray]:
    """False alarms a frame and Pd of every score threshold, highest first: the curve that ``pd@1`` is a point of."""
    state, distance = score.state(), score.protocol.distance
    ends = np.cumsum(state["counts"], axis=0)
    scores, flags = [np.zeros(0)], [np.zeros(0)]
    for (d1, t1), (d, t) in zip(ends.tolist(), state["counts"].tolist(), strict=True):
        found, truths = slice(d1 - d, d1), slice(t1 - t, t1)
        for label in np.unique(state["labels"][found]).tolist():
            rows = np.flatnonzero(state["labels"][found] == label) + found.start
            rows = rows[np.argsort(-state["scores"][rows], kind="stable")]
            mine = np.flatnonzero(state["truth_labels"][truths] == label) + truths.start
            mine = mine[np.argsort(state["ignored"][mine], kind="stable")]
            flags.append(centre_flags(state["boxes"][rows], state["truths"][mine], state["ignored"][mine], distance))
            scores.append(state["scores"][rows])
    every, flag = np.concatenate(scores), np.concatenate(flags)
    order = np.argsort(-every, kind="stable")
    last = np.flatnonzero(np.diff(every[order], append=-np.inf))  # equal scores come together
    total = max(int((~state["ignored"]).sum()), 1)
    hits, false = (np.cumsum(flag[order] == f)[last] for f in (1, -1))
    return false / max(len(score), 1), hits / total


def kept_boxes(score: BoxScore, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> what was found there, float32 [N, 5]: x1, y1, x2, y2 (px), score."""
    state = score.state()
    rows = np.concatenate([state["boxes"], state["scores"][:, None]], axis=1)
    parts = np.split(rows, np.cumsum(state["counts"][:, 0])[:-1]) if len(score) else []
    return {str(n): part for n, part in zip(state["names"], parts, strict=True) if n in names}


def box_cost(card: Card, net: nn.Module | None = None) -> tuple[int | None, int | None]:
    """Parameters, and multiply-accumulates of a frame of 512x512 px, as the published table counts them.

    Args:
        card: of the weights.
        net: the network; None: one like it is made, without memory.
    """
    if net is None:
        if card.name not in list_models("detection"):
            return None, None
        with torch.device("meta"):
            options = own_options(card, card.name, card.variant)
            net = create_model(card.name, card.variant, card.input.channels, len(card.classes), **options)
    params = sum(p.numel() for p in net.parameters())
    return params, complexity(net, SIDE, SIDE).macs if (card.input.max_size or SIDE) >= SIDE else None
