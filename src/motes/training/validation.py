"""The score that selects the best weights, over all processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from motes.cards import Card
from motes.evaluation import score_samples
from motes.evaluation.classes import score_classes
from motes.metrics import ClassScore, SegmentationScore, Value, class_protocol
from motes.models.backend import TorchBackend
from motes.training.recipe import Recipe
from motes.training.selection import Frames


def validate(net: nn.Module, frames: Frames, card: Card, protocol: str, fabric: Fabric) -> dict[str, Value]:
    """The metrics of all of ``frames.val``, each process having done every world-th; equal to those of one process."""
    backend = TorchBackend(net, card, fabric.device)
    mine = frames.val[fabric.global_rank :: fabric.world_size]
    if frames.classes is None:
        score: Any = score_samples(backend, mine, protocol)
    else:
        score = score_classes(backend, mine, frames.classes, protocol)
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
    class_protocol(protocol)
    return ClassScore(card.classes).compute(intervals=False)
