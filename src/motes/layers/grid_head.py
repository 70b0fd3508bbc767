"""Grid R-CNN's head of regions: where nine points of a box lie, as heat maps that learn from their neighbours.

Lu, Li, Yue, Li, Yan, "Grid R-CNN", CVPR 2019, arXiv 1811.12030, sections 3.1 to 3.3; maps of half the extent are its
second version's ("Grid R-CNN Plus", arXiv 1906.05688, section 3.1).

The points stand in 3 columns and 3 rows over the box, column by column: point 3 * column + row. Heat maps cover the box
enlarged twice, at 56x56 cells; of each point only the 28x28 cells are kept where it can lie: from cell 0, 14 or 28 on,
by column and by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 3
POINTS = GRID * GRID
WHOLE, HALF = 56, 28
COLUMN = [p // GRID for p in range(POINTS)]
ROW = [p % GRID for p in range(POINTS)]
OFFSET = WHOLE // 4
"""cells from one column's (or row's) heat map to the next one's."""


def neighbours(point: int) -> list[int]:
    """The points beside, above, below: left, up, down, right."""
    column, row = COLUMN[point], ROW[point]
    around = ((column - 1, row), (column, row - 1), (column, row + 1), (column + 1, row))
    return [GRID * c + r for c, r in around if 0 <= c < GRID and 0 <= r < GRID]


EDGES = [(source, point) for point in range(POINTS) for source in neighbours(point)]
"""(from, to) of every message between points."""


class GridHead(nn.Module):
    """Features [R, in_channels, 14, 14] -> heat maps (logits) [R, 9, 28, 28].

    Eight 3x3 convolutions, the first of stride 2; then each point's 64 channels take in what their neighbours know, and
    what these took in from theirs; two transposed convolutions, a group a point. Parameter names are published ones.

    Args:
        in_channels: of the features.
        depth: convolutions.
        channels: of a point.
    """

    side = 14

    def __init__(self, in_channels: int = 256, depth: int = 8, channels: int = 64) -> None:
        super().__init__()
        width = POINTS * channels
        self.channels = channels
        self.convs = nn.ModuleList(
            GridConv(width if i else in_channels, width, stride=1 if i else 2) for i in range(depth)
        )
        self.forder_trans, self.sorder_trans = messages(channels), messages(channels)
        self.deconv1 = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, groups=POINTS)
        self.norm1 = nn.GroupNorm(POINTS, width)
        self.deconv2 = nn.ConvTranspose2d(width, POINTS, 4, stride=2, padding=1, groups=POINTS)
        for deconv in (self.deconv1, self.deconv2):
            nn.init.normal_(deconv.weight, std=0.001)
            nn.init.zeros_(deconv.bias)
        nn.init.constant_(self.deconv2.bias, -4.595)  # a probability of 0.01

    def forward(self, features: Tensor) -> Tensor:
        """With the messages of the neighbours."""
        return self.both(features, unfused=False)[0]

    def both(self, features: Tensor, unfused: bool = True) -> list[Tensor]:
        """Heat maps with the messages and, for training, without."""
        x = features
        for conv in self.convs:
            x = conv(x)
        first = x + gathered(x, self.forder_trans)
        # The second messages carry the first ones, and are added to what a point knew before either.
        fused = x + gathered(first, self.sorder_trans)
        return [self.maps(fused), self.maps(x)] if unfused else [self.maps(fused)]

    def maps(self, x: Tensor) -> Tensor:
        return self.deconv2(self.norm1(self.deconv1(x)).relu())


