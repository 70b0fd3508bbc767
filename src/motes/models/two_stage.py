"""What the two-stage detectors share: proposals, then a head that looks at each of them again.

A detector of this family is a subclass of :class:`TwoStageDetector` that says where its maps come from, and a head of
regions: :class:`RegionHead` or one of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_coders import DeltaCoder, Size
from motes.layers.box_fpn import BoxFPN
from motes.layers.dense_detector import BoxDetectorMixin, Targets, level_counts
from motes.layers.priors import Anchors
from motes.layers.roi_heads import BoxHead, batch_regions, roi_features
from motes.layers.rpn import RPN, Proposals
from motes.losses.assigners import MaxIoU
from motes.losses.boxes import smooth_l1
from motes.losses.samplers import RandomSampler
from motes.losses.two_stage import BoxLoss, RPNLoss, Sampled, region_losses, sampled_regions, with_area

STRIDES = (4, 8, 16, 32, 64)
"""px of the input a cell, of the pyramid's levels."""
SMALL: dict[str, Any] = {"scales": (1.0, 2.0), "ratios": (1.0,), "overlaps": (0.5, 0.3, 0.1), "frozen_stages": -1}
"""Options for targets of a few px: anchors of 4, 8, 8, 16, ... px, each target's best ones taken from an IoU of 0.1 on
(a 4x4 px target has one of at least 0.25 wherever it lies), and all of the backbone trained."""
"""ImageNet's statistics: of the input of variants whose published form takes B, G, R."""
REGION_STDS = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class Amount:
    """How many proposals there are: of each level, and in all."""

    per_level: int = 1000
    keep: int = 1000


