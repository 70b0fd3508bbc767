"""motes-det: our own detector, for targets of about four pixels that stand in clusters.

What the geometry asks for: one level of stride 2, so that every target has cells of its own and every cell knows where
in it a target lies; sides as distributions whose values are whole pixels where targets are small; a target learnt by
the cells near its centre, whether they lie inside or not. None of the ideas is new, their choice is ours:

- points that learn distances to the sides of a box: FCOS (Tian et al., ICCV 2019, section 3.1), and only those about
  the centre: centre sampling (the same authors, arXiv 2006.09214);
- a class score that is the IoU of its box, and distances as distributions: Generalized Focal Loss (Li et al., NeurIPS
  2020, equations 2 and 6), here with steps that grow with the distance; GIoU (Rezatofighi et al., CVPR 2019);
- one fine map that a pyramid's coarser ones are added to: FPN (Lin et al., CVPR 2017), used at its finest level alone;
- each pixel also against its surroundings, in their standard deviations: local contrast (Jarrett et al., ICCV 2009,
  section 3), as most training-free filters of the field take it;
- the sky as a second task: BAFE-Net (Xiao et al., arXiv 2407.20078), here a side branch at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_coders import boxes_from_distances, distances_to
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import ConvUnit, Tower, init_head, prior_bias
from motes.layers.dense_detector import DenseDetector, Raw, Targets, flattened, level_counts, map_sizes
from motes.layers.fine_backbone import FineBackbone
from motes.layers.priors import points
from motes.losses.assigners import centres
from motes.losses.boxes import distribution_focal, giou_loss, quality_focal, weighted_mean

VARIANTS: dict[str, dict[str, Any]] = {"small": {}}
"""The others' variant for small targets is all that there is of this one."""
NEEDS_SKY = True
"""Training needs a sky map of every frame, unless the option ``sky`` is false."""

FINE = "fine"
WINDOW = 15
"""px, side of the square that a pixel is compared with."""
LEAST_VARIANCE = 1e-3
"""Of that square, in units of the card's: two grey levels of 255, so that steps of quantisation stay small."""
STRIDE, SKY_STRIDE = 2, 4
"""px between the points of the head, and between those of the sky."""

VALUES = (*range(-4, 9), 10, 12, 15, 19, 24, 32, 48, 80)
"""px, what a side's distance may be; sides that are farther away are learnt as the last. Below 0 the point is outside.
"""
FIRST_DISTANCE = 2.0
"""px, where the distributions start: of a target of 4 px."""
SIDE_SHARE = 0.25
"""Share of a large target's sides that a point may be off its centre and still learn it."""

BOX_WEIGHT, DISTRIBUTION_WEIGHT, SKY_WEIGHT = 2.0, 0.5, 0.5
IGNORED_SKY = 255


