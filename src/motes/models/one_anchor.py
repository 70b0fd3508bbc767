"""What ATSS, PAA, GFL, TOOD, VFNet and DyHead share: a pyramid, one square anchor a cell, sums of losses by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_coders import distances_to
from motes.layers.box_fpn import BoxFPN
from motes.layers.dense_detector import DenseDetector, Targets, map_sizes
from motes.layers.priors import Anchors
from motes.losses import assigners

SMALL: dict[str, Any] = {"finest": 2, "extra": 0, "width": 128, "anchor_scale": 2.0}
"""Options for small targets: a level of stride 4, none above stride 32, anchors from 8 px."""

CANDIDATES = 9
"""Anchors per box and level that ATSS looks at."""
SMALLEST = 1e-12


class OneAnchorDetector(DenseDetector):
    """Backbone, pyramid and anchors; a network adds ``bbox_head``, ``candidates_of`` and ``losses_by_level``.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from the pyramid's last map.
        width: channels of the pyramid.
        anchor_scale: side of the anchors in strides; they sit on the cells' upper left corners.
        min_side: strides of the finest level that a box counts as wide and high at least where anchors are chosen by
            their centres, so that the smallest ones get some; 0 as published.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        backbone: str,
        finest: int,
        extra: int,
        width: int,
        anchor_scale: float,
        min_side: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = [2**level for level in range(finest, 6 + extra)]
        self.min_side = min_side * self.strides[0]
        self.backbone = create_box_backbone(
            backbone, levels=tuple(range(finest, 6)), norm="fixed", frozen_stages=1, in_channels=in_channels
        )
        self.neck = BoxFPN(self.backbone.channels, width, extra)
        self.anchors = Anchors(self.strides, scales=(anchor_scale,))
        self.atss = assigners.ATSS(CANDIDATES)

    def losses_of(self, raw: Sequence[list[Tensor]], targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """The scalars of ``losses_by_level``."""
        return {name: levels.sum() for name, levels in self.losses_by_level(raw, targets).items()}

    def losses_by_level(self, raw: Sequence[list[Tensor]], targets: Targets) -> dict[str, Tensor]:
        """[L] each."""
        raise NotImplementedError

    def anchors_for(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[h * w, 4] px a level."""
        return self.anchors.grid(map_sizes(maps), maps[0].device)

    def chosen(self, anchors: Sequence[Tensor], targets: Targets) -> Hits:
        """The positive anchors by ATSS."""
        boxes = [assigners.grown(t["boxes"].to(anchors[0]), self.min_side) for t in targets]
        return matched([self.atss(anchors, b).index for b in boxes], targets)


@dataclass(frozen=True)
class Hits:
    """The M positive anchors of a batch.

    ``image`` [M], ``place`` [M] (row of all levels), ``owner`` [M] (row of its image's boxes), ``boxes`` [M, 4] px,
    ``labels`` [M]; ``total``: how many, counted as at least one an image, as published.
    """

    image: Tensor
    place: Tensor
    owner: Tensor
    boxes: Tensor
    labels: Tensor
    total: Tensor


def matched(indices: Sequence[Tensor], targets: Targets) -> Hits:
    """From what each image's anchors were assigned to, [P] int64 each: a row of its boxes, or negative."""
    found = []
    for i, (index, target) in enumerate(zip(indices, targets, strict=True)):
        place = (index >= 0).nonzero().squeeze(1)
        owner = index[place]
        boxes, labels = target["boxes"].to(index.device).float(), target["labels"].to(index.device)
        found.append((torch.full_like(place, i), place, owner, boxes[owner], labels[owner]))
    image, place, owner, boxes, labels = (torch.cat(f) for f in zip(*found, strict=True))
    total = torch.bincount(image, minlength=len(targets)).clamp(min=1).sum()
    return Hits(image, place, owner, boxes, labels, total)


def one_hot(hits: Hits, like: Tensor) -> Tensor:
    """Class targets of the shape of ``like`` [B, P, K]: 1 at the label of each positive anchor."""
    targets = torch.zeros_like(like)
    targets[hits.image, hits.place, hits.labels] = 1
    return targets


def level_sums(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """[P] -> [L]: sums over the ``sizes`` anchors of each level."""
    return torch.stack([part.sum() for part in values.split(list(sizes))])


def at_levels(values: Tensor, hits: Hits, sizes: Sequence[int]) -> Tensor:
    """[M] -> [L]: sums over the positive anchors of each level."""
    ends = torch.tensor(sizes, device=values.device).cumsum(0)
    level = torch.bucketize(hits.place, ends, right=True)
    return values.new_zeros(len(sizes)).index_add(0, level, values)


def centreness_of(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How central the centres of anchors [M, 4] lie in boxes [M, 4], [M] in [0, 1]; 0 outside."""
    return assigners.centerness(distances_to(assigners.centres(anchors), boxes).clamp(min=0))
