"""Region proposal network: which anchors hold an object, and where exactly.

Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015,
section 3.1; on every level of a pyramid: Lin et al., "Feature Pyramid Networks", CVPR 2017, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from motes.layers.batched_nms import DROPPED, kept_by_nms, top
from motes.layers.box_coders import DeltaCoder, Size
from motes.layers.dense_detector import flattened, map_sizes
from motes.layers.priors import Anchors


@dataclass(frozen=True)
class Proposals:
    """Boxes worth a closer look: ``boxes`` [B, P, 4] px; ``valid`` [B, P] bool, the others are zeros that fill up."""

    boxes: Tensor
    valid: Tensor


class RPN(nn.Module):
    """One 3x3 convolution, then an objectness logit and four deltas for each of a cell's anchors, on every level.

    ``forward`` takes maps [B, in_channels, h, w] and returns two lists, a level each: logits [B, A, h, w] and deltas
    [B, A * 4, h, w], anchor-major. Parameter names are published ones.

    Args:
        in_channels: of the maps, and of the convolution.
        anchors: a level each; the same number in a cell of every level.
        nms: IoU above which the poorer of two proposals of a level is dropped.
    """

    def __init__(self, in_channels: int, anchors: Anchors, nms: float = 0.7) -> None:
        super().__init__()
        self.anchors, self.coder, self.nms = anchors, DeltaCoder(), nms
        count = anchors.per_cell[0]
        self.rpn_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(in_channels, count, 1)
        self.rpn_reg = nn.Conv2d(in_channels, count * 4, 1)
        for conv in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [self.rpn_conv(m).relu() for m in maps]
        return [self.rpn_cls(h) for h in hidden], [self.rpn_reg(h) for h in hidden]

    def priors(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each level [h * w * A, 4] px."""
        return self.anchors.grid(map_sizes(logits), logits[0].device)

    @torch.no_grad()
    def proposals(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], size: Size, per_level: int, keep: int
    ) -> Proposals:
        """The best boxes of each image, without gradient.

        Of each level the ``per_level`` best anchors, decoded, clipped to the image of ``size`` (h, w) px and thinned by
        NMS within the level; the ``keep`` best of all levels. P is ``keep``, or the number of anchors if that is less.
        """
        boxes, ranks = [], []
        for priors, score, delta in zip(self.priors(logits), flattened(logits, 1), flattened(deltas, 4), strict=True):
            # Logits rank as their sigmoids do, and do not become equal where these round to 1.
            score, chosen = top(score[..., 0].float(), per_level)
            delta = delta.float().gather(1, chosen[..., None].expand(-1, -1, 4))
            box = self.coder.decode(priors[chosen], delta, size)
            score = score.clamp(min=DROPPED / 2).masked_fill(~has_area(box), DROPPED)
            kept = kept_by_nms(box, score[:, None], self.nms, keep)[:, 0]
            boxes.append(box)
            ranks.append(score.masked_fill(~kept, DROPPED))
        rank, chosen = top(torch.cat(ranks, 1), keep)
        found = torch.cat(boxes, 1).gather(1, chosen[..., None].expand(-1, -1, 4))
        valid = rank > DROPPED
        return Proposals(torch.where(valid[..., None], found, torch.zeros_like(found)), valid)


def has_area(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] with positive width and height: bool [...]."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)
