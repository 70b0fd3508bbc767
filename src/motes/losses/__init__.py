"""Losses by name: ``create_loss("soft_iou", per_image=True)``.

Every loss is a module called with the network's outputs (one tensor [B, K, H, W] or a tuple of them, the
deep-supervision outputs of the training form) and a target of the same shape with values in [0, 1] (``cross_entropy``:
integer labels [B, H, W]); it returns a scalar. All compute in float32, whatever the outputs' dtype.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from motes.errors import MotesError
from motes.losses.boundaries import Edges, HardPixels, PointFlowLoss
from motes.losses.classes import (
    AnnealedFocal,
    ClassFocal,
    Foreground,
    ForegroundDice,
    InverseFrequency,
    Joint,
    OnlineHardExamples,
    PixelCrossEntropy,
    SmallObjectMining,
)
from motes.losses.edges import MaskAndEdge, SoftIoUWithEntropy
from motes.losses.entropy import BinaryCrossEntropy, CrossEntropy
from motes.losses.focal import Focal
from motes.losses.overlap import Dice, SoftIoU
from motes.naming import look_up

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "soft_iou": SoftIoU,
    "dice": Dice,
    "bce": BinaryCrossEntropy,
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "mask_and_edge": MaskAndEdge,
    # The published losses, which are settings of these; names as in the reference cases.
    "repisdnet.dice": Dice,
    "acm.soft_iou": SoftIoU,
    "dnanet.soft_iou": SoftIoU,
    "dnanet.deep": partial(SoftIoU, outputs="mean"),
    "abc.soft_iou": SoftIoU,
    "serankdet.deep": partial(SoftIoU, outputs="sum"),
    "basicirstd.soft_iou": partial(SoftIoU, inputs="probabilities"),
    "basicirstd.soft_iou_list": partial(SoftIoU, inputs="probabilities", outputs="mean"),
    "istdu.soft_iou": partial(SoftIoU, inputs="probabilities"),
    "rdian.soft_iou": partial(SoftIoU, per_image=True),
    "alcnet.samplewise_soft_iou": partial(SoftIoU, per_image=True, smooth=0.1),
    "isnet.soft_iou0": partial(SoftIoU, per_image=True, smooth=0.0),
    "isnet.soft_iou_bce": SoftIoUWithEntropy,
    "isnet.train": MaskAndEdge,
    "basicirstd.isnet": partial(MaskAndEdge, inputs="probabilities", per_image=False, smooth=1.0),
    "istdu.focal": partial(Focal, inputs="probabilities"),
    "uiunet.multi_bce": partial(BinaryCrossEntropy, inputs="probabilities", outputs="sum"),
    "abc.bce": BinaryCrossEntropy,
    "serankdet.bce_posweight": partial(BinaryCrossEntropy, positive_weight=9.0),
    "abc.cross_entropy": partial(CrossEntropy, ignore_index=-100),
    "serankdet.cross_entropy_smooth": partial(CrossEntropy, label_smoothing=0.1),
    # Of FactSeg's three outputs; for another network's first, set the option output to 0.
    "factseg.joint": Joint,
    "factseg.som": partial(SmallObjectMining, output=1),
    "factseg.cross_entropy": partial(PixelCrossEntropy, output=1),
    "factseg.ohem": partial(OnlineHardExamples, output=1),
    "factseg.inverse_frequency": partial(InverseFrequency, output=1),
    "factseg.focal": partial(ClassFocal, output=1),
    "factseg.binary": Foreground,
    "factseg.dice": ForegroundDice,
    "farseg.focal": AnnealedFocal,
    "pfnet.ohem": HardPixels,
    "pfnet.edges": Edges,
    "pfnet.joint": PointFlowLoss,
}


def create_loss(name: str, **options: Any) -> nn.Module:
    """The loss called ``name``; MotesError names the nearest one, and the options it knows."""
    make = LOSSES[look_up("loss", name, LOSSES)]
    known = inspect.signature(make).parameters
    for option in options:
        look_up(f"option of loss '{name}'", option, known)
    return make(**options)


class Sum(nn.Module):
    """Weighted sum of losses, for recipes that name several."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights):
            raise MotesError(f"{len(losses)} losses but {len(weights)} weights")
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(weights)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        parts = [w * loss(outputs, target) for w, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(parts).sum()
