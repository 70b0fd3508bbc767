"""SSD: anchors on six maps of a VGG-16 and the layers behind it, with a softmax over classes and background.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016, arXiv 1512.02325.
Layers, anchors and strides are those of SSD300, which the BAFE-Net leaderboard ran on 512 x 512 px. The strides of the
last two maps (100 and 300 px) are right at 300 px only; at other sizes their anchors sit elsewhere than what they see,
as published. Variant ``small`` has four maps of strides 4 to 32 and anchors from 4 px.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_coders import DeltaCoder
from motes.layers.dense_detector import DenseDetector, Raw, Targets, flattened, level_counts, map_sizes
from motes.layers.priors import Anchors
from motes.layers.ssd import DilatedVGG, SSDNeck
from motes.losses.assigners import MaxIoU
from motes.losses.boxes import smooth_l1, weighted_mean
from motes.models.retinanet import TOUCHING

SIZES = (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0)
EXTRA = ((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))
"""Hidden channels, channels, stride and padding of the layers behind the backbone."""
EXTRA_STRIDES = (32, 64, 100, 300)
SMALLEST = 257
"""px at which the last of all six maps has a cell."""
STDS = (0.1, 0.1, 0.2, 0.2)
NEGATIVES = 3
"""The hardest negatives per positive that count."""

VARIANTS = {
    "small": {
        "levels": (2, 3, 4),
        "sizes": (4.0, 8.0, 16.0, 32.0, 64.0),
        "input": {"std": (0.229, 0.224, 0.225)},
    }
}


class SSD(DenseDetector):
    """SSD; the calls are :class:`motes.layers.dense_detector.BoxDetectorMixin`'s.

    Args:
        in_channels: bands of the input.
        num_classes: kinds of target K.
        backbone: ``vgg16``, or a pyramid of timm.
        levels: of the backbone that are used, the last 4; level n has stride 2^n. Coarser ones are made from the last.
        sizes: px, side of the smallest anchors of every level, ascending; the last number closes the series.
        norm, frozen_stages: of a backbone of timm: ``frozen``, ``fixed`` or ``train`` batch norms; -1: no frozen stage.

    Frames of any size are taken as they are; those too small for the last map are padded.

    ``raw``: A * (K + 1) logits, background last, and A * 4 deltas [B, ., h, w] a level, anchor-major.

    Raises:
        CardError: no such backbone or levels, sizes not ascending, or too few or too many.
    """

    pad_stride = 1

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "vgg16",
        levels: Sequence[int] = (3, 4),
        sizes: Sequence[float] = SIZES,
        norm: str = "fixed",
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        levels, sizes = tuple(levels), tuple(sizes)
        if levels not in ((3, 4), (2, 3, 4)):
            raise CardError(f"option 'levels' of ssd is 3, 4 or 2, 3, 4, found {', '.join(map(str, levels))}")
        extra = len(sizes) - 1 - len(levels)
        if not 0 <= extra <= len(EXTRA) or any(b <= a for a, b in itertools.pairwise((0.0, *sizes))):
            raise CardError(
                f"option 'sizes' of ssd: expected {len(levels) + 1} to {len(levels) + len(EXTRA) + 1} ascending "
                f"numbers, found {', '.join(map(str, sizes))}"
            )
        self.num_classes = num_classes
        strides = [2**level for level in levels]
        if backbone == "vgg16":
            self.backbone: nn.Module = DilatedVGG(strides, in_channels)
        else:
            self.backbone = create_box_backbone(backbone, "pytorch", levels, norm, frozen_stages, in_channels)
        self.neck = SSDNeck(self.backbone.channels, EXTRA[:extra])
        self.anchors = Anchors([*strides, *EXTRA_STRIDES[:extra]], offset=0.5)
        self.anchors.base = base_anchors(sizes)
        self.coder = DeltaCoder(STDS)
        self.assign = MaxIoU(0.5, 0.5, TOUCHING, all_ties=False)
        self.bbox_head = SSDHead(self.neck.channels, self.anchors.per_cell, num_classes)
        if extra > 2:
            self.pad_least = SMALLEST
        self.input_limits = {"min_size": self.pad_least}

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, deltas = raw
        anchors = torch.cat(self.anchors.grid(map_sizes(logits), logits[0].device))
        scores = flattened(logits, self.num_classes + 1)
        boxes = self.coder.decode(anchors, torch.cat(flattened(deltas, 4), 1), size)
        return {"boxes": boxes, "scores": torch.cat(scores, 1).softmax(-1)[..., :-1], "levels": level_counts(scores)}

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``, over the number of positive anchors of the batch.

        As published, a frame without boxes adds nothing: negatives are counted by the positives of their own frame.
        """
        return {name: torch.stack(frames).sum() for name, frames in self.losses_by_frame(raw, targets, size).items()}

    def losses_by_frame(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, list[Tensor]]:
        logits, deltas = raw
        sizes, device = map_sizes(logits), logits[0].device
        # Where the stride is more than what lies between two cells, the last cells' anchors are outside the frame.
        usable = torch.cat(self.anchors.inside(sizes, size, device=device))
        anchors = torch.cat(self.anchors.grid(sizes, device))[usable]
        scores = torch.cat(flattened(logits, self.num_classes + 1), 1)[:, usable]
        moves = torch.cat(flattened(deltas, 4), 1)[:, usable]
        found = [self.assign(anchors, t["boxes"].to(anchors)).index for t in targets]
        total = torch.stack([(index >= 0).sum().clamp(min=1) for index in found]).sum()
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": []}
        for score, move, index, target in zip(scores, moves, found, targets, strict=True):
            positive = index >= 0
            matched = index[positive]
            labels = torch.full_like(index, self.num_classes)
            labels[positive] = target["labels"].to(device)[matched]
            cost = F.cross_entropy(score, labels, reduction="none")
            negatives = cost[~positive]
            hardest = negatives.topk(min(NEGATIVES * len(matched), len(negatives))).values
            losses["loss_cls"].append((cost[positive].sum() + hardest.sum()) / total)
            shifts = self.coder.encode(anchors[positive], target["boxes"].to(anchors)[matched])
            losses["loss_bbox"].append(weighted_mean(smooth_l1(move[positive], shifts), None, total))
        return losses


