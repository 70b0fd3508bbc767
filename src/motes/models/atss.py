"""ATSS: which anchors learn a box follows from the statistics of their overlaps with it.

Zhang, Chi, Yao, Lei, Li, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
Selection", CVPR 2020, section 4; the network is section 3's RetinaNet with one anchor, GroupNorm and centreness.

Published behaviour: anchors of eight strides sit on the cells' upper left corners, and only those whose centre lies
inside a box can learn it, which at stride 8 is a third of DenseSIRST's targets. Variant ``small`` has a level of stride
4, anchors of two strides, and counts boxes as at least 6 px wide and high for that test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.layers.atss_head import ATSSHead
from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import DeltaCoder
from motes.layers.dense_detector import Targets, flattened, level_counts
from motes.losses.assigners import grown
from motes.losses.boxes import giou_loss, sigmoid_focal
from motes.models import one_anchor
from motes.models.one_anchor import OneAnchorDetector, at_levels, centreness_of, level_sums, one_hot

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": {**one_anchor.SMALL, "min_side": 1.5}}

STDS = (0.1, 0.1, 0.2, 0.2)
BOX_WEIGHT = 2.0


class ATSS(OneAnchorDetector):
    """ATSS with a pyramid from stride 2^``finest`` (8 as published).

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
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale, min_side)
        self.bbox_head = ATSSHead(width, num_classes, len(self.strides), width)
        self.coder = DeltaCoder(STDS)

    def candidates_of(self, raw: Sequence[list[Tensor]], size: tuple[Any, Any]) -> dict[str, Tensor]:
        scores, deltas, centreness = (flattened(r, n) for r, n in zip(raw, (self.num_classes, 4, 1), strict=True))
        return {
            "boxes": self.coder.decode(torch.cat(self.anchors_for(raw[0])), torch.cat(deltas, 1), size),
            "scores": torch.cat(scores, 1).sigmoid(),
            "factors": torch.cat(centreness, 1)[..., 0].sigmoid(),
            "levels": level_counts(scores),
        }

    def losses_by_level(self, raw: Sequence[list[Tensor]], targets: Targets) -> dict[str, Tensor]:
        """[L] each: ``loss_cls`` (focal), ``loss_bbox`` (GIoU, weighted by centreness) and ``loss_centerness``.

        The first and the last are divided by the number of positive anchors, at least one an image; the second by the
        sum of its weights, at least 1.
        """
        widths = (self.num_classes, 4, 1)
        logits, deltas, centreness = (torch.cat(flattened(r, n), 1) for r, n in zip(raw, widths, strict=True))
        levels = self.anchors_for(raw[0])
        sizes, anchors = [len(a) for a in levels], torch.cat(levels)
        hits = self.chosen(levels, targets)
        own = anchors[hits.place]
        centred = centreness_of(own, grown(hits.boxes, self.min_side))
        class_loss = sigmoid_focal(logits, one_hot(hits, logits))
        box_loss = giou_loss(self.coder.decode(own, deltas[hits.image, hits.place]), hits.boxes)
        found = centreness[hits.image, hits.place, 0]
        centre_loss = F.binary_cross_entropy_with_logits(found, centred, reduction="none")
        return {
            "loss_cls": level_sums(class_loss.sum((0, 2)), sizes) / hits.total,
            "loss_bbox": BOX_WEIGHT * at_levels(box_loss * centred, hits, sizes) / centred.sum().clamp(min=1),
            "loss_centerness": at_levels(centre_loss, hits, sizes) / hits.total,
        }
