"""CenterNet ("update"): the first stage of CenterNet2, a heat map of centres on every level of a pyramid.

Zhou, Koltun, Kraehenbuehl, "Probabilistic two-stage detection", arXiv 2103.07461 (section 4, "CenterNet*"): the towers
of FCOS without a centreness branch, the heat map of "Objects as Points" instead of its classes, and boxes regressed in
the 3x3 cells around an object's centre. The row "CenterNet" of the published table is this, not "Objects as Points".

Corrected against the published code: an image without boxes is background everywhere (there its heat map is one
everywhere, so that nothing is learnt from it).
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
from motes.layers.box_overlap import aligned_iou
from motes.layers.box_towers import Scale, Tower, init_head, prior_bias
from motes.layers.dense_detector import DenseDetector, Targets, flattened, level_counts, map_sizes
from motes.layers.priors import points
from motes.losses.assigners import centres, grown
from motes.losses.boxes import gaussian_focal, weighted_mean

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

Raw = tuple[list[Tensor], list[Tensor]]

NEAR = [(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
"""The 3x3 cells around a centre; number 4 is the centre's own."""
CENTRE = 4
RANGE = (4.0, 10.0)
"""A level of stride s is for boxes of half diagonal 4 s to 10 s; the finest has no lower, the coarsest no upper end."""
DELTA = (1 - 0.8) / (1 + 0.8)
"""Radius of a Gaussian per square root of the box's doubled area: for an overlap of 0.8."""
BOX_WEIGHT = 2.0
POOREST = 0.2
"""Cells whose GIoU loss is below this may become positive for the heat map."""


