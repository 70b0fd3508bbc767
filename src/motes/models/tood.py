"""TOOD: classes and boxes from one set of features, taken apart by attention, and anchors chosen by both together.

Feng, Zhong, Gao, Scott, Huang, "TOOD: Task-aligned One-stage Object Detection", ICCV 2021: section 3.1 the head, 3.2
the assignment and its losses.

Training has two phases, told apart by :meth:`TOOD.progress`: in the first ``initial_epochs`` (4) anchors are chosen as
by ATSS, later by score * IoU^6 of what the network predicts. An anchor must have its centre inside the box in both, and
centres are the cells' upper left corners; variant ``small`` has a level of stride 4, anchors of two strides, and counts
boxes as at least 6 px wide and high for that test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import clipped
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import ConvUnit, Scale, Tower, init_head, prior_bias
from motes.layers.deformable import deform_conv2d
from motes.layers.dense_detector import Targets, flattened, level_counts
from motes.losses import assigners
from motes.losses.boxes import focal_on_probabilities, giou_loss, quality_focal_on_probabilities
from motes.models import one_anchor
from motes.models.one_anchor import (
    Hits,
    OneAnchorDetector,
    at_levels,
    centreness_of,
    level_sums,
    matched,
    one_hot,
)

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": {**one_anchor.SMALL, "min_side": 1.5}}

ALPHA, BETA, BEST = 1.0, 6.0, 13
"""Powers of score and IoU in the alignment, and anchors per box."""
BOX_WEIGHT = 2.0


class TOOD(OneAnchorDetector):
    """TOOD with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from the pyramid's last map.
        width: channels of pyramid and head.
        anchor_scale: side of the anchors in strides.
        min_side: strides of the finest level that a box counts as wide and high at least where anchors are chosen, so
            that the smallest ones get some; 0 as published.
        initial_epochs: how long anchors are chosen by ATSS.

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
        min_side: float = 0.0,
        initial_epochs: int = 4,
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale, min_side)
        self.bbox_head = TOODHead(width, num_classes, len(self.strides))
        self.aligned = assigners.TaskAligned(BEST, ALPHA, BETA)
        self.initial_epochs, self.epoch = initial_epochs, 0

    def progress(self, epoch: int) -> None:
        """Says which epoch (from 0) is trained; training calls it at the start of each. Not part of the weights."""
        self.epoch = epoch

    def candidates_of(self, raw: Sequence[list[Tensor]], size: tuple[Any, Any]) -> dict[str, Tensor]:
        scores, boxes = flattened(raw[0], self.num_classes), self.boxes_of(raw[1])
        return {"boxes": clipped(boxes, size), "scores": torch.cat(scores, 1), "levels": level_counts(scores)}

    def losses_by_level(self, raw: Sequence[list[Tensor]], targets: Targets) -> dict[str, Tensor]:
        """[L] each: ``loss_cls`` (focal, later quality focal) and ``loss_bbox`` (GIoU).

        The quality of an anchor is 1, later its alignment, scaled so that a box's best anchor has the box's best IoU.
        The first loss is divided by the sum of the qualities, at least 1. The second is weighted by centreness, later
        by quality, and divided by the sum of these weights, at least 1.
        """
        scores, boxes = torch.cat(flattened(raw[0], self.num_classes), 1), self.boxes_of(raw[1])
        levels = self.anchors_for(raw[0])
        sizes, anchors = [len(a) for a in levels], torch.cat(levels)
        if self.epoch < self.initial_epochs:
            hits = self.chosen(levels, targets)
            class_loss = focal_on_probabilities(scores, one_hot(hits, scores))
            total = hits.boxes.new_tensor(len(hits.place))
            weight = centreness_of(anchors[hits.place], assigners.grown(hits.boxes, self.min_side))
        else:
            hits = self.chosen_by_task(scores.detach(), boxes.detach(), anchors, targets)
            weight = qualities(hits, scores.detach(), boxes.detach(), targets)
            quality = torch.zeros_like(scores)
            quality[hits.image, hits.place, hits.labels] = weight
            class_loss = quality_focal_on_probabilities(scores, quality)
            total = weight.sum()
        strides = torch.cat([torch.full_like(a[:, :1], s) for a, s in zip(levels, self.strides, strict=True)])
        strides = strides[hits.place]
        box_loss = giou_loss(boxes[hits.image, hits.place] / strides, hits.boxes / strides) * weight
        return {
            "loss_cls": level_sums(class_loss.sum((0, 2)), sizes) / total.clamp(min=1),
            "loss_bbox": BOX_WEIGHT * at_levels(box_loss, hits, sizes) / weight.sum().clamp(min=1),
        }

    def boxes_of(self, maps: Sequence[Tensor]) -> Tensor:
        """Boxes in strides, a map a level -> [B, P, 4] px."""
        return torch.cat([m * s for m, s in zip(flattened(maps, 4), self.strides, strict=True)], 1)

    def chosen_by_task(self, scores: Tensor, boxes: Tensor, anchors: Tensor, targets: Targets) -> Hits:
        """The positive anchors by what is predicted for them: [B, P, K] probabilities and [B, P, 4] px."""
        indices = []
        for score, box, target in zip(scores, boxes, targets, strict=True):
            wanted = assigners.grown(target["boxes"].to(anchors), self.min_side)
            labels = target["labels"].to(anchors.device)
            indices.append(self.aligned(score, box, anchors, wanted, labels)[0].index)
        return matched(indices, targets)


