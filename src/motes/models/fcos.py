"""FCOS: every point of the pyramid says whether it lies in a target, how far its sides are, and how central it is.

Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv 1904.01355, in the form
of the DenseSIRST leaderboard (mmdetection 3.3: group norms, distances by exp in px, centreness on the classification
tower, no centre sampling). Parameter names are mmdetection's, but for the backbone's, which are timm's under
``backbone.body``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, IMAGENET, create_box_backbone
from motes.layers.box_coders import boxes_from_distances
from motes.layers.box_fpn import BoxFPN
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import Scale, Tower, init_head, prior_bias
from motes.layers.dense_detector import DenseDetector, Raw, Targets, flattened, level_counts, map_sizes
from motes.layers.priors import points
from motes.losses.assigners import FAR, centerness, fcos_targets
from motes.losses.boxes import giou_loss, iou_loss, sigmoid_focal, weighted_mean

SMALL = {
    "levels": (2, 3, 4, 5),
    "extra": 0,
    "width": 128,
    "least_radius": 3.0,
    "style": "pytorch",
    "norm": "fixed",
    "bgr": False,
    "input": IMAGENET,
}
"""Points 4 px apart, of which all within 3 px of a target's centre learn it, even outside; half as wide, as four times
as many points cost four times as much."""

VARIANTS = {"small": SMALL}
PUBLISHED_NAMES = BACKBONE_NAMES

REACH = 8
"""Largest distance to a side that a level is for, in its strides."""


class FCOS(DenseDetector):
    """FCOS; the calls are :class:`motes.layers.dense_detector.BoxDetectorMixin`'s.

    Args:
        in_channels: bands of the input.
        num_classes: kinds of target K.
        backbone: a pyramid of timm.
        levels: of the backbone that are used; level n has stride 2^n.
        extra: coarser levels made from the last.
        least_radius: px. 0: as published, a point learns a target only if it lies strictly inside, which two thirds of
            the targets of 4 px miss at stride 8. Above 0: points that near to a target's centre learn it too; since
            then its sides may all lie on one side of the point, the head gives shift and size of the box in strides
            instead of distances, boxes are trained by GIoU, and the third output learns the IoU of the box instead of
            its centreness.
        style: of a ResNet, ``caffe`` or ``pytorch``.
        norm: of the backbone's batch norms: ``frozen``, ``fixed`` or ``train``.
        frozen_stages: of the backbone, -1: none, 0: the stem.
        bgr: the published network takes blue, green, red.
        depth: 3x3 convolutions of each tower.
        width: channels of the pyramid and the towers, a multiple of 32.

    ``raw``: K logits, 4 distances (l, t, r, b in px) and 1 logit of the centreness [B, ., h, w] a level.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        levels: Sequence[int] = (3, 4, 5),
        extra: int = 2,
        least_radius: float = 0.0,
        style: str = "caffe",
        norm: str = "frozen",
        frozen_stages: int = -1,
        bgr: bool = True,
        depth: int = 4,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.backbone = create_box_backbone(backbone, style, levels, norm, frozen_stages, in_channels)
        self.strides = [*self.backbone.strides, *(self.backbone.strides[-1] * 2**i for i in range(1, extra + 1))]
        self.bgr, self.least_radius, self.num_classes = bgr, float(least_radius), num_classes
        self.neck = BoxFPN(self.backbone.channels, width, extra=extra, relu_before_extra=True)
        self.bbox_head = self.make_head(num_classes, depth, width)

    def make_head(self, num_classes: int, depth: int, width: int) -> nn.Module:
        return FCOSHead(num_classes, self.strides, depth, self.least_radius > 0, width)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Of the largest distance to a side, px, a level each; the last level takes all that is larger."""
        ends = [-1.0, *(float(REACH * s) for s in self.strides[:-1]), FAR]
        return list(pairwise(ends))

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, distances, central = (
            flattened(maps, n) for maps, n in zip(raw, (self.num_classes, 4, 1), strict=False)
        )
        where = torch.cat(points(map_sizes(raw[0]), self.strides, device=logits[0].device))
        return {
            "boxes": boxes_from_distances(where, torch.cat(distances, 1), size),
            "scores": torch.cat(logits, 1).sigmoid(),
            "factors": torch.cat(central, 1)[..., 0].sigmoid(),
            "levels": level_counts(logits),
        }

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        widths = (self.num_classes, 4, 1)
        logits, distances, central = (torch.cat(flattened(m, n), 1) for m, n in zip(raw, widths, strict=False))
        grid = points(map_sizes(raw[0]), self.strides, device=logits.device)
        found = [self.assign(grid, t["boxes"].float()) for t in targets]
        index = torch.stack([i for i, _ in found])
        truth = torch.stack([d for _, d in found])
        classes = torch.zeros_like(logits)
        for image, target in enumerate(targets):
            (where,) = torch.nonzero(index[image] >= 0, as_tuple=True)
            classes[image, where, target["labels"][index[image, where]]] = 1
        positive = index >= 0
        where = torch.cat(grid).expand(len(targets), -1, 2)[positive]
        boxes, wanted = (boxes_from_distances(where, d[positive]) for d in (distances, truth))
        number = positive.sum().clamp(min=1)
        if self.least_radius:
            quality = aligned_iou(boxes.detach(), wanted)
            loss_bbox = weighted_mean(giou_loss(boxes, wanted), total=number)
        else:
            quality = centerness(truth[positive])
            loss_bbox = weighted_mean(iou_loss(boxes, wanted), quality, quality.sum().clamp(min=1e-6))
        central_loss = F.binary_cross_entropy_with_logits(central[positive][:, 0], quality, reduction="none")
        return {
            "loss_cls": weighted_mean(sigmoid_focal(logits, classes), total=number),
            "loss_bbox": loss_bbox,
            "loss_centerness": weighted_mean(central_loss, total=number),
        }

    def assign(self, grid: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        return fcos_targets(grid, boxes, self.ranges, least_radius=self.least_radius)


class FCOSHead(nn.Module):
    """Two towers and three predictors, shared by all levels but for one factor a level.

    ``shifts``: the four numbers of a box are shift of the centre and logarithm of the sides, in strides.
    """

    def __init__(
        self, num_classes: int, strides: Sequence[int], depth: int = 4, shifts: bool = False, channels: int = 256
    ) -> None:
        super().__init__()
        self.strides, self.shifts = list(strides), shifts
        self.cls_convs = Tower(channels, channels, depth)
        self.reg_convs = Tower(channels, channels, depth)
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        init_head(self)
        nn.init.constant_(self.conv_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> list[list[Tensor]]:
        logits, distances, central = [], [], []
        for level, x in enumerate(maps):
            cls = self.cls_convs(x)
            logits.append(self.conv_cls(cls))
            distances.append(self.distances(self.reg_convs(x), level))
            central.append(self.conv_centerness(cls))
        return [logits, distances, central]

    def distances(self, features: Tensor, level: int) -> Tensor:
        """l, t, r, b in px [B, 4, h, w] of a level's features; negative only with ``shifts``."""
        values = self.scales[level](self.conv_reg(features)).float()
        if not self.shifts:
            return values.exp()
        stride = self.strides[level]
        shift, half = values[:, :2] * stride, values[:, 2:].clamp(max=REACH).exp() * (stride / 2)
        return torch.cat((half - shift, half + shift), 1)
