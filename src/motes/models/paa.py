"""PAA: which anchors learn a box is decided by how well they do, through a mixture of two normals of their losses.

Kim, Lee, "Probabilistic Anchor Assignment with IoU Prediction for Object Detection", ECCV 2020: section 3.2 the
assignment, 3.3 the predicted IoU, 3.4 the voting after suppression (``vote`` of its card). The network is ATSS's; the
third output is a logit of IoU.

Published behaviour: the first candidates of a box are the anchors that overlap it by 0.1, or its best one, and all
anchors that tie with it: inside an anchor of 64 px a target of 4 px overlaps them all equally. A box with fewer than
two candidates teaches nothing. Variant ``small`` has a level of stride 4 and anchors of two strides.
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
from motes.layers.box_overlap import aligned_iou
from motes.layers.dense_detector import Targets, flattened, level_counts
from motes.losses import assigners
from motes.losses.boxes import giou_loss, sigmoid_focal, weighted_mean
from motes.losses.mixture import likely_positives
from motes.models import one_anchor
from motes.models.one_anchor import SMALLEST, Hits, OneAnchorDetector, matched, one_hot

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": one_anchor.SMALL}

STDS = (0.1, 0.1, 0.2, 0.2)
OVERLAP = 0.1
"""From which an anchor is a first candidate."""
BOX_WEIGHT, IOU_WEIGHT = 1.3, 0.5


class PAA(OneAnchorDetector):
    """PAA with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from the pyramid's last map.
        width: channels of pyramid and head.
        anchor_scale: side of the anchors in strides.

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
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale)
        self.bbox_head = ATSSHead(width, num_classes, len(self.strides), width)
        self.coder = DeltaCoder(STDS)
        self.first = assigners.MaxIoU(OVERLAP, OVERLAP, 0.0)

    def candidates_of(self, raw: Sequence[list[Tensor]], size: tuple[Any, Any]) -> dict[str, Tensor]:
        """Scores are sqrt(class probability * IoU), for the threshold too."""
        scores, deltas, overlaps = (flattened(r, n) for r, n in zip(raw, (self.num_classes, 4, 1), strict=True))
        return {
            "boxes": self.coder.decode(torch.cat(self.anchors_for(raw[0])), torch.cat(deltas, 1), size),
            "scores": (torch.cat(scores, 1).sigmoid() * torch.cat(overlaps, 1).sigmoid()).sqrt(),
            "levels": level_counts(scores),
        }

    def losses_of(self, raw: Sequence[list[Tensor]], targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` (focal), ``loss_bbox`` (GIoU, weighted by the boxes' IoU) and ``loss_iou``."""
        widths = (self.num_classes, 4, 1)
        logits, deltas, overlaps = (torch.cat(flattened(r, n), 1) for r, n in zip(raw, widths, strict=True))
        levels = self.anchors_for(raw[0])
        anchors = torch.cat(levels)
        hits = self.likely(logits, deltas, anchors, [len(a) for a in levels], targets)
        count = len(hits.place)
        boxes = self.coder.decode(anchors[hits.place], deltas[hits.image, hits.place])
        iou = aligned_iou(boxes.detach(), hits.boxes)
        iou_loss = F.binary_cross_entropy_with_logits(overlaps[hits.image, hits.place, 0], iou, reduction="none")
        class_loss = sigmoid_focal(logits, one_hot(hits, logits))
        return {
            "loss_cls": weighted_mean(class_loss, total=max(count, len(targets))),
            "loss_bbox": BOX_WEIGHT * weighted_mean(giou_loss(boxes, hits.boxes), iou.clamp(min=SMALLEST), iou.sum()),
            "loss_iou": IOU_WEIGHT * weighted_mean(iou_loss, total=max(count, 1)),
        }

    @torch.no_grad()
    def likely(self, logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Sequence[int], targets: Targets) -> Hits:
        """The anchors that stay positive after their losses were looked at."""
        indices = []
        for i, target in enumerate(targets):
            index = self.first(anchors, target["boxes"].to(anchors)).index
            hits = matched([index], [target])
            label = F.one_hot(hits.labels, self.num_classes)
            loss = torch.zeros(len(index), device=index.device)
            loss[hits.place] = sigmoid_focal(logits[i, hits.place], label).sum(1) + BOX_WEIGHT * giou_loss(
                self.coder.decode(anchors[hits.place], deltas[i, hits.place]), hits.boxes
            )
            stay = likely_positives(loss, index, len(target["boxes"]), sizes)
            indices.append(torch.where(stay, index, -1))
        return matched(indices, targets)
