"""VFNet: scores that are trained to be IoUs, and boxes refined from nine points of a first guess.

Zhang, Wang, Dayoub, Suenderhauf, "VarifocalNet: An IoU-aware Dense Object Detector", CVPR 2021: section 3.2 the
varifocal loss, 3.3 the star-shaped deformable convolution, 3.4 the refinement.

Published behaviour: first distances are exp(scale * x) times the upper end of the level's range of sizes (64, 128, ...
1024 px: eight strides), and places, as well as the anchors of eight strides that are matched by ATSS, sit on the cells'
corners. Variant ``small`` has a level of stride 4, anchors of two strides and distances that start at 1.5
strides of which half are slack, for targets that hold no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import boxes_from_distances
from motes.layers.box_fpn import BoxFPN
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import ConvUnit, Scale, Tower, init_head, prior_bias
from motes.layers.deformable import DeformableConv
from motes.layers.dense_detector import Targets, flattened, level_counts, map_sizes
from motes.layers.priors import points
from motes.losses.boxes import giou_loss, varifocal, weighted_mean
from motes.models import one_anchor
from motes.models.one_anchor import OneAnchorDetector

PUBLISHED_NAMES = BACKBONE_NAMES

VARIANTS = {"small": {**one_anchor.SMALL, "first_distance": 1.5, "min_side": 1.5}}

Raw = tuple[list[Tensor], list[Tensor], list[Tensor]]

STAR_GRADIENT = 0.1
"""Share of the gradient of the sampling points that reaches the first distances."""
WEIGHTS = (1.5, 2.0)
"""Of the first and of the refined boxes."""


class VFNet(OneAnchorDetector):
    """VarifocalNet with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's.
        width: channels of pyramid and head.
        anchor_scale: side of the anchors that boxes are matched with, in strides.
        first_distance: strides from a place to the sides of its box before training.
        min_side: strides of the finest level that a box counts as wide and high at least when places are chosen for
            it, so that the smallest ones get some; sides of boxes may then lie on the other side of their place, up
            to half of this. 0 as published.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        finest: int = 3,
        extra: int = 2,
        width: int = 256,
        anchor_scale: float = 8.0,
        first_distance: float = 8.0,
        min_side: float = 0.0,
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale, min_side)
        self.neck = BoxFPN(self.backbone.channels, width, extra, relu_before_extra=True)
        self.bbox_head = VFNetHead(width, num_classes, self.strides, first_distance, self.min_side / 2)

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of all levels, then refined distances of all levels in px."""
        logits, _, refined = self.raw(images)
        return {f"out{i}": t for i, t in enumerate([*logits, *refined])}

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, _, refined = raw
        places = self.places(logits)
        return {
            "boxes": boxes_from_distances(torch.cat(places), torch.cat(flattened(refined, 4), 1), size),
            "scores": torch.cat(flattened(logits, self.num_classes), 1).sigmoid(),
            "levels": level_counts(flattened(logits, self.num_classes)),
        }

    def places(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return points(map_sizes(maps), self.strides, offset=0.0, device=maps[0].device)

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` (varifocal), ``loss_bbox`` and ``loss_bbox_rf`` (GIoU of first and refined boxes)."""
        places = torch.cat(self.places(raw[0]))
        widths = (self.num_classes, 4, 4)
        logits, *distances = (torch.cat(flattened(r, n), 1) for r, n in zip(raw, widths, strict=True))
        hits = self.chosen(self.anchors_for(raw[0]), targets)
        quality, losses = torch.zeros_like(logits), {}
        for name, found, factor in zip(("loss_bbox", "loss_bbox_rf"), distances, WEIGHTS, strict=True):
            boxes = boxes_from_distances(places[hits.place], found[hits.image, hits.place])
            overlap = aligned_iou(boxes.detach(), hits.boxes).clamp(min=1e-6)
            losses[name] = factor * weighted_mean(giou_loss(boxes, hits.boxes), overlap, overlap.sum().clamp(min=1))
        quality[hits.image, hits.place, hits.labels] = overlap  # of the refined boxes
        return {"loss_cls": weighted_mean(varifocal(logits, quality), total=max(1, len(hits.place))), **losses}


class VFNetHead(nn.Module):
    """Two towers that all levels share; a first box, and a score and a second box from the nine points of its star.

    Args:
        in_channels: of the maps and of the towers.
        num_classes: K.
        strides: px, of the levels.
        first_distance: strides to the sides of a box before training.
        slack: px that a place may lie outside its box: distances are learnt to sides that much further out.
        depth: convolutions of a tower.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        first_distance: float,
        slack: float = 0.0,
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.strides, self.first_distance, self.slack = tuple(strides), first_distance, slack
        self.cls_convs = Tower(in_channels, in_channels, depth)
        self.reg_convs = Tower(in_channels, in_channels, depth)
        self.vfnet_reg_conv = ConvUnit(in_channels, in_channels)
        self.vfnet_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self.vfnet_reg_refine_dconv = DeformableConv(in_channels, in_channels)
        self.vfnet_reg_refine = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.scales_refine = nn.ModuleList(Scale() for _ in strides)
        self.vfnet_cls_dconv = DeformableConv(in_channels, in_channels)
        self.vfnet_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        init_head(self, 0.01)
        nn.init.constant_(self.vfnet_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        """Per level logits [B, K, h, w], first and refined distances [B, 4, h, w] in px."""
        levels = zip(maps, self.strides, self.scales, self.scales_refine, strict=True)
        logits, first, refined = zip(*(self.level(*level) for level in levels), strict=True)
        return list(logits), list(first), list(refined)

    def level(self, x: Tensor, stride: int, scale: nn.Module, refine: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        features = self.reg_convs(x)
        first = scale(self.vfnet_reg(self.vfnet_reg_conv(features))).exp() * (self.first_distance * stride)
        offsets = star((first - self.slack) / stride)
        features = F.relu(self.vfnet_reg_refine_dconv(features, offsets))
        refined = refine(self.vfnet_reg_refine(features)).exp() * first.detach()
        features = F.relu(self.vfnet_cls_dconv(self.cls_convs(x), offsets))
        return self.vfnet_cls(features), first - self.slack, refined - self.slack


def star(distances: Tensor) -> Tensor:
    """Offsets (dy, dx) [B, 18, h, w] that move a 3x3 kernel's taps to centre, sides and corners of a box.

    Args:
        distances: l, t, r, b [B, 4, h, w] in cells.
    """
    left, top, right, bottom = (STAR_GRADIENT * distances + (1 - STAR_GRADIENT) * distances.detach()).unbind(1)
    still = torch.zeros_like(left)
    rows, columns = (1 - top, still, bottom - 1), (1 - left, still, right - 1)
    return torch.stack([shift for row in rows for column in columns for shift in (row, column)], 1)
