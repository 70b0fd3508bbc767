"""Dynamic heads: attention over levels, places and channels of a pyramid.

Dai et al., "Dynamic Head: Unifying Object Detection Heads with Attentions", CVPR 2021, section 3. Modules have the
names of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.deformable import DeformableConv
from motes.naming import look_up

OFFSETS = ("published", "resized")
TAPS = 9
"""Samples of a 3x3 kernel."""


class DyHead(nn.Module):
    """Blocks one after another, each with its own weights, which all levels share.

    Args:
        channels: of every map, in and out.
        blocks: how many.
        offsets: where the coarser neighbour of a level is sampled. Offsets and masks have the level's size, the
            neighbour is half of it. "resized": offsets and masks are resized bilinearly to the neighbour. "published":
            as the authors' compiled kernel reads them, the first numbers of the level's tensor laid out anew in the
            neighbour's size, which mixes places and taps; their weights need it.
        groups: of the normalisation.
    """

    def __init__(self, channels: int = 256, blocks: int = 6, offsets: str = "published", groups: int = 16) -> None:
        super().__init__()
        look_up("offsets of the dynamic head", offsets, OFFSETS, CardError)
        self.dyhead_blocks = nn.Sequential(*(DyHeadBlock(channels, offsets, groups) for _ in range(blocks)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B, C, H, W], finest first, each half as large as the one before (rounded up); the same sizes out."""
        return self.dyhead_blocks(list(maps))


class DyHeadBlock(nn.Module):
    """One block: places (deformable convolutions on three levels), levels (a gate each), channels (a dynamic ReLU)."""

    def __init__(self, channels: int, offsets: str, groups: int) -> None:
        super().__init__()
        self.offsets = offsets
        self.spatial_conv_high = DeformableNorm(channels, groups, stride=1)
        self.spatial_conv_mid = DeformableNorm(channels, groups, stride=1)
        self.spatial_conv_low = DeformableNorm(channels, groups, stride=2)
        self.spatial_conv_offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, 1), nn.ReLU(inplace=True), nn.Hardsigmoid()
        )
        self.task_attn_module = DynamicReLU(channels)
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.normal_(conv.weight, 0, 0.01)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.spatial_conv_offset.weight)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.level(maps, i) for i in range(len(maps))]

    def level(self, maps: list[Tensor], i: int) -> Tensor:
        found = self.spatial_conv_offset(maps[i])
        offset, mask = found[:, : 2 * TAPS], found[:, 2 * TAPS :].sigmoid()
        terms = [self.spatial_conv_mid(maps[i], offset, mask)]
        if i > 0:
            terms.append(self.spatial_conv_low(maps[i - 1], offset, mask))
        if i + 1 < len(maps):
            coarser = maps[i + 1]
            high = self.spatial_conv_high(coarser, self.for_coarser(offset, coarser), self.for_coarser(mask, coarser))
            terms.append(F.interpolate(high, size=maps[i].shape[-2:], mode="bilinear", align_corners=True))
        return self.task_attn_module(sum(term * self.scale_attn_module(term) for term in terms) / len(terms))

    def for_coarser(self, values: Tensor, coarser: Tensor) -> Tensor:
        """Offsets or masks [B, n, H, W] of a level in the size of its ``coarser`` neighbour."""
        h, w = coarser.shape[-2:]
        if self.offsets == "resized":
            return F.interpolate(values, size=(h, w), mode="bilinear", align_corners=False)
        n = values.shape[1]
        return values.flatten(1)[:, : n * h * w].reshape(-1, n, h, w)


class DeformableNorm(nn.Module):
    """Modulated deformable 3x3 convolution without bias, then GroupNorm."""

    def __init__(self, channels: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv = DeformableConv(channels, channels, stride)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.conv(x, offset, mask))


class DynamicReLU(nn.Module):
    """max(a1 x + b1, a2 x + b2) with coefficients per channel from the pooled map (Chen et al., ECCV 2020).

    They start near a1 = 1 and the rest 0, a ReLU.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Sequential()
        self.conv1.add_module("conv", nn.Conv2d(channels, channels // reduction, 1))
        self.conv2 = nn.Sequential()
        self.conv2.add_module("conv", nn.Conv2d(channels // reduction, 4 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.conv1(x.mean((2, 3), keepdim=True)))
        a1, b1, a2, b2 = (F.hardsigmoid(self.conv2(hidden)) - 0.5).chunk(4, 1)
        return torch.maximum(x * (2 * a1 + 1) + b1, x * (2 * a2) + b2)
