"""AutoAssign: which places are responsible for a box is learnt along with the boxes.

Zhu et al., "AutoAssign: Differentiable Label Assignment for Dense Object Detection", arXiv 2007.03496: all places
inside a box are both positive and negative, weighted by a learned centre prior (section 3.3) and by how sure the
network is there (3.4).

Published behaviour: distances are measured from the cells' corners, not their middles; a box that holds no such point
adds a constant to the loss and teaches nothing. Variant ``small`` has a level of
stride 4 and counts boxes as at least 6 px wide and high where places are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES, IMAGENET, create_box_backbone
from motes.layers.box_coders import boxes_from_distances, distances_to
from motes.layers.box_fpn import BoxFPN
from motes.layers.box_overlap import aligned_iou, pairwise_iou
from motes.layers.box_towers import Scale, Tower, init_head, prior_bias
from motes.layers.dense_detector import DenseDetector, Targets, flattened, level_counts, map_sizes
from motes.layers.priors import points
from motes.losses.assigners import grown

PUBLISHED_NAMES = BACKBONE_NAMES

SMALL: dict[str, Any] = {
    "finest": 2,
    "extra": 0,
    "width": 128,
    "min_side": 1.5,
    "first_distance": 1.5,
    "style": "pytorch",
    "norm": "fixed",
    "bgr": False,
}
VARIANTS = {"small": {**SMALL, "input": IMAGENET}}

Raw = tuple[list[Tensor], list[Tensor], list[Tensor]]

EPS = 1e-12
NEVER = 100.0
"""-ln of a probability of 0, as published."""
SURE = 3.0
"""How much places that are right already count for more: exp(3 p)."""
POSITIVE_WEIGHT, NEGATIVE_WEIGHT, CENTRE_WEIGHT, BOX_WEIGHT = 0.25, 0.75, 0.75, 5.0


class AutoAssign(DenseDetector):
    """AutoAssign with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from its last map.
        width: channels of pyramid and head.
        min_side: strides of the finest level that a box counts as wide and high at least when places are looked for
            inside, so that the smallest ones hold some; sides of boxes may then lie on the other side of their place,
            up to half of this. 0 as published.
        first_distance: strides from a place to the sides of its box before training.
        style: of the backbone's bottlenecks, ``pytorch`` or ``caffe``.
        norm: of the backbone's batch norms, ``train``, ``fixed`` or ``frozen``.
        bgr: whether the network wants blue first.

    Raises:
        CardError: no such backbone, style or norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        finest: int = 3,
        extra: int = 2,
        width: int = 256,
        min_side: float = 0.0,
        first_distance: float = 4.0,
        style: str = "caffe",
        norm: str = "frozen",
        bgr: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.bgr = num_classes, bgr
        self.strides = [2**level for level in range(finest, 6 + extra)]
        self.min_side = min_side * self.strides[0]
        levels = tuple(range(finest, 6))
        self.backbone = create_box_backbone(backbone, style, levels, norm, frozen_stages=1, in_channels=in_channels)
        self.neck = BoxFPN(
            self.backbone.channels, width, extra, extra_from="input", relu_before_extra=True, init="caffe2"
        )
        self.bbox_head = AutoAssignHead(width, num_classes, self.strides, first_distance, self.min_side / 2)

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, distances, objectness = raw
        places = self.places(logits)
        return {
            "boxes": boxes_from_distances(torch.cat(places), torch.cat(flattened(distances, 4), 1), size),
            "scores": torch.cat(flattened(logits, self.num_classes), 1).sigmoid(),
            "factors": torch.cat(flattened(objectness, 1), 1).squeeze(-1).sigmoid(),
            "levels": level_counts(flattened(logits, self.num_classes)),
        }

    def places(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return points(map_sizes(maps), self.strides, offset=0.0, device=maps[0].device)

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_pos`` over the boxes of the batch, ``loss_neg`` over the sum of the prior, ``loss_center``."""
        levels = self.places(raw[0])
        places = torch.cat(levels)
        stride = torch.cat([p.new_full((len(p), 1), s) for p, s in zip(levels, self.strides, strict=True)])
        logits = torch.cat(flattened(raw[0], self.num_classes), 1)
        distances = torch.cat(flattened(raw[1], 4), 1)
        joint = logits.sigmoid() * torch.cat(flattened(raw[2], 1), 1).sigmoid()
        decoded = boxes_from_distances(places, distances)
        positive, negative, centre, total = [], [], [], places.new_zeros(())
        for target, p, found in zip(targets, joint, decoded, strict=True):
            boxes, labels = target["boxes"].to(places), target["labels"].to(places.device)
            inside = distances_to(places[:, None], grown(boxes, self.min_side)).amin(-1) > 0
            prior = torch.where(inside, self.bbox_head.center_prior(places, stride, boxes, labels), 0.0)
            positive.append(positive_loss(p[:, labels], found, boxes, prior, inside))
            negative.append(negative_loss(p, found, boxes, labels, inside))
            held = inside.any()
            centre.append(torch.where(held, len(boxes) / prior.sum().clamp(min=EPS), 0.0 * prior.sum()))
            total = total + prior.detach().sum()
        boxes_in_all = sum(len(t["boxes"]) for t in targets)
        return {
            "loss_pos": POSITIVE_WEIGHT * sum(positive) / max(1, boxes_in_all),
            "loss_neg": NEGATIVE_WEIGHT * sum(negative) / total.clamp(min=1),
            "loss_center": CENTRE_WEIGHT * torch.stack(centre).mean(),
        }


class AutoAssignHead(nn.Module):
    """Two towers that all levels share; classes, distances and objectness; and the centre prior of every class.

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
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.strides, self.slack = tuple(strides), slack
        self.cls_convs = Tower(in_channels, in_channels, depth, bias=True)
        self.reg_convs = Tower(in_channels, in_channels, depth, bias=True)
        self.conv_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        self.center_prior = CentrePrior(num_classes)
        init_head(self, 0.01)
        nn.init.constant_(self.conv_cls.bias, prior_bias(0.02))
        # Distances are cut at 0, where nothing would be learnt.
        nn.init.constant_(self.conv_reg.bias, first_distance)

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        """Per level logits [B, K, h, w], distances [B, 4, h, w] in px, objectness logits [B, 1, h, w]."""
        logits, distances, objectness = [], [], []
        for m, scale, stride in zip(maps, self.scales, self.strides, strict=True):
            logits.append(self.conv_cls(self.cls_convs(m)))
            m = self.reg_convs(m)
            distances.append(F.relu(scale(self.conv_reg(m))) * stride - self.slack)
            objectness.append(self.conv_centerness(m))
        return logits, distances, objectness


class CentrePrior(nn.Module):
    """A Gaussian about the centre of a box, its place and width in strides learnt for every class (equation 3)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))

    def forward(self, places: Tensor, stride: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Weight of every place for every box [P, N].

        Args:
            places: [P, 2] px.
            stride: [P, 1] px, of their levels.
            boxes: [N, 4] px.
            labels: [N].
        """
        shift = (places - ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]) / stride  # [N, P, 2]
        squared = (shift - self.mean[labels][:, None]).square() / (2 * self.sigma[labels][:, None].square())
        return torch.exp(-squared.sum(-1)).T