class GridConv(nn.Module):
    """3x3 convolution with bias, GroupNorm of 36 groups, ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)
        self.gn = nn.GroupNorm(36, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.gn(self.conv(x)).relu()


def messages(channels: int) -> nn.ModuleList:
    """For every point and each of its neighbours a 5x5 convolution by channel and a 1x1 one."""
    return nn.ModuleList(
        nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.Conv2d(channels, channels, 1)
            )
            for _ in neighbours(point)
        )
        for point in range(POINTS)
    )


def gathered(x: Tensor, trans: nn.ModuleList) -> Tensor:
    """What every point [R, 9 * C, h, w] hears from its neighbours, summed; all 24 messages at once."""
    units = [unit for point in trans for unit in point]
    batch, _, h, w = x.shape
    spoken = x.reshape(batch, POINTS, -1, h, w)[:, [source for source, _ in EDGES]].reshape(batch, -1, h, w)
    weights, biases = ([torch.cat([getattr(u[i], k) for u in units]) for i in (0, 1)] for k in ("weight", "bias"))
    spoken = F.conv2d(spoken, weights[0], biases[0], padding=2, groups=spoken.shape[1])
    spoken = F.conv2d(spoken, weights[1], biases[1], groups=len(EDGES)).reshape(batch, len(EDGES), -1, h, w)
    heard = [spoken[:, [i for i, (_, to) in enumerate(EDGES) if to == point]].sum(1) for point in range(POINTS)]
    return torch.stack(heard, 1).reshape(x.shape)


def boxes_from_maps(boxes: Tensor, logits: Tensor) -> Tensor:
    """The boxes [R, 4] px that heat maps [R, 9, 28, 28] of regions ``boxes`` [R, 4] show.

    A point lies at the maximum of its map; a side at the average of its three points, weighted with their heights.
    """
    score, place = logits.flatten(2).sigmoid().max(-1)
    column, row = (torch.tensor(n, device=boxes.device) * OFFSET for n in (COLUMN, ROW))
    cell = torch.stack((place % HALF + column, place // HALF + row), -1).to(boxes.dtype)
    low, side = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    points = low - side / 2 + (cell + 0.5) / HALF * side  # [R, 9, 2]
    sides = [(0, COLUMN, 0), (1, ROW, 0), (0, COLUMN, GRID - 1), (1, ROW, GRID - 1)]
    found = []
    for axis, place_of, wanted in sides:
        own = [p for p in range(POINTS) if place_of[p] == wanted]
        weight = score[:, own]
        found.append((points[:, own, axis] * weight).sum(1) / weight.sum(1).clamp(min=1e-12))
    return torch.stack(found, 1)


def wanted_maps(boxes: Tensor, truth: Tensor, radius: int = 1) -> Tensor:
    """What heat maps of regions ``boxes`` [R, 4] are to show of true boxes ``truth`` [R, 4]: float32 [R, 9, 28, 28].

    1 within ``radius`` cells of each point. Points outside the enlarged region show nothing, and neither do regions
    below 1.5 px.
    """
    side = 2 * (boxes[:, 2:] - boxes[:, :2])
    low = boxes[:, :2] - side / 4
    share = torch.tensor([COLUMN, ROW], device=boxes.device, dtype=boxes.dtype).T / (GRID - 1)  # [9, 2] of the box
    points = truth[:, None, :2] * (1 - share) + truth[:, None, 2:] * share
    # Towards 0, as published: the cell before the first counts as the first.
    centre = ((points - low[:, None]) / side[:, None].clamp(min=1e-6) * WHOLE).trunc()
    first = torch.tensor([COLUMN, ROW], device=boxes.device).T * OFFSET
    cells = first[:, :, None] + torch.arange(HALF, device=boxes.device)  # [9, 2, 28]
    distance = (cells[None] - centre[..., None]) ** 2
    near = distance[:, :, 1, :, None] + distance[:, :, 0, None, :] <= radius**2
    return (near & (side > GRID).all(1)[:, None, None, None]).float()


def jittered(boxes: Tensor, amount: float, size: Sequence[int]) -> Tensor:
    """Boxes [R, 4] with centre and sides moved at random by up to ``amount`` of the sides, cut to ``size`` (h, w)."""
    move = torch.empty_like(boxes).uniform_(-amount, amount)
    side = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + side * move[:, :2]
    side = side * (1 + move[:, 2:])
    limit = boxes.new_tensor((size[1], size[0], size[1], size[0]))
    return torch.minimum(torch.cat((centre - side / 2, centre + side / 2), 1).clamp(min=0), limit)
