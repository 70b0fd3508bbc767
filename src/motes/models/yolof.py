"""YOLOF: one map for objects of all sizes, each box matched with its nearest anchors and predictions.

Chen, Wang, Yang, Zhang, Cheng, Sun, "You Only Look One-level Feature", CVPR 2021, arXiv 2103.09460. Published: stride
32 and anchors of 32 to 512 px, blue-green-red input of standard deviation 1. Variant ``small``: stride 8, anchors of 4
to 32 px, half as wide, red-green-blue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, create_box_backbone
from motes.layers.box_coders import DeltaCoder
from motes.layers.box_towers import Tower, init_head, prior_bias
from motes.layers.dense_detector import DenseDetector, Raw, Targets, flattened, level_counts, map_sizes
from motes.layers.dilated_encoder import DilatedEncoder
from motes.layers.priors import Anchors
from motes.layers.retina_head import one_hot
from motes.losses.assigners import Uniform
from motes.losses.boxes import giou_loss, sigmoid_focal, weighted_mean

PUBLISHED_NAMES = BACKBONE_NAMES

VARIANTS = {
    "small": {
        "level": 3,
        "width": 256,
        "scales": (0.5, 1.0, 2.0, 4.0),
        "style": "pytorch",
        "norm": "fixed",
        "frozen_stages": -1,
        "bgr": False,
        "input": {"std": (0.229, 0.224, 0.225)},
    }
}
LARGEST = 1e8
"""What e^logit is limited to where objectness and class are combined."""


class YOLOF(DenseDetector):
    """YOLOF; the calls are :class:`motes.layers.dense_detector.BoxDetectorMixin`'s.

    Args:
        in_channels: bands of the input.
        num_classes: kinds of target K.
        backbone: a network of timm with a map at stride 2^``level``.
        level: 5 as published.
        width: channels of encoder and head.
        scales: sides of the anchors in units of the stride.
        style: of a ResNet, ``caffe`` or ``pytorch``.
        norm: of the backbone's batch norms: ``frozen``, ``fixed`` or ``train``.
        frozen_stages: of the backbone, -1: none, 0: the stem.
        bgr: the published network takes blue, green, red.

    ``raw``: A * K logits, objectness included, and A * 4 deltas [B, ., h, w]; one level, anchor-major.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        level: int = 5,
        width: int = 512,
        scales: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0),
        style: str = "caffe",
        norm: str = "frozen",
        frozen_stages: int = 1,
        bgr: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.bgr = num_classes, bgr
        self.backbone = create_box_backbone(backbone, style, (level,), norm, frozen_stages, in_channels)
        self.neck = DilatedEncoder(self.backbone.channels[0], width)
        stride = 2**level
        self.anchors = Anchors([stride], scales=tuple(scales))
        self.coder = DeltaCoder(shift_clip=float(stride))
        self.assign = Uniform(4, 0.15, 0.7)
        self.bbox_head = YOLOFHead(width, num_classes, len(scales))

    def raw(self, images: Tensor) -> Raw:
        logits, deltas = self.bbox_head(self.neck(self.backbone(images)[0]))
        return [logits], [deltas]

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, deltas = raw
        anchors = torch.cat(self.anchors.grid(map_sizes(logits), logits[0].device))
        scores = flattened(logits, self.num_classes)
        boxes = self.coder.decode(anchors, flattened(deltas, 4)[0], size)
        return {"boxes": boxes, "scores": scores[0].sigmoid(), "levels": level_counts(scores)}

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` (focal) and ``loss_bbox`` (GIoU), over the number of positive anchors of the batch.

        A prediction is compared with a box once for each of the lists of nearest that it is in, as published.
        """
        logits, deltas = raw
        device = logits[0].device
        anchors = torch.cat(self.anchors.grid(map_sizes(logits), device))
        labels, weights, overlaps, positives = [], [], [], []
        for move, target in zip(flattened(deltas, 4)[0], targets, strict=True):
            boxes = target["boxes"].to(anchors)
            predicted = self.coder.decode(anchors, move)
            found, pairs, owners, kept = self.assign(anchors, predicted.detach(), boxes)
            labels.append(one_hot(found.index, target["labels"].to(device), self.num_classes))
            weights.append((found.index > -2).float()[:, None])
            positives.append((found.index >= 0).sum().clamp(min=1))
            overlaps.append(giou_loss(predicted[pairs[kept]], boxes[owners[kept]]))
        total = torch.stack(positives).sum()
        focal = sigmoid_focal(flattened(logits, self.num_classes)[0], torch.stack(labels))
        return {
            "loss_cls": weighted_mean(focal, torch.stack(weights), total),
            "loss_bbox": weighted_mean(torch.cat(overlaps), None, total),
        }


class YOLOFHead(nn.Module):
    """Two towers; an anchor's class logit is lowered by the objectness that the box tower sees.

    ``forward`` takes a map [B, width, h, w] and returns logits [B, A * K, h, w] and deltas [B, A * 4, h, w].
    """

    def __init__(self, width: int, num_classes: int, anchors: int) -> None:
        super().__init__()
        self.anchors, self.num_classes = anchors, num_classes
        self.cls_subnet = Tower(width, width, 2, norm="bn")
        self.bbox_subnet = Tower(width, width, 4, norm="bn")
        self.cls_score = nn.Conv2d(width, anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, anchors * 4, 3, padding=1)
        self.object_pred = nn.Conv2d(width, anchors, 3, padding=1)
        init_head(self, 0.01)
        nn.init.constant_(self.cls_score.bias, prior_bias())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes = self.bbox_subnet(x)
        classes = self.cls_score(self.cls_subnet(x)).unflatten(1, (self.anchors, self.num_classes))
        objects = self.object_pred(boxes).unsqueeze(2)
        # e^x is limited before the exponential: infinity has no gradient.
        total = 1 + sum(x.clamp(max=math.log(LARGEST)).exp() for x in (classes, objects))
        return (classes + objects - torch.log(total)).flatten(1, 2), self.bbox_pred(boxes)