class MotesDet(DenseDetector):
    """See the module's text; the calls are :class:`motes.layers.dense_detector.BoxDetectorMixin`'s.

    Args:
        in_channels: bands of the input.
        num_classes: kinds of target K.
        backbone: ``fine`` (:class:`motes.layers.fine_backbone.FineBackbone`), or a network of timm with maps at strides
            2 to 16, such as resnet18.
        width: channels of the pyramid and the head.
        depth: 3x3 convolutions of each tower.
        contrast: whether each band comes a second time as local contrast.
        radius: px; points at most so far from a target's centre (in x and in y) learn it, even outside of its box. Of
            large targets ``SIDE_SHARE`` of the side.
        sky: whether there is a sky branch. Targets then need a sky map, in which 255 is not known.

    ``raw``: K logits [B, K, H/2, W/2], 4 x 21 logits of the distances l, t, r, b, and 1 logit of the sky
    [B, 1, H/4, W/4], each in a list of one.

    Raises:
        CardError: no such backbone.
    """

    pad_stride = 16

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        backbone: str = FINE,
        width: int = 48,
        depth: int = 2,
        contrast: bool = True,
        radius: float = 2.0,
        sky: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.contrast, self.radius = num_classes, contrast, float(radius)
        in_channels *= 2 if contrast else 1
        if backbone == FINE:
            self.backbone: nn.Module = FineBackbone(in_channels)
        else:
            self.backbone = create_box_backbone(
                backbone, levels=(1, 2, 3, 4), norm="train", frozen_stages=-1, in_channels=in_channels
            )
        self.neck = TopDown(self.backbone.channels, width)
        self.bbox_head = MotesDetHead(width, num_classes, depth, sky)

    def raw(self, images: Tensor) -> Raw:
        return super().raw(torch.cat((images, local_contrast(images)), 1) if self.contrast else images)

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, values, where = self.flat(raw)
        found = {
            "boxes": boxes_from_distances(where, mean_distances(values), size),
            "scores": logits.sigmoid(),
            "levels": level_counts([logits]),
        }
        if len(raw) > 2:
            h, w = (n * SKY_STRIDE for n in raw[2][0].shape[-2:])
            found["sky"] = F.interpolate(raw[2][0], size=(h, w), mode="bilinear", align_corners=False)
        return found

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` (quality focal), ``loss_bbox`` (GIoU), ``loss_dfl`` (distribution focal), all over the number of
        points that learn a box; ``loss_sky`` (cross-entropy over the pixels that are known)."""
        logits, values, where = self.flat(raw)
        found = [self.assign(where, t["boxes"].to(where)) for t in targets]
        image = torch.cat([torch.full_like(place, i) for i, (place, _) in enumerate(found)])
        place = torch.cat([place for place, _ in found])
        truth, labels = (
            torch.cat([t[key].to(where.device)[owner] for t, (_, owner) in zip(targets, found, strict=True)])
            for key in ("boxes", "labels")
        )
        truth, at, own = truth.float(), where[place], values[image, place]
        boxes = boxes_from_distances(at, mean_distances(own))
        quality = torch.zeros_like(logits)
        quality[image, place, labels] = aligned_iou(boxes.detach(), truth)
        steps = steps_of(distances_to(at, truth))
        shape = distribution_focal(own.reshape(-1, len(VALUES)), steps.reshape(-1)).reshape(-1, 4).mean(-1)
        total = max(len(place), 1)
        losses = {
            "loss_cls": weighted_mean(quality_focal(logits, quality), total=total),
            "loss_bbox": BOX_WEIGHT * weighted_mean(giou_loss(boxes, truth), total=total),
            "loss_dfl": DISTRIBUTION_WEIGHT * weighted_mean(shape, total=total),
        }
        if len(raw) > 2:
            losses["loss_sky"] = SKY_WEIGHT * sky_loss(raw[2][0], targets, size)
        return losses

    def flat(self, raw: Raw) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, P, K], logits of the distances [B, P, 4 * 21], and the points [P, 2] px."""
        ((logits,), (values,)) = (flattened(maps, n) for maps, n in zip(raw, self.bbox_head.outputs, strict=False))
        (where,) = points(map_sizes(raw[0]), (STRIDE,), device=logits.device)
        return logits, values, where

    def assign(self, where: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The points [M] that learn a box, and which [M]: the one whose centre is nearest, in units of its reach."""
        if not len(boxes):
            none = torch.zeros(0, dtype=torch.int64, device=where.device)
            return none, none
        reach = ((boxes[:, 2:] - boxes[:, :2]) * SIDE_SHARE).clamp(min=self.radius)
        distance, owner = ((where[:, None] - centres(boxes)).abs() / reach).amax(-1).min(1)
        (place,) = torch.nonzero(distance <= 1, as_tuple=True)
        return place, owner[place]


def local_contrast(images: Tensor) -> Tensor:
    """(pixel - mean) / standard deviation of the square around it (at the edge: of what there is of it)."""
    images = images.float()
    mean = local_mean(images)
    return (images - mean) / (local_mean((images - mean) ** 2) + LEAST_VARIANCE).sqrt()


def local_mean(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


class TopDown(nn.Module):
    """Maps at strides 2 to 16 -> one at stride 2 and one at stride 4, [B, width, h, w], which have seen the coarser."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.fpn_convs = nn.ModuleList(ConvUnit(width, width, 3, "bn") for _ in range(2))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        inner = [lateral(m) for lateral, m in zip(self.lateral_convs, maps, strict=True)]
        x, found = inner[-1], []
        for i in range(len(inner) - 2, -1, -1):
            x = inner[i] + F.interpolate(x, size=inner[i].shape[-2:], mode="nearest")
            if i < len(self.fpn_convs):
                x = self.fpn_convs[i](x)
                found.append(x)
        return found[::-1]


class MotesDetHead(nn.Module):
    """Towers for class and box on the fine map, one for the sky on the coarse one.

    ``outputs``: channels of the first two maps.
    """

    def __init__(self, width: int, num_classes: int, depth: int, sky: bool) -> None:
        super().__init__()
        self.outputs = (num_classes, 4 * len(VALUES))
        self.cls_convs = Tower(width, width, depth, "bn")
        self.reg_convs = Tower(width, width, depth, "bn")
        self.conv_cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(width, 4 * len(VALUES), 1)
        predictors = [self.conv_cls, self.conv_reg]
        if sky:
            self.seg_convs = Tower(width, width, 1, "bn")
            self.conv_seg = nn.Conv2d(width, 1, 1)
            predictors.append(self.conv_seg)
        for conv in predictors:
            init_head(conv)
        nn.init.constant_(self.conv_cls.bias, prior_bias())
        with torch.no_grad():
            self.conv_reg.bias.copy_(torch.tensor([-abs(v - FIRST_DISTANCE) for v in VALUES] * 4))

    def forward(self, maps: Sequence[Tensor]) -> list[list[Tensor]]:
        fine, coarse = maps
        found = [self.conv_cls(self.cls_convs(fine)), self.conv_reg(self.reg_convs(fine))]
        if hasattr(self, "conv_seg"):
            found.append(self.conv_seg(self.seg_convs(coarse)))
        return [[m] for m in found]


def mean_distances(logits: Tensor) -> Tensor:
    """Logits of distributions [..., 4 * 21] -> the distances that they mean, l, t, r, b px [..., 4]."""
    return logits.unflatten(-1, (4, len(VALUES))).softmax(-1) @ logits.new_tensor(VALUES)


def steps_of(distances: Tensor) -> Tensor:
    """Distances in px as fractional places in ``VALUES``, below the last."""
    values = distances.new_tensor(VALUES)
    inside = distances.clamp(VALUES[0], VALUES[-1] - 0.1)
    low = torch.bucketize(inside, values, right=True) - 1
    return low + (inside - values[low]) / (values[low + 1] - values[low])


def sky_loss(logits: Tensor, targets: Targets, size: tuple[int, int]) -> Tensor:
    """Binary cross-entropy with the sky maps at the logits' places, over the known ones; frames without a map are not
    known."""
    below, right = (n * SKY_STRIDE - side for n, side in zip(logits.shape[-2:], size, strict=True))
    maps = []
    for target in targets:
        sky = target.get("sky")
        sky = logits.new_full(size, IGNORED_SKY) if sky is None else sky.to(logits)
        maps.append(F.pad(sky, (0, right, 0, below), value=float(IGNORED_SKY)))
    truth = F.interpolate(torch.stack(maps)[:, None], size=logits.shape[-2:], mode="nearest")
    known = truth != IGNORED_SKY
    loss = F.binary_cross_entropy_with_logits(logits, truth * known, reduction="none")
    return weighted_mean(loss, known, known.sum().clamp(min=1))