def qualities(hits: Hits, scores: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """t / max t * max IoU with the maxima of each box and t = score * IoU^6 (equation 5): [M] in [0, 1]."""
    overlap = aligned_iou(boxes[hits.image, hits.place], hits.boxes)
    alignment = scores[hits.image, hits.place, hits.labels] ** ALPHA * overlap**BETA
    ends = torch.tensor([0, *(len(t["boxes"]) for t in targets)], device=scores.device).cumsum(0)
    box = ends[hits.image] + hits.owner
    count = sum(len(t["boxes"]) for t in targets)
    best, best_overlap = (v.new_zeros(count).scatter_reduce(0, box, v, "amax") for v in (alignment, overlap))
    return alignment / (best[box] + 1e-7) * best_overlap[box]


class TOODHead(nn.Module):
    """Convolutions that all levels and both tasks share, then one branch a task.

    Args:
        in_channels: of the maps and of everything after.
        num_classes: K.
        levels: how many maps; the distances of each have a learned factor.
        depth: shared convolutions; the outputs of all of them are used.

    ``forward`` takes the maps and returns per level class probabilities [B, K, h, w] and boxes xyxy [B, 4, h, w] in
    units of the level's stride.
    """

    def __init__(self, in_channels: int, num_classes: int, levels: int, depth: int = 6) -> None:
        super().__init__()
        self.inter_convs = Tower(in_channels, in_channels, depth)
        self.cls_decomp = TaskDecomposition(in_channels, depth)
        self.reg_decomp = TaskDecomposition(in_channels, depth)
        self.tood_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.cls_prob_module = alignment_branch(in_channels * depth, 1)
        self.reg_offset_module = alignment_branch(in_channels * depth, 4 * 2)
        self.scales = nn.ModuleList(Scale() for _ in range(levels))
        init_head(self)
        for module in (self.cls_decomp.layer_attention, self.reg_decomp.layer_attention, self.reg_offset_module):
            init_head(module, 0.001)
        for last in (self.tood_cls, self.cls_prob_module[-1]):
            nn.init.constant_(last.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, boxes = zip(*(self.level(x, s) for x, s in zip(maps, self.scales, strict=True)), strict=True)
        return list(scores), list(boxes)

    def level(self, x: Tensor, scale: nn.Module) -> tuple[Tensor, Tensor]:
        stages = []
        for conv in self.inter_convs:
            x = conv(x)
            stages.append(x)
        features = torch.cat(stages, 1)
        pooled = features.mean((2, 3), keepdim=True)
        # The geometric mean of two probabilities, through logarithms: its root has no slope at 0. All of this and the
        # boxes in float32.
        about_class = self.tood_cls(self.cls_decomp(features, pooled)).float()
        score = ((F.logsigmoid(about_class) + F.logsigmoid(self.cls_prob_module(features).float())) / 2).exp()
        distances = scale(self.tood_reg(self.reg_decomp(features, pooled)).float().exp())
        boxes = boxes_around_corners(distances)
        sampled = each_from_its_own_place(boxes, self.reg_offset_module(features).float())
        inverted = (sampled[:, :2] > sampled[:, 2:]).any(1, keepdim=True)
        return score, torch.where(inverted, boxes, sampled)


class TaskDecomposition(nn.Module):
    """One task's features: shared ones of all depths, each depth weighted by attention, reduced to ``channels``."""

    def __init__(self, channels: int, depth: int, reduction: int = 8) -> None:
        super().__init__()
        self.depth = depth
        self.layer_attention = nn.Sequential(
            nn.Conv2d(channels * depth, channels // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, depth, 1),
            nn.Sigmoid(),
        )
        self.reduction_conv = ConvUnit(channels * depth, channels, 1)

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        """``features`` [B, depth * C, h, w] and their means ``pooled`` [B, depth * C, 1, 1] -> [B, C, h, w]."""
        # Each image's weights go into its kernel instead of its features, which are larger.
        weights = self.layer_attention(pooled).flatten(1)  # [B, depth]
        kernel = self.reduction_conv.conv.weight.flatten(1)
        own = (kernel.unflatten(1, (self.depth, -1)) * weights[:, None, :, None]).flatten(2)  # [B, C, depth * C]
        h, w = features.shape[-2:]
        return F.relu(self.reduction_conv.gn((own @ features.flatten(2)).reshape(-1, own.shape[1], h, w)))


def alignment_branch(in_channels: int, out_channels: int, channels: int = 64) -> nn.Sequential:
    """What moves one task's map towards the other's."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
    )


def boxes_around_corners(distances: Tensor) -> Tensor:
    """Distances l, t, r, b [B, 4, h, w] from the cells' upper left corners -> xyxy, all in cells."""
    h, w = distances.shape[-2:]
    x = torch.arange(w, device=distances.device, dtype=distances.dtype)
    y = torch.arange(h, device=distances.device, dtype=distances.dtype)[:, None]
    left, top, right, bottom = distances.unbind(1)
    return torch.stack((x - left, y - top, x + right, y + bottom), 1)


def each_from_its_own_place(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Each of the 4 coordinates [B, 4, h, w] read bilinearly at its own (dy, dx) of ``offsets`` [B, 8, h, w]."""
    return deform_conv2d(boxes, offsets, boxes.new_ones(4, 1, 1, 1), padding=0)
