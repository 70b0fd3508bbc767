"""Sparse R-CNN: a few learned boxes are corrected six times by what lies in them; no anchors, no suppression.

Sun et al., "Sparse R-CNN: End-to-End Object Detection with Learnable Proposals", CVPR 2021. As mmdetection runs it,
names included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, create_box_backbone
from motes.layers.box_coders import DeltaCoder, Size, clipped
from motes.layers.box_fpn import BoxFPN
from motes.layers.box_towers import prior_bias
from motes.layers.dense_detector import DenseDetector
from motes.layers.query_transformer import Attention, FeedForward, start_transformer
from motes.layers.roi_heads import batch_regions, roi_features
from motes.losses.set_matching import SetLoss
from motes.models.query_detector import in_px

CHANNELS, INNER, SIDE = 256, 64, 7
"""Features of a proposal, of its interaction, and bins of a side of its region."""


class SparseRCNN(DenseDetector):
    """100 learned boxes and features; six stages predict K classes (sigmoid) and the next stage's boxes.

    Published boxes may end outside the frame; here those of the last stage are clipped to it.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a feature backbone of timm's with maps from stride 4 on.
        proposals: most objects in a frame.
        stages: how often the boxes are corrected; all stages are supervised.
        start_size: side of the proposals at first, as a fraction of the frame: 1, as published: all are the frame;
            smaller: they lie on a regular grid.
        norm: "frozen", "fixed" or "train", of the backbone, see :mod:`motes.layers.box_backbone`.
        frozen_stages: of the backbone.
    """

    set_loss = SetLoss(corners=True)
    coder = DeltaCoder(stds=(0.5, 0.5, 1.0, 1.0))

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        proposals: int = 100,
        stages: int = 6,
        start_size: float = 1.0,
        norm: str = "fixed",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.proposals = proposals
        self.backbone = create_box_backbone(
            backbone, levels=(2, 3, 4, 5), norm=norm, frozen_stages=frozen_stages, in_channels=in_channels
        )
        self.neck = BoxFPN(self.backbone.channels, CHANNELS)
        self.rpn_head = Proposals(proposals, start_size)
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = nn.ModuleList(Stage(num_classes) for _ in range(stages))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [L, B, P, K] and boxes [L, B, P, 4] xyxy px of every stage; no box has the gradient of a later one."""
        maps, boxes, features = self.start(images)
        logits, decoded = [], []
        for stage in self.roi_head.bbox_head:
            features, found, boxes = self.correct(stage, maps, boxes.detach() if decoded else boxes, features)
            logits.append(found)
            decoded.append(boxes)
        return torch.stack(logits), torch.stack(decoded)

    def start(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The maps, and the learned boxes [B, P, 4] in px and features [B, P, C]."""
        maps = self.neck(self.backbone(images))
        boxes = in_px(self.rpn_head.init_proposal_bboxes.weight, images.shape[-2:])
        features = self.rpn_head.init_proposal_features.weight
        return maps, boxes.expand(images.shape[0], -1, -1), features.repeat(images.shape[0], 1, 1)

    def correct(
        self, stage: nn.Module, maps: Sequence[Tensor], boxes: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New features, logits and boxes."""
        regions = roi_features(maps, self.backbone.strides, batch_regions(boxes.detach()), SIDE, samples=2)
        features, logits, deltas = stage(features, regions)
        return features, logits, self.coder.decode(boxes, deltas)

    def counted(self, images: Tensor) -> Tensor:
        """What a forward pass computes but for the samples of the regions, which depend on values: to count it."""
        maps, _, features = self.start(images)
        regions = maps[0].new_zeros(features.shape[0] * self.proposals, CHANNELS, SIDE, SIDE)
        for stage in self.roi_head.bbox_head:
            features, *_ = stage(features, regions)
        return features

    def candidates_of(self, raw: tuple[Tensor, Tensor], size: Size) -> dict[str, Tensor]:
        """The proposals after the last stage, clipped to the frame."""
        logits, boxes = raw[0][-1], raw[1][-1]
        count = torch.tensor([self.proposals], device=logits.device)
        return {"boxes": clipped(boxes, size), "scores": logits.sigmoid(), "levels": count}

    def losses_of(
        self, raw: tuple[Tensor, Tensor], targets: Sequence[Mapping[str, Tensor]], size: Size
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``loss_iou``: each the sum over the stages, which count the same."""
        return {name: loss.sum() for name, loss in self.losses_per_layer(raw, targets, size).items()}

    def losses_per_layer(
        self, raw: tuple[Tensor, Tensor], targets: Sequence[Mapping[str, Tensor]], size: Size
    ) -> dict[str, Tensor]:
        """The same, [L] each, first stage first."""
        return self.set_loss(*raw, targets, size)

    def published_outputs(self, images: Tensor, proposals: None = None) -> dict[str, Tensor]:
        """Logits [B, P, K] and boxes [B * P, 4] of every stage, each from the learned boxes and features.

        That is how the published forward without losses runs the stages; they are chained in training and detection.
        """
        outputs = []
        maps, boxes, features = self.start(images)
        for stage in self.roi_head.bbox_head:
            _, logits, decoded = self.correct(stage, maps, boxes, features)
            outputs += [logits, decoded.flatten(0, 1)]
        return {f"out{i}": out for i, out in enumerate(outputs)}


class Proposals(nn.Module):
    """``init_proposal_bboxes`` [P, 4], (cx, cy, w, h) as fractions of the frame, and ``init_proposal_features``."""

    def __init__(self, count: int, size: float) -> None:
        super().__init__()
        self.init_proposal_bboxes = nn.Embedding(count, 4)
        self.init_proposal_features = nn.Embedding(count, CHANNELS)
        columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        index = torch.arange(count)
        x, y = (index % columns + 0.5) / columns, (index // columns + 0.5) / rows
        centres = torch.stack((x, y), 1) if size < 1 else torch.full((count, 2), 0.5)
        with torch.no_grad():
            self.init_proposal_bboxes.weight.copy_(torch.cat((centres, torch.full((count, 2), size)), 1))


class Stage(nn.Module):
    """One correction: proposals look at each other, then each at its own region."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.attention = Attention(CHANNELS, dropout=0.0)
        self.attention_norm = nn.LayerNorm(CHANNELS)
        self.instance_interactive_conv = DynamicConv()
        self.instance_interactive_conv_norm = nn.LayerNorm(CHANNELS)
        self.ffn = FeedForward(CHANNELS, 2048, dropout=0.0)
        self.ffn_norm = nn.LayerNorm(CHANNELS)
        self.cls_fcs = linear_norms(1)
        self.reg_fcs = linear_norms(3)
        self.fc_cls = nn.Linear(CHANNELS, num_classes)
        self.fc_reg = nn.Linear(CHANNELS, 4)
        start_transformer(self)
        nn.init.constant_(self.fc_cls.bias, prior_bias())
        nn.init.zeros_(self.fc_reg.weight)
        nn.init.zeros_(self.fc_reg.bias)

    def forward(self, features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, P, C] and regions [B * P, C, 7, 7] -> new features, logits [B, P, K], deltas [B, P, 4]."""
        x = self.attention_norm(self.attention(features))
        found = self.instance_interactive_conv(x.flatten(0, 1), regions).view_as(x)
        x = self.instance_interactive_conv_norm(x + found)
        x = self.ffn_norm(self.ffn(x))
        return x, self.fc_cls(self.cls_fcs(x)), self.fc_reg(self.reg_fcs(x))


class DynamicConv(nn.Module):
    """Two 1x1 convolutions of a region whose weights come from the features of its proposal, then one vector of it."""

    def __init__(self) -> None:
        super().__init__()
        self.dynamic_layer = nn.Linear(CHANNELS, 2 * CHANNELS * INNER)
        self.norm_in = nn.LayerNorm(INNER)
        self.norm_out = nn.LayerNorm(CHANNELS)
        self.fc_layer = nn.Linear(CHANNELS * SIDE * SIDE, CHANNELS)
        self.fc_norm = nn.LayerNorm(CHANNELS)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """[N, C] and [N, C, 7, 7] -> [N, C]."""
        into, out = self.dynamic_layer(features).chunk(2, 1)
        x = regions.flatten(2).transpose(1, 2)
        x = self.norm_in(x @ into.unflatten(1, (CHANNELS, INNER))).relu()
        x = self.norm_out(x @ out.unflatten(1, (INNER, CHANNELS))).relu()
        return self.fc_norm(self.fc_layer(x.flatten(1))).relu()


def linear_norms(count: int) -> nn.Sequential:
    """``count`` times [linear layer without bias, norm, ReLU]."""
    layers = [(nn.Linear(CHANNELS, CHANNELS, bias=False), nn.LayerNorm(CHANNELS), nn.ReLU()) for _ in range(count)]
    return nn.Sequential(*(layer for group in layers for layer in group))


PUBLISHED_NAMES = [*BACKBONE_NAMES]

VARIANTS: dict[str, dict[str, Any]] = {"small": {"start_size": 0.04, "frozen_stages": -1}}
"""Constructor options of the card's variants."""
