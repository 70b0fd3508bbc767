"""What the four DETRs share: raw outputs of all decoder layers, boxes in px, the set loss, what is exported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.box_backbone import BoxBackbone, create_box_backbone
from motes.layers.box_coders import Size, clipped
from motes.layers.channel_mapper import ChannelMapper, FinestLevel
from motes.layers.dense_detector import DenseDetector
from motes.losses.set_matching import SetLoss, frame


class QueryDetector(DenseDetector):
    """A detector whose ``raw(images)`` are logits [L, B, Q, K or K + 1] and boxes [L, B, Q, 4] of its L decoder layers.

    Boxes are (cx, cy, w, h) as fractions of the frame. Frames of any size are taken as they are: nothing is padded.
    """

    pad_stride = 1
    set_loss = SetLoss()

    def candidates_of(self, raw: tuple[Tensor, Tensor], size: Size) -> dict[str, Tensor]:
        """The queries of the last layer, one candidate each, boxes clipped to the frame."""
        logits, boxes = raw[0][-1], raw[1][-1]
        scores = logits.softmax(-1)[..., :-1] if self.set_loss.softmax else logits.sigmoid()
        count = torch.tensor([self.queries], device=logits.device)
        return {"boxes": clipped(in_px(boxes, size), size), "scores": scores, "levels": count}

    def losses_of(
        self, raw: tuple[Tensor, Tensor], targets: Sequence[Mapping[str, Tensor]], size: Size
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_iou``: each the sum over the layers, which count the same."""
        return {name: loss.sum() for name, loss in self.losses_per_layer(raw, targets, size).items()}

    def losses_per_layer(
        self, raw: tuple[Tensor, Tensor], targets: Sequence[Mapping[str, Tensor]], size: Size
    ) -> dict[str, Tensor]:
        """The same, [L] each, first layer first."""
        return self.set_loss(raw[0], in_px(raw[1], size), targets, size)

    def published_outputs(self, images: Tensor, proposals: None = None) -> dict[str, Tensor]:
        logits, boxes = self.raw(images)
        return {"out0": logits, "out1": boxes}


def create_tokens(
    name: str, level: int, in_channels: int, norm: str, frozen_stages: int
) -> tuple[BoxBackbone, nn.Module]:
    """Backbone and neck that give a list of one map of 256 channels with stride 2^level, the tokens of a transformer.

    Level 5 is the last map of the backbone, as published; a finer one is that of a feature pyramid down to it.
    """
    if level not in (2, 3, 4, 5):
        raise CardError(f"level of a query detector is 2, 3, 4 or 5 (stride 4, 8, 16 or 32), found {level}")
    backbone = create_box_backbone(
        name, levels=tuple(range(level, 6)), norm=norm, frozen_stages=frozen_stages, in_channels=in_channels
    )
    neck = ChannelMapper if level == 5 else FinestLevel
    return backbone, neck(backbone.channels)


def in_px(boxes: Tensor, size: Size) -> Tensor:
    """(cx, cy, w, h) as fractions of a frame of ``size`` (h, w) -> xyxy px."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1) * frame(size, boxes)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def start_boxes(last: nn.Linear, size: float) -> None:
    """Boxes of ``size`` of the frame at first, whatever the query says: the last layer gives this bias alone."""
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.bias[2:] = logit(size)