class SSDHead(nn.Module):
    """One convolution a level for classes, ``cls_convs.<level>.0``, and one for deltas, ``reg_convs.<level>.0``."""

    def __init__(self, channels: Sequence[int], anchors: Sequence[int], num_classes: int) -> None:
        super().__init__()
        pairs = list(zip(channels, anchors, strict=True))
        self.cls_convs = nn.ModuleList(predictor(c, a * (num_classes + 1)) for c, a in pairs)
        self.reg_convs = nn.ModuleList(predictor(c, a * 4) for c, a in pairs)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits = [conv(m) for conv, m in zip(self.cls_convs, maps, strict=True)]
        return logits, [conv(m) for conv, m in zip(self.reg_convs, maps, strict=True)]


def predictor(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv)


def base_anchors(sizes: Sequence[float]) -> list[Tensor]:
    """Per level [A, 4] around the origin: squares of its size and of the mean with the next, then long ones.

    Height / width is 1/2 and 2, on all but the first and the last two levels 1/3 and 3 as well.
    """
    levels = len(sizes) - 1
    found = []
    for i, (size, following) in enumerate(itertools.pairwise(sizes)):
        shapes = [(1.0, size), (1.0, math.sqrt(size * following))]
        shapes += [(ratio, size) for n in ((2.0, 3.0) if 0 < i < levels - 2 else (2.0,)) for ratio in (1 / n, n)]
        sides = [(side / math.sqrt(ratio), side * math.sqrt(ratio)) for ratio, side in shapes]
        found.append(torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides], device="cpu"))
    return found