def positive_loss(p: Tensor, found: Tensor, boxes: Tensor, prior: Tensor, inside: Tensor) -> Tensor:
    """Sum over boxes of -ln(their weighted confidence) (equation 5).

    Args:
        p: [P, N], probability of each place for the class of each box.
        found: [P, 4], the boxes predicted there.
        boxes: [N, 4].
        prior: [P, N], 0 outside.
        inside: [P, N].
    """
    held = inside.any(0)
    missed = NEVER * (len(boxes) - held.sum())
    rows = inside.any(1)
    p, prior = p[rows][:, held], prior[rows][:, held]
    found, boxes = found[rows], boxes[held]
    distance = 1 - aligned_iou(found[:, None], boxes[None], "giou")
    p = p * torch.exp(-BOX_WEIGHT * distance)
    weight = torch.exp(SURE * p) * prior
    weight = weight / weight.sum(0).clamp(min=EPS)
    confidence = (weight * p).sum(0).clamp(max=1)
    return F.binary_cross_entropy(confidence, torch.ones_like(confidence), reduction="sum") + missed


def negative_loss(p: Tensor, found: Tensor, boxes: Tensor, labels: Tensor, inside: Tensor) -> Tensor:
    """Sum over places and classes of (f p)^2 * -ln(1 - f p) (equation 6).

    f is 1 outside of boxes; inside it is lower the better the place's box fits, 0 for the best place of a box.
    """
    factor = torch.ones_like(p)
    if len(boxes):
        with torch.no_grad():
            misfit = 1 / (1 - pairwise_iou(found, boxes).amax(1, keepdim=True)).clamp(min=EPS)
            low = torch.where(inside, misfit, torch.inf).amin(0)
            high = torch.where(inside, misfit, -torch.inf).amax(0)
            value = 1 - (misfit - low + EPS) / (high - low + EPS)  # [P, N]
            order = torch.arange(1, len(boxes) + 1, device=p.device)
            for k in labels.unique():
                # Where boxes of a class overlap, the last one decides.
                last = (inside & (labels == k)) * order
                owner = last.argmax(1, keepdim=True)
                factor[:, k] = torch.where(last.amax(1) > 0, value.gather(1, owner).squeeze(1), 1.0)
    scaled = (factor * p).clamp(max=1)
    return (scaled.square() * F.binary_cross_entropy(scaled, torch.zeros_like(scaled), reduction="none")).sum()
