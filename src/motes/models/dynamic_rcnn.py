"""Dynamic R-CNN: what counts as an object, and from where on the box loss is linear, follow the proposals.

Zhang, Chang, Ma, Wang, Chen, "Dynamic R-CNN: Towards High Quality Object Detection via Dynamic Training", ECCV 2020,
arXiv 2004.06002. As proposals get better, the IoU that a positive needs rises (section 4.1) and the smooth L1 loss of
boxes is quadratic over a smaller range (section 4.2).

The leaderboard's row of this name was run WITHOUT any of it: it is Faster R-CNN on a feature pyramid. That is what the
network is by default, and what its reference cases are; the method itself is the variant ``true``. The network of both
is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.dense_detector import Targets
from motes.losses.assigners import MaxIoU
from motes.losses.boxes import smooth_l1
from motes.losses.two_stage import Sampled, positive_deltas, region_losses
from motes.models.two_stage import SMALL, PyramidDetector, RegionHead

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {
    "true": {"dynamic": True},
    "small": {"dynamic": True, **SMALL},
}

EVERY = 100  # iterations between two changes
OVERLAP_RANK, ERROR_RANK = 75, 10  # of an image's proposals: the highest IoU, the smallest error
LOWEST_OVERLAP, LARGEST_BETA = 0.4, 1.0
NMS = 0.85  # of proposals; more of them overlap an object well then


class DynamicRCNN(PyramidDetector):
    """Dynamic R-CNN, or with ``dynamic`` false the Faster R-CNN FPN of that row.

    Args:
        in_channels: bands of the input.
        num_classes: K foreground classes.
        backbone: a name of timm with maps at strides 4 to 32.
        dynamic: the method of the paper.
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
        dynamic: bool = False,
        frozen_stages: int = 1,
        scales: Sequence[float] = (8.0,),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        overlaps: Sequence[float] = (0.7, 0.3, 0.3),
    ) -> None:
        super().__init__(in_channels, backbone, frozen_stages, scales, ratios, overlaps, nms=NMS if dynamic else 0.7)
        self.roi_head = DynamicHead(num_classes) if dynamic else RegionHead(num_classes)


class DynamicHead(RegionHead):
    """A head of regions that keeps the quality of its last proposals, and every 100 iterations follows it.

    What it has seen is part of its state, so a resumed run goes on as if it had not stopped; with several processes
    each follows its own frames, as published.
    """

    overlap: Tensor
    beta: Tensor
    step: Tensor
    overlaps: Tensor
    errors: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("overlap", torch.tensor(LOWEST_OVERLAP))
        self.register_buffer("beta", torch.tensor(LARGEST_BETA))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("overlaps", torch.zeros(EVERY))
        self.register_buffer("errors", torch.zeros(EVERY))

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Targets, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """As RegionHead's; in training they also bring the two thresholds forward."""
        overlap = float(self.overlap)
        self.assigner = MaxIoU(overlap, overlap, overlap, low_quality=False)
        sampled = self.sampled(proposals, targets)
        logits, deltas = self(maps, sampled.rois)
        losses = region_losses(logits, deltas, sampled, self.coder, partial(smooth_l1, beta=float(self.beta)))
        if self.training and deltas is not None:
            self.follow(sampled, deltas)
        return losses

    @torch.no_grad()
    def follow(self, sampled: Sampled, deltas: Tensor) -> None:
        """Notes how good these proposals were, and at every 100th call moves the thresholds (eq. 3 and 5)."""
        images = [o for o in sampled.overlaps if len(o)]
        best = [o.topk(min(OVERLAP_RANK, len(o))).values[-1] for o in images]
        place = self.step % EVERY
        self.overlaps[place] = torch.stack(best).mean() if best else 0
        _, wanted = positive_deltas(deltas, sampled, self.coder)
        error = wanted[:, :2].abs().mean(1)
        rank = min(ERROR_RANK * len(sampled.overlaps), len(error))
        # Batches without a positive say nothing of errors, and are left out of the median.
        self.errors[place] = error.kthvalue(rank).values if rank else torch.nan
        self.step += 1
        if self.step % EVERY == 0:
            self.overlap.copy_(self.overlaps.mean().clamp(min=LOWEST_OVERLAP))
            middle = self.errors.nanmedian()
            if middle > 0:
                self.beta.copy_(middle.clamp(max=LARGEST_BETA))