class TwoStageDetector(BoxDetectorMixin, nn.Module):
    """Faster R-CNN and what came of it; a subclass sets the attributes and says what its ``features`` are.

    Attributes:
        rpn_head: proposes.
        rpn_loss: what it learns from.
        roi_head: decides; has ``losses``, ``predict``, ``outputs`` and ``counted`` as :class:`RegionHead`.
        amounts: of proposals, in training and otherwise.
    """

    rpn_head: RPN
    rpn_loss: RPNLoss
    roi_head: Any
    amounts: dict[bool, Amount]

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps that anchors stand on, finest first."""
        raise NotImplementedError

    def raw(self, images: Tensor) -> dict[str, Any]:
        """``maps``; ``rpn_cls`` and ``rpn_bbox``: logits [B, A, h, w] and deltas [B, A * 4, h, w] of each level."""
        maps = self.features(images)
        logits, deltas = self.rpn_head(maps)
        return {"maps": maps, "rpn_cls": logits, "rpn_bbox": deltas}

    def candidates_from(self, images: Tensor, size: Size) -> dict[str, Tensor]:
        raw = self.raw(images)
        proposals = self.proposals(raw, size, self.amounts[False])
        return self.roi_head.predict(raw["maps"], proposals, size)

    def losses(self, images: Tensor, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_rpn_cls``, ``loss_rpn_bbox`` and those of the regions."""
        raw, targets = self.raw(images), with_area(targets)
        objects, boxes = self.proposal_losses(raw, targets, size)
        found = self.proposals(raw, size, self.amounts[True])
        proposals = [b[v] for b, v in zip(found.boxes, found.valid, strict=True)]
        first = {"loss_rpn_cls": torch.stack(objects).sum(), "loss_rpn_bbox": torch.stack(boxes).sum()}
        return {**first, **self.roi_head.losses(raw["maps"], proposals, targets, size)}

    def proposal_losses(
        self, raw: Mapping[str, Any], targets: Targets, size: tuple[int, int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scalars of each level: of objectness, of deltas."""
        head, boxes = self.rpn_head, [t["boxes"] for t in targets]
        return self.rpn_loss(head.anchors, head.coder, raw["rpn_cls"], raw["rpn_bbox"], boxes, size)

    def proposals(self, raw: Mapping[str, Any], size: Size, amount: Amount) -> Proposals:
        return self.rpn_head.proposals(raw["rpn_cls"], raw["rpn_bbox"], size, amount.per_level, amount.keep)

    def counted(self, images: Tensor) -> None:
        """As much work as ``candidates``, for counting on tensors without values: with the most proposals there are."""
        self.roi_head.counted(self.raw(images)["maps"], self.amounts[False].keep)

    def published_outputs(self, images: Tensor, proposals: Tensor | None = None) -> dict[str, Tensor]:
        """Logits and deltas of every level, then what the head says of ``proposals`` [B, n, 4] px, all images in order.

        Without ``proposals`` its own are taken, all [B, P, 4] of them.
        """
        raw = self.raw(images)
        size = (images.shape[-2], images.shape[-1])
        if proposals is None:
            proposals = self.proposals(raw, size, self.amounts[False]).boxes
        found = [*raw["rpn_cls"], *raw["rpn_bbox"], *self.roi_head.outputs(raw["maps"], batch_regions(proposals), size)]
        return {f"out{i}": value for i, value in enumerate(found)}


class PyramidDetector(TwoStageDetector):
    """A two-stage detector on a feature pyramid P2 to P6 of 256 channels.

    Args:
        in_channels: bands of the input.
        backbone: a name of timm with maps at strides 4 to 32.
        frozen_stages: of the backbone: 0 its stem, 1 also its first stage, ...; -1 nothing.
        scales: sides of the anchors in units of a level's stride (4, 8, ..., 64 px).
        ratios: height / width of the anchors.
        overlaps: IoU from which an anchor is an object, below which it is background, and which an object's best
            anchors need to be taken if none has the first.
        amounts: of proposals in training and otherwise.
        border, beta: see RPNLoss and :func:`motes.losses.boxes.smooth_l1` (0: L1).
        nms: IoU of proposals.
    """

    def __init__(
        self,
        in_channels: int,
        backbone: str,
        frozen_stages: int,
        scales: Sequence[float],
        ratios: Sequence[float],
        overlaps: Sequence[float],
        amounts: tuple[Amount, Amount] = (Amount(2000, 1000), Amount(1000, 1000)),
        border: float = -1,
        beta: float = 0.0,
        nms: float = 0.7,
    ) -> None:
        super().__init__()
        self.backbone = create_box_backbone(
            backbone, levels=(2, 3, 4, 5), norm="fixed", frozen_stages=frozen_stages, in_channels=in_channels
        )
        self.neck: nn.Module = BoxFPN(self.backbone.channels, extra=1, extra_from="pool")
        self.rpn_head = RPN(256, Anchors(STRIDES, ratios, scales), nms)
        self.rpn_loss = RPNLoss(MaxIoU(*overlaps), RandomSampler(256, 0.5), l1(beta), border)
        self.amounts = dict(zip((True, False), amounts, strict=True))

    def features(self, images: Tensor) -> list[Tensor]:
        return list(self.neck(self.backbone(images)))


class RegionHead(nn.Module):
    """The published second stage: two fully connected layers on 7x7 bins, a class, and one box a class.

    Args:
        num_classes: K.
        channels: of the maps.
        box_loss: of the deltas.
        overlap: IoU from which a proposal is an object.
        sampler: proposals to learn from.
        regress: has a box branch.
    """

    side = 7
    strides: tuple[int, ...] = STRIDES[:4]

    def __init__(
        self,
        num_classes: int,
        channels: int = 256,
        box_loss: BoxLoss | None = None,
        overlap: float = 0.5,
        sampler: RandomSampler | None = None,
        regress: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.coder, self.box_loss = DeltaCoder(REGION_STDS), box_loss or l1(0.0)
        self.assigner = MaxIoU(overlap, overlap, overlap, low_quality=False)
        self.sampler = sampler or RandomSampler(512, 0.25)
        self.bbox_head = self.make_head(channels, regress)

    def make_head(self, channels: int, regress: bool) -> nn.Module:
        return BoxHead(channels * self.side**2, self.num_classes, regress=regress)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor | None]:
        """Class logits [R, K + 1] and deltas [R, 4 K] of regions [R, 5]."""
        return self.decided(roi_features(maps[: len(self.strides)], self.strides, rois, self.side))

    def decided(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same of the regions' features [R, C, side, side]."""
        return self.bbox_head(features)

    def counted(self, maps: Sequence[Tensor], regions: int) -> None:
        """As much work as so many regions make, whatever they are."""
        self.decided(empty_regions(maps, regions, self.side))

    def outputs(self, maps: Sequence[Tensor], rois: Tensor, size: Size) -> list[Tensor]:
        """What the published head returns."""
        return [out for out in self(maps, rois) if out is not None]

    def sampled(self, proposals: Sequence[Tensor], targets: Targets) -> Sampled:
        return sampled_regions(proposals, targets, self.assigner, self.sampler, self.num_classes)

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``; proposals [Pi, 4] px of each image, targets with area."""
        sampled = self.sampled(proposals, targets)
        return region_losses(*self(maps, sampled.rois), sampled, self.coder, self.box_loss)

    def predict(self, maps: Sequence[Tensor], proposals: Proposals, size: Size) -> dict[str, Tensor]:
        """Candidates: P boxes, or P * K, one a class of each proposal, where the box depends on the class."""
        rois = batch_regions(proposals.boxes)
        logits, deltas = self(maps, rois)
        return candidates_of(proposals, rois, logits, deltas, self.coder, size)


def candidates_of(
    proposals: Proposals, rois: Tensor, logits: Tensor, deltas: Tensor, coder: DeltaCoder, size: Size
) -> dict[str, Tensor]:
    """Boxes and scores of regions [B * P, 5] with class logits [B * P, K + 1] and deltas [B * P, 4 K] or [B * P, 4]."""
    batch = proposals.boxes.shape[0]
    classes, kinds = logits.shape[1] - 1, deltas.shape[1] // 4
    scores = logits.float().softmax(-1)[:, :classes].reshape(batch, -1, classes)
    scores = torch.where(proposals.valid[..., None], scores, torch.zeros_like(scores))
    boxes = coder.decode(rois[:, None, 1:], deltas.float().reshape(-1, kinds, 4), size)
    if kinds > 1:
        scores = torch.diag_embed(scores).flatten(1, 2)
    boxes = boxes.reshape(batch, -1, 4)
    return {"boxes": boxes, "scores": scores, "levels": level_counts([boxes])}


def empty_regions(maps: Sequence[Tensor], regions: int, side: int) -> Tensor:
    """Features [R, C, side, side] that are 0."""
    return maps[0].new_zeros(regions, maps[0].shape[1], side, side)


def l1(beta: float) -> BoxLoss:
    """L1 that is quadratic below ``beta``; 0 is plain L1."""
    return partial(smooth_l1, beta=beta)
