"""The score that selects the best weights, over all processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from motes.cards import Card
from motes.data.annotations import noted
from motes.evaluation import score_samples
from motes.evaluation.boxes import score_boxes
from motes.evaluation.classes import score_classes
from motes.inference.box_detector import BoxDetector
from motes.metrics import BoxScore, ClassScore, SegmentationScore, Value, class_protocol
from motes.models.backend import TorchBackend
from motes.training.recipe import Recipe
from motes.training.selection import Frames


def validate(net: nn.Module, frames: Frames, card: Card, recipe: Recipe, fabric: Fabric) -> dict[str, Value]:
    """The metrics of all of ``frames.val``, each process having done every world-th; equal to those of one process."""
    mine, protocol = frames.val[fabric.global_rank :: fabric.world_size], recipe.validation.protocol
    score: Any
    if frames.boxes is not None:
        read = card.replace(training={**card.training, "reader": frames.boxes.reader})
        backend = TorchBackend(net, read, fabric.device)
        detector = BoxDetector(backend=backend, size=recipe.transform.resize)
        with noted():
            score = score_boxes(detector, mine, protocol, contrast=False)
    elif frames.classes is not None:
        score = score_classes(TorchBackend(net, card, fabric.device), mine, frames.classes, protocol)
    else:
        score = score_samples(TorchBackend(net, card, fabric.device), mine, protocol)
    if fabric.world_size > 1:
        states: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(states, score.state())
        score, *others = (type(score).from_state(state) for state in states)
        for other in others:
            score.merge(other)
    values: dict[str, Value] = score.compute(intervals=False)
    return values


def known_metrics(recipe: Recipe, card: Card) -> Iterable[str]:
    """What ``validation.metric`` may be; MotesError for an unknown protocol."""
    protocol = recipe.validation.protocol
    if card.task == "irstd":
        return SegmentationScore(protocol).compute(intervals=False)
    if card.task == "detection":
        return BoxScore(protocol).compute(intervals=False)
    class_protocol(protocol)
    return ClassScore(card.classes).compute(intervals=False)
