"""GFL: a class score that is trained to be the box's IoU, and distances as distributions.

Li et al., "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection",
NeurIPS 2020: section 3, quality focal loss (equation 2) and distribution focal loss (equation 6). Anchors are chosen as
by ATSS; of an anchor only its centre is used, a cell's upper left corner as published.

A distance is the mean of 17 values, 0 to 16 strides. Variant ``small`` starts a stride lower (``first_value`` -1): an
anchor may then learn a box that its centre lies just outside of. It has a level of stride 4, anchors of two strides,
and losses of boxes that count in full from the start, however few of them there are (``least_total``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import boxes_from_distances, distances_to
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import Scale, Tower, init_head, prior_bias
from motes.layers.dense_detector import Targets, flattened, level_counts
from motes.losses import assigners
from motes.losses.boxes import distribution_focal, giou_loss, quality_focal
from motes.models import one_anchor
from motes.models.one_anchor import OneAnchorDetector, at_levels, level_sums

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": {**one_anchor.SMALL, "min_side": 1.5, "first_value": -1, "least_total": 0.01}}

LAST = 16
"""Steps of a distance's distribution: it has 17 values."""
BOX_WEIGHT, DISTRIBUTION_WEIGHT = 2.0, 0.25


class GFL(OneAnchorDetector):
    """GFL with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from the pyramid's last map.
        width: channels of pyramid and head.
        anchor_scale: side of the anchors in strides.
        min_side: strides of the finest level that a box counts as wide and high at least where anchors are chosen by
            their centres, so that the smallest ones get some; 0 as published.
        first_value: strides, the least of a distance's 17 values.
        least_total: what the losses of boxes are divided by at least, where their weights (class scores, which start
            at 0.01) sum to less; 1 as published.

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
        first_value: int = 0,
        least_total: float = 1.0,
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale, min_side)
        self.first_value, self.least_total = first_value, least_total
        self.bbox_head = GFLHead(width, num_classes, len(self.strides), first_value)

    def candidates_of(self, raw: Sequence[list[Tensor]], size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, distributions = raw
        scores = flattened(logits, self.num_classes)
        distances = [
            self.distances(d) * stride
            for d, stride in zip(flattened(distributions, 4 * (LAST + 1)), self.strides, strict=True)
        ]
        points = assigners.centres(torch.cat(self.anchors_for(logits)))
        return {
            "boxes": boxes_from_distances(points, torch.cat(distances, 1), size),
            "scores": torch.cat(scores, 1).sigmoid(),
            "levels": level_counts(scores),
        }

    def losses_by_level(self, raw: Sequence[list[Tensor]], targets: Targets) -> dict[str, Tensor]:
        """[L] each: ``loss_cls`` (quality focal), ``loss_bbox`` (GIoU) and ``loss_dfl`` (distribution focal).

        The first is divided by the number of positive anchors, at least one an image; the others are weighted by the
        class score and divided by the sum of these weights, at least ``least_total``.
        """
        widths = (self.num_classes, 4 * (LAST + 1))
        logits, distributions = (torch.cat(flattened(r, n), 1) for r, n in zip(raw, widths, strict=True))
        anchors = self.anchors_for(raw[0])
        sizes = [len(a) for a in anchors]
        hits = self.chosen(anchors, targets)
        strides = torch.cat([torch.full_like(a[:, :1], s) for a, s in zip(anchors, self.strides, strict=True)])
        strides = strides[hits.place]
        points = assigners.centres(torch.cat(anchors)[hits.place]) / strides
        wanted = hits.boxes / strides
        own = distributions[hits.image, hits.place]
        boxes = boxes_from_distances(points, self.distances(own))
        weight = logits.detach()[hits.image, hits.place].sigmoid().amax(-1)
        steps = (distances_to(points, wanted) - self.first_value).clamp(0, LAST - 0.1)
        dfl = distribution_focal(own.reshape(-1, LAST + 1), steps.reshape(-1)).reshape(-1, 4).mean(-1)
        quality = torch.zeros_like(logits)
        quality[hits.image, hits.place, hits.labels] = aligned_iou(boxes.detach(), wanted)
        total = weight.sum().clamp(min=self.least_total)
        return {
            "loss_cls": level_sums(quality_focal(logits, quality).sum((0, 2)), sizes) / hits.total,
            "loss_bbox": BOX_WEIGHT * at_levels(giou_loss(boxes, wanted) * weight, hits, sizes) / total,
            "loss_dfl": DISTRIBUTION_WEIGHT * at_levels(dfl * weight, hits, sizes) / total,
        }

    def distances(self, distributions: Tensor) -> Tensor:
        """Logits [..., 4 * 17] -> distances to the sides [..., 4] in strides."""
        shares = distributions.unflatten(-1, (4, LAST + 1)).softmax(-1)
        return (shares * self.bbox_head.integral.project).sum(-1)


class GFLHead(nn.Module):
    """Two towers that all levels share; class logits [B, K, h, w] and 4 x 17 logits of distances [B, 68, h, w].

    Args:
        in_channels: of the maps and of the towers.
        num_classes: K.
        levels: how many maps; the distributions of each have a learned factor.
        first_value: strides, the least of a distance's values.
        depth: convolutions of a tower.
    """

    def __init__(self, in_channels: int, num_classes: int, levels: int, first_value: int = 0, depth: int = 4) -> None:
        super().__init__()
        self.cls_convs = Tower(in_channels, in_channels, depth)
        self.reg_convs = Tower(in_channels, in_channels, depth)
        self.gfl_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.gfl_reg = nn.Conv2d(in_channels, 4 * (LAST + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(levels))
        self.integral = Integral(first_value)
        init_head(self)
        nn.init.constant_(self.gfl_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits = [self.gfl_cls(self.cls_convs(x)) for x in maps]
        return logits, [s(self.gfl_reg(self.reg_convs(x))) for x, s in zip(maps, self.scales, strict=True)]


class Integral(nn.Module):
    """Holds the values of a distance's distribution, ``project`` [17], which published weights contain."""

    project: Tensor

    def __init__(self, first_value: int) -> None:
        super().__init__()
        self.register_buffer("project", torch.arange(first_value, first_value + LAST + 1, dtype=torch.float32))
