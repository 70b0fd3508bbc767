"""Grid R-CNN: a box is where nine points of it are found, not a correction of the proposal.

Lu, Li, Yue, Li, Yan, "Grid R-CNN", CVPR 2019, arXiv 1811.12030, with the smaller maps of its second version. The points
are :mod:`motes.layers.grid_head`'s; proposals and their classes are Faster R-CNN's on a feature pyramid.

The published order is: proposals, classes, NMS on the PROPOSALS at an IoU of 0.3, then the points of the best 100. So
that NMS belongs to the network, and what it returns as candidates is thinned already: its card asks for no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.layers.batched_nms import kept_by_nms, top
from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_coders import Size, clipped
from motes.layers.dense_detector import Targets, level_counts
from motes.layers.grid_head import GridHead, boxes_from_maps, jittered, wanted_maps
from motes.layers.roi_heads import batch_regions, roi_features
from motes.layers.rpn import Proposals
from motes.losses.two_stage import Sampled, region_losses
from motes.models.two_stage import SMALL, Amount, PyramidDetector, RegionHead, empty_regions

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": SMALL}

JITTER = 0.15  # of a proposal's sides, in training
MOST = 192  # proposals a batch whose points are learned
WEIGHT = 15.0
NMS, KEEP = 0.3, 100
FLOOR = 0.03  # score below which no points are looked for


class GridRCNN(PyramidDetector):
    """Grid R-CNN.

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

    export_bounds: ClassVar = {"outliers": 0.02}
    """Fields of ``motes.export.boxes.BoxBounds``. A point lies where its map is largest: of two cells that are nearly
    equal, rounding may choose the other, and the box moves by a part of a cell."""

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
        self.roi_head = GridRegionHead(num_classes)


class GridRegionHead(RegionHead):
    """Classes of proposals, and the points of the best."""

    def __init__(self, num_classes: int, channels: int = 256) -> None:
        super().__init__(num_classes, channels, regress=False)
        self.grid_head = GridHead(channels)

    def grid_features(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        return roi_features(maps[: len(self.strides)], self.strides, rois, self.grid_head.side)

    def counted(self, maps: Sequence[Tensor], regions: int) -> None:
        super().counted(maps, regions)
        self.grid_head(empty_regions(maps, min(KEEP, regions), self.grid_head.side))

    def outputs(self, maps: Sequence[Tensor], rois: Tensor, size: Size) -> list[Tensor]:
        """Class logits [R, K + 1], heat maps (logits) [R, 9, 28, 28]."""
        return [self(maps, rois)[0], self.grid_head(self.grid_features(maps, rois))]

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_grid``."""
        sampled = self.sampled(proposals, targets)
        losses = region_losses(self(maps, sampled.rois)[0], None, sampled, self.coder, self.box_loss)
        return {**losses, "loss_grid": self.grid_loss(maps, sampled, size)}

    def grid_loss(self, maps: Sequence[Tensor], sampled: Sampled, size: tuple[int, int]) -> Tensor:
        """Cross-entropy of the heat maps of positives, with the neighbours' messages and without.

        In training the positives are moved at random. Without any, a part of the first frame counts nothing, so that
        all parameters have a gradient.
        """
        positive = sampled.positive.nonzero().squeeze(1)
        if len(positive) > MOST:
            positive = positive[torch.randperm(len(positive), device=positive.device)[:MOST]]
        rois, truth, weight = sampled.rois[positive], sampled.truth[positive], WEIGHT
        if not len(positive):
            h, w = size
            rois = maps[0].new_tensor([[0, 0, 0, w, h]]).float()
            truth, weight = rois[:, 1:], 0.0
        elif self.training:
            rois = torch.cat((rois[:, :1], jittered(rois[:, 1:], JITTER, size)), 1)
        wanted = wanted_maps(rois[:, 1:], truth)
        found = self.grid_head.both(self.grid_features(maps, rois))
        return weight * torch.stack([F.binary_cross_entropy_with_logits(m.float(), wanted) for m in found]).sum()

    def predict(self, maps: Sequence[Tensor], proposals: Proposals, size: Size) -> dict[str, Any]:
        """Candidates [B, 100, 4], thinned by NMS: the boxes that the points show, of each class its own.

        Those with scores of at most 0.03, which the published network leaves out, keep the proposal's box.
        """
        batch, count = proposals.boxes.shape[:2]
        logits, _ = self(maps, batch_regions(proposals.boxes))
        scores = logits.float().softmax(-1)[:, :-1].reshape(batch, count, -1).transpose(1, 2)
        # 0 for what is no proposal or is overlapped by a better one; both are below the floor then.
        scores = torch.where(proposals.valid[:, None], scores, torch.zeros_like(scores))
        kept = kept_by_nms(proposals.boxes, scores, NMS, KEEP)
        best, chosen = top(torch.where(kept, scores, torch.zeros_like(scores)).flatten(1), KEEP)
        place, label = chosen % count, chosen // count
        boxes = proposals.boxes.gather(1, place[..., None].expand(-1, -1, 4))
        boxes = torch.where(best[..., None] > 0, boxes, torch.zeros_like(boxes))
        boxes = self.refined(maps, boxes, best > FLOOR, size)
        one_hot = label[..., None] == torch.arange(self.num_classes, device=label.device)
        return {"boxes": boxes, "scores": best[..., None] * one_hot, "levels": level_counts([boxes])}

    def refined(self, maps: Sequence[Tensor], boxes: Tensor, worth: Tensor, size: Size) -> Tensor:
        """Boxes [B, P, 4] replaced by what their points show where ``worth`` [B, P]."""
        rois = batch_regions(boxes)
        wanted = worth.flatten()
        if not torch.jit.is_tracing():  # a graph computes all and chooses, which comes to the same
            rois = rois[wanted]
            if not len(rois):
                return boxes
        found = clipped(boxes_from_maps(rois[:, 1:], self.grid_head(self.grid_features(maps, rois))), size)
        if torch.jit.is_tracing():
            return torch.where(worth[..., None], found.reshape(boxes.shape), boxes)
        out = boxes.reshape(-1, 4).clone()
        out[wanted] = found.to(out.dtype)
        return out.reshape(boxes.shape)
