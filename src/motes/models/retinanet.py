"""RetinaNet: nine anchors in every cell of a pyramid, classified under the focal loss.

Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002; as the BAFE-Net
leaderboard ran it. The smallest published anchor is 32 px wide, eight times a target; that anything is found is due to
the matching, which gives every box its best anchors however little they overlap. Variant ``small`` has a level of
stride 4 and anchors from 4 px, in a pyramid half as wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, create_box_backbone
from motes.layers.box_coders import DeltaCoder
from motes.layers.box_fpn import BoxFPN
from motes.layers.dense_detector import DenseDetector, Raw, Targets, flattened, level_counts, map_sizes
from motes.layers.priors import Anchors
from motes.layers.retina_head import RetinaHead, one_hot
from motes.losses.assigners import MaxIoU
from motes.losses.boxes import sigmoid_focal, weighted_mean

PUBLISHED_NAMES = BACKBONE_NAMES

SMALL: dict[str, Any] = {"levels": (2, 3, 4, 5), "extra": 0, "anchor_scale": 1.0, "width": 128, "frozen_stages": -1}
VARIANTS = {"small": SMALL}

RATIOS, OCTAVES = (0.5, 1.0, 2.0), 3
TOUCHING = 1e-6
"""Overlap from which a box is given its best anchors. Published: 0, which gives a box outside the frame all anchors."""


class RetinaNet(DenseDetector):
    """RetinaNet; the calls are :class:`motes.layers.dense_detector.BoxDetectorMixin`'s.

    Args:
        in_channels: bands of the input.
        num_classes: kinds of target K.
        backbone: a pyramid of timm.
        levels: of the backbone that are used; level n has stride 2^n.
        extra: coarser levels made from the backbone's last map.
        anchor_scale: side of the smallest square anchors in units of the level's stride.
        width: channels of pyramid and head.
        positive, negative: overlap from which an anchor is a target, and below which it is background; those between
            are ignored.
        norm: of the backbone's batch norms: ``frozen``, ``fixed`` or ``train``.
        frozen_stages: of the backbone, -1: none, 0: the stem.

    ``raw``: 9 * K logits and 9 * 4 deltas [B, ., h, w] a level, anchor-major.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        levels: Sequence[int] = (3, 4, 5),
        extra: int = 2,
        anchor_scale: float = 4.0,
        width: int = 256,
        positive: float = 0.5,
        negative: float = 0.4,
        norm: str = "fixed",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = self.make_backbone(backbone, levels, norm, frozen_stages, in_channels)
        self.neck = self.make_neck(self.backbone.channels, width, extra)
        strides = [2**level for level in range(levels[0], levels[-1] + 1 + extra)]
        self.anchors = Anchors(strides, RATIOS, octave_base=anchor_scale, scales_per_octave=OCTAVES)
        self.coder = DeltaCoder()
        self.assign = MaxIoU(positive, negative, TOUCHING)
        self.bbox_head = RetinaHead(width, num_classes, len(RATIOS) * OCTAVES)

    def make_backbone(
        self, name: str, levels: Sequence[int], norm: str, frozen_stages: int, in_channels: int
    ) -> nn.Module:
        return create_box_backbone(name, "pytorch", levels, norm, frozen_stages, in_channels)

    def make_neck(self, channels: Sequence[int], width: int, extra: int) -> nn.Module:
        return BoxFPN(channels, width, extra, extra_from="input")

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, deltas = raw
        anchors = torch.cat(self.anchors.grid(map_sizes(logits), logits[0].device))
        scores = flattened(logits, self.num_classes)
        boxes = self.coder.decode(anchors, torch.cat(flattened(deltas, 4), 1), size)
        return {"boxes": boxes, "scores": torch.cat(scores, 1).sigmoid(), "levels": level_counts(scores)}

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` (focal) and ``loss_bbox`` (L1 of deltas), over the number of positive anchors of the batch."""
        return {name: torch.stack(levels).sum() for name, levels in self.losses_by_level(raw, targets).items()}

    def losses_by_level(self, raw: Raw, targets: Targets) -> dict[str, list[Tensor]]:
        logits, deltas = raw
        device = logits[0].device
        anchors = torch.cat(self.anchors.grid(map_sizes(logits), device))
        labels, shifts, weights = [], [], []
        for target in targets:
            boxes = target["boxes"].to(anchors)
            index = self.assign(anchors, boxes).index
            positive = index >= 0
            shift = torch.zeros_like(anchors)
            shift[positive] = self.coder.encode(anchors[positive], boxes[index[positive]])
            labels.append(one_hot(index, target["labels"].to(device), self.num_classes))
            shifts.append(shift)
            weights.append(torch.stack((index > -2, positive), -1).float())
        weight = torch.stack(weights)
        total = weight[..., 1].sum(1).clamp(min=1).sum()
        scores, moves = flattened(logits, self.num_classes), flattened(deltas, 4)
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": []}
        start = 0
        for score, move in zip(scores, moves, strict=True):
            level = slice(start, start := start + score.shape[1])
            label, shift = (torch.stack([t[level] for t in wanted]) for wanted in (labels, shifts))
            focal = sigmoid_focal(score, label)
            losses["loss_cls"].append(weighted_mean(focal, weight[:, level, :1], total))
            losses["loss_bbox"].append(weighted_mean((move - shift).abs(), weight[:, level, 1:], total))
        return losses
