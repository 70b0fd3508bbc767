"""Cascade R-CNN: three heads in a row, each trained for a higher overlap, on the boxes of the one before.

Cai, Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018, arXiv 1712.00726, sections 4.1
and 4.2; on a feature pyramid. One box for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import DeltaCoder, Size
from motes.layers.dense_detector import Targets
from motes.layers.roi_heads import BoxHead, batch_regions, roi_features
from motes.layers.rpn import Proposals
from motes.losses.assigners import MaxIoU
from motes.losses.samplers import RandomSampler
from motes.losses.two_stage import region_losses, sampled_regions
from motes.models.two_stage import SMALL, STRIDES, Amount, PyramidDetector, candidates_of, empty_regions, l1

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": SMALL}

OVERLAPS = (0.5, 0.6, 0.7)
WEIGHTS = (1.0, 0.5, 0.25)
STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


class CascadeRCNN(PyramidDetector):
    """Cascade R-CNN.

    Args:
        in_channels: bands of the input.
        num_classes: K foreground classes.
        backbone: a name of timm with maps at strides 4 to 32.
        frozen_stages: of the backbone: 0 its stem, 1 also its first stage, ...; -1 nothing.
        scales: sides of the anchors in units of a level's stride (4 to 64 px).
        ratios: height / width of the anchors.
        overlaps: see :class:`motes.models.two_stage.PyramidDetector`.

    ``net(images)`` takes [B, C, H, W] of any size and returns boxes; see :mod:`motes.layers.dense_detector`.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        frozen_stages: int = 1,
        scales: Sequence[float] = (8.0,),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        overlaps: Sequence[float] = (0.7, 0.3, 0.3),
    ) -> None:
        amounts = (Amount(2000, 2000), Amount(1000, 1000))
        super().__init__(in_channels, backbone, frozen_stages, scales, ratios, overlaps, amounts, border=0, beta=1 / 9)
        self.roi_head = CascadeHead(num_classes)


class CascadeHead(nn.Module):
    """Three heads (``bbox_head.{stage}``) that each correct the boxes of the one before."""

    side = 7
    strides = STRIDES[:4]

    def __init__(self, num_classes: int, channels: int = 256) -> None:
        super().__init__()
        self.num_classes, self.box_loss = num_classes, l1(1.0)
        self.coders = [DeltaCoder(stds) for stds in STDS]
        self.assigners = [MaxIoU(overlap, overlap, overlap, low_quality=False) for overlap in OVERLAPS]
        self.sampler = RandomSampler(512, 0.25)
        self.bbox_head = nn.ModuleList(BoxHead(channels * self.side**2, num_classes, agnostic=True) for _ in OVERLAPS)

    def forward(self, maps: Sequence[Tensor], rois: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Class logits [R, K + 1] and deltas [R, 4] of regions [R, 5]."""
        return self.bbox_head[stage](roi_features(maps[: len(self.strides)], self.strides, rois, self.side))

    def counted(self, maps: Sequence[Tensor], regions: int) -> None:
        """As much work as so many regions make, whatever they are."""
        for head in self.bbox_head:
            head(empty_regions(maps, regions, self.side))

    def corrected(self, rois: Tensor, deltas: Tensor, stage: int, size: Size) -> Tensor:
        """The regions of the next stage, without gradient."""
        boxes = self.coders[stage].decode(rois[:, 1:], deltas.detach().float(), size)
        return torch.cat((rois[:, :1], boxes), 1)

    def stages(self, maps: Sequence[Tensor], rois: Tensor, size: Size) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Regions, logits and deltas of each stage."""
        found = []
        for stage in range(len(self.coders)):
            logits, deltas = self(maps, rois, stage)
            found.append((rois, logits, deltas))
            rois = self.corrected(rois, deltas, stage, size)
        return found

    def outputs(self, maps: Sequence[Tensor], rois: Tensor, size: Size) -> list[Tensor]:
        """Regions, logits and deltas of each stage, one after the other."""
        return [out for stage in self.stages(maps, rois, size) for out in stage]

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """``s0.loss_cls``, ``s0.loss_bbox``, ``s1.loss_cls``, ...: weighted 1, 1/2, 1/4."""
        losses = {}
        for stage, weight in enumerate(WEIGHTS):
            sampled = sampled_regions(proposals, targets, self.assigners[stage], self.sampler, self.num_classes)
            logits, deltas = self(maps, sampled.rois, stage)
            found = region_losses(logits, deltas, sampled, self.coders[stage], self.box_loss)
            losses |= {f"s{stage}.{name}": weight * value for name, value in found.items()}
            # True boxes are not corrected but added anew.
            moved = self.corrected(sampled.rois, deltas, stage, size)
            moved = moved[~sampled.is_truth]
            proposals = [moved[moved[:, 0] == image, 1:] for image in range(len(targets))]
        return losses

    def predict(self, maps: Sequence[Tensor], proposals: Proposals, size: Size) -> dict[str, Any]:
        """Candidates: the boxes of the last stage with the class logits of all stages, averaged before the softmax."""
        stages = self.stages(maps, batch_regions(proposals.boxes), size)
        rois, _, deltas = stages[-1]
        logits = torch.stack([logits for _, logits, _ in stages]).mean(0)
        return candidates_of(proposals, rois, logits, deltas, self.coders[-1], size)
