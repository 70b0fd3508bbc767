"""The second look at proposals: features of a region from a pyramid, and fully connected layers on them.

A region (RoI) is a row (image, x1, y1, x2, y2), [R, 5] float32: the image's place in the batch, then px of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

FINEST = 56.0
"""px: regions with sides below twice this are taken from the finest level, and so on by factors of 2."""


def regions(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of each image, [Pi, 4] -> regions [R, 5], image by image."""
    rows = [torch.cat((b.new_full((len(b), 1), float(i)), b), 1) for i, b in enumerate(boxes)]
    return torch.cat(rows) if rows else torch.zeros(0, 5)


def batch_regions(boxes: Tensor) -> Tensor:
    """Boxes [B, P, 4] -> regions [B * P, 5]."""
    batch, count = boxes.shape[:2]
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(-1, count, 1)
    return torch.cat((image, boxes), -1).reshape(-1, 5)


def roi_features(
    maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor, side: int = 7, samples: int = 0
) -> Tensor:
    """Features of regions, [R, C, side, side] (RoIAlign of He et al., "Mask R-CNN", ICCV 2017).

    Every bin averages as many samples as it has px of the map, rounded up; corners lie half a px off the cells'
    centres. With several maps each region is taken from one level, by the square root of its area (Lin et al., FPN,
    eq. 1, shifted: the finest holds all below 112 px).

    Args:
        maps: [B, C, h, w], finest first.
        strides: px of the input a cell, of each map.
        rois: regions [R, 5].
        side: bins of a side.
        samples: of a bin along each side; 0: as said above.
    """
    if len(maps) == 1:
        return aligned(maps[0], rois, strides[0], side, samples)
    level = level_of(rois, len(maps))
    parts, places = [], []
    for i, (m, stride) in enumerate(zip(maps, strides, strict=True)):
        place = (level == i).nonzero().squeeze(1)
        parts.append(aligned(m, rois[place], stride, side, samples))
        places.append(place)
    out, order = torch.cat(parts), torch.cat(places)
    back = torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
    return out[back]


def aligned(features: Tensor, rois: Tensor, stride: int, side: int, samples: int = 0) -> Tensor:
    # In float32 whatever the network computes in: half precision knows no px beyond 256.
    return roi_align(features.float(), rois.float(), (side, side), 1 / stride, samples, aligned=True)


def level_of(rois: Tensor, levels: int) -> Tensor:
    """Which of ``levels`` maps each region is taken from: int64 [R]."""
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp(min=0).sqrt()
    return (side / FINEST + 1e-6).log2().floor().clamp(0, levels - 1).long()


class BoxHead(nn.Module):
    """What is in a region and how its box is to be corrected.

    ``forward`` takes features [R, in_features] (any trailing shape) and returns class logits [R, K + 1], the background
    last, and deltas [R, 4 K] ([R, 4] if ``agnostic``; None without ``regress``). Parameter names are published ones.

    Args:
        in_features: values of a region.
        num_classes: K foreground classes.
        hidden: width of each shared fully connected layer.
        agnostic: one box for all classes.
        regress: has a box branch.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden: Sequence[int] = (1024, 1024),
        agnostic: bool = False,
        regress: bool = True,
    ) -> None:
        super().__init__()
        if hidden:
            widths = [in_features, *hidden]
            self.shared_fcs = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, hidden, strict=False))
            for layer in self.shared_fcs:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.fc_cls = nn.Linear(hidden[-1] if hidden else in_features, num_classes + 1)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.zeros_(self.fc_cls.bias)
        self.fc_reg: nn.Linear | None = None
        if regress:
            self.fc_reg = nn.Linear(hidden[-1] if hidden else in_features, 4 if agnostic else 4 * num_classes)
            nn.init.normal_(self.fc_reg.weight, std=0.001)
            nn.init.zeros_(self.fc_reg.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        x = features.flatten(1)
        for layer in getattr(self, "shared_fcs", ()):
            x = layer(x).relu()
        return self.fc_cls(x), None if self.fc_reg is None else self.fc_reg(x)