class CenterNet(DenseDetector):
    """CenterNet2's first stage with a pyramid from stride 2^``finest`` (8 as published).

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's.
        width: channels of pyramid and head.
        min_side: strides of the finest level that a box counts as wide and high at least when cells are chosen for
            it, so that the smallest ones get some; sides of boxes may then lie on the other side of their place, up
            to half of this. 0 as published.
        min_radius: px of the smallest Gaussian in the heat map.
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
        min_radius: float = 4.0,
        first_distance: float = 8.0,
        style: str = "caffe",
        norm: str = "frozen",
        bgr: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.bgr = num_classes, bgr
        self.strides = [2**level for level in range(finest, 6 + extra)]
        self.min_side, self.min_radius = min_side * self.strides[0], min_radius
        levels = tuple(range(finest, 6))
        self.backbone = create_box_backbone(backbone, style, levels, norm, frozen_stages=1, in_channels=in_channels)
        self.neck = BoxFPN(self.backbone.channels, width, extra, relu_before_extra=True, init="caffe2")
        self.bbox_head = CenterNetHead(width, num_classes, self.strides, first_distance, self.min_side / 2)

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of all levels, then distances of all levels in px."""
        logits, distances = self.raw(images)
        in_px = [d * s for d, s in zip(distances, self.strides, strict=True)]
        return {f"out{i}": t for i, t in enumerate([*logits, *in_px])}

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        logits, distances = raw
        places = points(map_sizes(logits), self.strides, device=logits[0].device)
        in_px = torch.cat([d * s for d, s in zip(flattened(distances, 4), self.strides, strict=True)], 1)
        boxes = boxes_from_distances(torch.cat(places), in_px, size)
        scores = torch.cat(flattened(logits, self.num_classes), 1).sigmoid()
        return {"boxes": boxes, "scores": scores, "levels": level_counts(flattened(logits, self.num_classes))}

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        """``loss_cls``: focal on the heat map, over its positive cells; ``loss_bbox``: GIoU, over regressed cells."""
        sizes, device = map_sizes(raw[0]), raw[0][0].device
        logits = torch.cat(flattened(raw[0], self.num_classes), 1)
        distances = torch.cat(flattened(raw[1], 4), 1)
        grid = Grid(sizes, self.strides, device)
        heat, peaks, found, wanted = [], torch.zeros_like(logits), [], []
        for i, target in enumerate(targets):
            boxes, labels = target["boxes"].to(grid.places), target["labels"].to(device)
            heat.append(self.heat_map(grid, boxes, labels))
            cells, goal = self.regressed(grid, boxes)
            found.append(distances[i, cells])
            wanted.append(goal)
            cells, owner = self.positives(grid, boxes, distances[i].detach())
            one = peaks.new_ones(len(cells))  # a cell of two boxes counts twice
            peaks[i].index_put_((cells, labels[owner]), one, accumulate=True)
        loss = overlap_loss(torch.cat(found), torch.cat(wanted))
        return {
            "loss_cls": weighted_mean(gaussian_focal(logits, torch.stack(heat), peaks), total=peaks.sum().clamp(min=1)),
            "loss_bbox": BOX_WEIGHT * weighted_mean(loss, total=max(1, len(loss))),
        }

    def heat_map(self, grid: Grid, boxes: Tensor, labels: Tensor) -> Tensor:
        """[P, K]: Gaussians around the centres, the largest where they overlap, one in the cells that hold a centre."""
        heat = grid.places.new_zeros(len(grid.places), self.num_classes)
        if len(boxes):
            values = torch.exp(-self.distance(grid, boxes))
            values = torch.where(values < 1e-4, 0.0, values)
            for k in range(self.num_classes):
                if (labels == k).any():
                    heat[:, k] = values[:, labels == k].amax(1)
        return heat

    def distance(self, grid: Grid, boxes: Tensor) -> Tensor:
        """[P, N]: squared distance of the cells' points to the centres, in units of the Gaussians' squared radius."""
        squared = (grid.places[:, None] - centres(boxes)).square().sum(-1)
        squared = torch.where(grid.from_centre_cell(boxes).square().sum(-1) == 0, 0.0, squared)
        w, h = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        return squared / (2 * DELTA**2 * w * h).clamp(min=self.min_radius**2)

    def regressed(self, grid: Grid, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Cells [M] that regress a box, and the distances to its sides in strides [M, 4]."""
        if not len(boxes):
            return torch.zeros(0, dtype=torch.long, device=boxes.device), boxes.new_zeros(0, 4)
        near = (grid.from_centre_cell(boxes).abs() <= grid.stride[:, None, None]).all(-1)
        inside = distances_to(grid.places[:, None], grown(boxes, self.min_side)).amin(-1) > 0
        possible = near & inside & grid.suits(boxes)
        nearest, owner = torch.where(possible, self.distance(grid, boxes), torch.inf).min(1)
        cells = nearest.isfinite().nonzero().squeeze(1)
        goal = distances_to(grid.places[cells], boxes[owner[cells]]) / grid.stride[cells, None]
        return cells, goal

    def positives(self, grid: Grid, boxes: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Cells [M] whose heat map shall be one and the boxes [M] they belong to.

        Of the 3x3 cells around a centre on every level those that already predict the box well, and the centre of
        a level that is meant for the box.
        """
        if not len(boxes):
            none = torch.zeros(0, dtype=torch.long, device=boxes.device)
            return none, none
        cells, valid = grid.around(boxes)  # [N, L, 9]
        stride = grid.stride[cells][..., None]
        goal = distances_to(grid.places[cells], boxes[:, None, None]) / stride
        around = distances_to(grid.places[cells], grown(boxes, self.min_side)[:, None, None])
        valid = valid & (around.amin(-1) >= 0)
        loss = torch.where(valid, overlap_loss(distances[cells], goal), torch.inf)
        sure = grid.suits(boxes)[cells[..., CENTRE], torch.arange(len(boxes), device=boxes.device)[:, None]]
        loss[..., CENTRE] = torch.where(valid[..., CENTRE] & sure, 0.0, loss[..., CENTRE])
        loss, cells = loss.flatten(1), cells.flatten(1)
        limit = loss.kthvalue(min(len(NEAR), loss.shape[1]), dim=1, keepdim=True).values.clamp(max=POOREST)
        owner, place = (loss < limit).nonzero(as_tuple=True)
        return cells[owner, place], owner


class CenterNetHead(nn.Module):
    """Two towers that all levels share, a heat map of every class and the distances to a box's sides.

    Args:
        in_channels: of the maps and of the towers.
        num_classes: K.
        strides: px, of the levels; each scales its distances by a learned number.
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
        self.slack = [slack / s for s in strides]
        self.cls_convs = Tower(in_channels, in_channels, depth)
        self.reg_convs = Tower(in_channels, in_channels, depth)
        self.conv_cls = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in strides)
        init_head(self, 0.01)
        nn.init.constant_(self.conv_cls.bias, prior_bias())
        # Distances are cut at 0, where nothing would be learnt.
        nn.init.constant_(self.conv_reg.bias, first_distance)

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        """Per level logits [B, K, h, w] and distances l, t, r, b [B, 4, h, w] in strides."""
        logits = [self.conv_cls(self.cls_convs(m)) for m in maps]
        levels = zip(maps, self.scales, self.slack, strict=True)
        return logits, [F.relu(scale(self.conv_reg(self.reg_convs(m)))) - slack for m, scale, slack in levels]


class Grid:
    """The cells of all levels, flattened: P in L levels.

    Attributes:
        places: [P, 2], (x, y) px of their middle.
        stride: [P] px.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> None:
        levels = points(sizes, strides, device=device)
        counts = torch.tensor([len(p) for p in levels], device=device)
        self.places = torch.cat(levels)
        self.of_level = torch.tensor(strides, dtype=torch.float32, device=device)
        self.stride = self.of_level.repeat_interleave(counts)
        low, high = (factor * self.of_level for factor in RANGE)
        low[0], high[-1] = 0, 1e8
        self.low, self.high = low.repeat_interleave(counts), high.repeat_interleave(counts)
        self.first = counts.cumsum(0) - counts
        self.size = torch.tensor([(w, h) for h, w in sizes], device=device)

    def from_centre_cell(self, boxes: Tensor) -> Tensor:
        """[P, N, 2] px from the middle of the cell that holds a box's centre to the middle of each cell."""
        stride = self.stride[:, None, None]
        return self.places[:, None] - ((centres(boxes) / stride).floor() + 0.5) * stride

    def suits(self, boxes: Tensor) -> Tensor:
        """[P, N]: whether a cell's level is meant for boxes of this size."""
        half_diagonal = (boxes[:, 2:] - boxes[:, :2]).square().sum(1).sqrt() / 2
        return (half_diagonal >= self.low[:, None]) & (half_diagonal <= self.high[:, None])

    def around(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The 3x3 cells around the centres on every level, and which of them exist: [N, L, 9] both."""
        middle = (centres(boxes)[:, None] / self.of_level[:, None]).floor().long()
        cells = middle[:, :, None] + torch.tensor(NEAR, device=boxes.device)
        size = self.size[:, None]
        exists = ((cells >= 0) & (cells < size)).all(-1)
        column, row = torch.minimum(cells.clamp(min=0), size - 1).unbind(-1)
        return self.first[:, None] + row * size[..., 0] + column, exists


def overlap_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU of the boxes that two sets of distances [..., 4] from the same points mean: [...]."""
    origin = torch.zeros_like(found[..., :2])
    return 1 - aligned_iou(boxes_from_distances(origin, found), boxes_from_distances(origin, wanted), "giou")
