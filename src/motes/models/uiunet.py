"""UIU-Net: a U-shaped network whose every stage is a small U-Net, joined by interactive cross attention.

Wu, Hong, Chanussot, "UIU-Net: U-Net in U-Net for Infrared Small Object Detection", IEEE TIP 32, 2023, arXiv 2212.00968.
Parameter names are the published ones.

Reproduced because weights need it: both halves of a fusion go through one and the same convolution and batch norm,
whose running statistics therefore move twice in a training step. Unlike the published code, ``forward`` returns logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.attention import SpatialAttention
from motes.layers.modulation import gate

SIDES = 6


class UIUNet(nn.Module):
    """UIU-Net.

    Args:
        in_channels: bands of the input (published: 3; BasicIRSTD: 1).
        num_classes: foreground classes K (published: 1).

    ``forward`` takes [B, C, H, W] of any size (32 and more is sensible: that is one pixel of the deepest stage) and
    returns logits [B, K, H, W], in training a tuple: the fused map, then those of the six depths, shallowest first, all
    at the input's size. A training batch needs two frames: the fusions normalise over one number per frame.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1) -> None:
        super().__init__()
        self.stage1 = NestedU(7, in_channels, 32, 64)
        self.stage2 = NestedU(6, 64, 32, 128)
        self.stage3 = NestedU(5, 128, 64, 256)
        self.stage4 = NestedU(4, 256, 128, 512)
        self.stage5 = DilatedU(512, 256, 512)
        self.stage6 = DilatedU(512, 256, 512)
        self.stage5d = DilatedU(1024, 256, 512)
        self.stage4d = NestedU(4, 1024, 128, 256)
        self.stage3d = NestedU(5, 512, 64, 128)
        self.stage2d = NestedU(6, 256, 32, 64)
        self.stage1d = NestedU(7, 128, 16, 64)
        for i, channels in enumerate((64, 64, 128, 256, 512, 512), 1):
            self.add_module(f"side{i}", nn.Conv2d(channels, num_classes, 3, padding=1))
        self.outconv = nn.Conv2d(SIDES * num_classes, num_classes, 1)
        self.fuse5 = CrossAttention(512)
        self.fuse4 = CrossAttention(512)
        self.fuse3 = CrossAttention(256)
        self.fuse2 = CrossAttention(128)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits = self._logits(images)
        return logits if self.training else logits[0]

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0`` to ``out6``: probabilities as the authors' code returns them, [B, K, H, W], the prediction first;
        ``logits0`` to ``logits6``: before the sigmoid."""
        logits = self._logits(images)
        out = {f"out{i}": torch.sigmoid(x) for i, x in enumerate(logits)}
        return out | {f"logits{i}": x for i, x in enumerate(logits)}

    def _logits(self, images: Tensor) -> tuple[Tensor, ...]:
        h1 = self.stage1(images)
        h2 = self.stage2(halved(h1))
        h3 = self.stage3(halved(h2))
        h4 = self.stage4(halved(h3))
        h5 = self.stage5(halved(h4))
        h6 = self.stage6(halved(h5))

        d5 = self.stage5d(self.fuse5(resized(h6, h5), h5))
        d4 = self.stage4d(self.fuse4(resized(d5, h4), h4))
        d3 = self.stage3d(self.fuse3(resized(d4, h3), h3))
        d2 = self.stage2d(self.fuse2(resized(d3, h2), h2))
        d1 = self.stage1d(torch.cat([resized(d2, h1), h1], dim=1))

        sides = [self.side1(d1)]
        for x, head in ((d2, self.side2), (d3, self.side3), (d4, self.side4), (d5, self.side5), (h6, self.side6)):
            sides.append(resized(head(x), d1))
        return self.outconv(torch.cat(sides, dim=1)), *sides


class NestedU(nn.Module):
    """A U-Net of ``depth`` convolutions on its way down, added to its own input: [B, in, H, W] -> [B, out, H, W].

    It halves the map depth - 2 times; the last convolution is dilated instead (RSU-L of U2-Net).
    """

    def __init__(self, depth: int, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.depth = depth
        self.rebnconvin = ConvNorm(in_channels, out_channels)
        for k in range(1, depth + 1):
            into = out_channels if k == 1 else middle
            self.add_module(f"rebnconv{k}", ConvNorm(into, middle, 2 if k == depth else 1))
        for k in range(depth - 1, 0, -1):
            self.add_module(f"rebnconv{k}d", ConvNorm(2 * middle, out_channels if k == 1 else middle))

    def forward(self, x: Tensor) -> Tensor:
        start = self.rebnconvin(x)
        encoded = [self.rebnconv1(start)]
        for k in range(2, self.depth):
            encoded.append(getattr(self, f"rebnconv{k}")(halved(encoded[-1])))
        y = getattr(self, f"rebnconv{self.depth}")(encoded[-1])
        for k in range(self.depth - 1, 0, -1):
            partner = encoded[k - 1]
            if k < self.depth - 1:
                y = resized(y, partner)
            y = getattr(self, f"rebnconv{k}d")(torch.cat([y, partner], dim=1))
        return y + start


class DilatedU(nn.Module):
    """The same with dilations of 1, 2, 4, 8 in place of smaller maps, for maps that are small already (RSU-4F)."""

    def __init__(self, in_channels: int, middle: int, out_channels: int) -> None:
        super().__init__()
        self.rebnconvin = ConvNorm(in_channels, out_channels)
        self.rebnconv1 = ConvNorm(out_channels, middle)
        self.rebnconv2 = ConvNorm(middle, middle, 2)
        self.rebnconv3 = ConvNorm(middle, middle, 4)
        self.rebnconv4 = ConvNorm(middle, middle, 8)
        self.rebnconv3d = ConvNorm(2 * middle, middle, 4)
        self.rebnconv2d = ConvNorm(2 * middle, middle, 2)
        self.rebnconv1d = ConvNorm(2 * middle, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        start = self.rebnconvin(x)
        e1 = self.rebnconv1(start)
        e2 = self.rebnconv2(e1)
        e3 = self.rebnconv3(e2)
        y = self.rebnconv3d(torch.cat([self.rebnconv4(e3), e3], dim=1))
        y = self.rebnconv2d(torch.cat([y, e2], dim=1))
        return self.rebnconv1d(torch.cat([y, e1], dim=1)) + start


class CrossAttention(nn.Module):
    """Interactive cross attention (IC-A): high and low [B, C, H, W] -> [B, 2C, H, W].

    The deep map says which channels of the encoder's map matter, what remains says where the deep map matters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 4
        self.feature_high = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
        self.topdown = gate(channels, middle, pooled=True)
        self.bottomup = nn.Sequential(
            nn.Conv2d(channels, middle, 1), nn.BatchNorm2d(middle), nn.ReLU(), SpatialAttention(3)
        )
        self.post = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        high = self.feature_high(high)
        low = low * self.topdown(high)
        high = high * self.bottomup(low)
        return torch.cat([self.post(2 * low), self.post(2 * high)], dim=1)


class ConvNorm(nn.Module):
    """3x3 convolution that keeps the size, batch norm, ReLU."""

    FOLDABLE = (("conv_s1", "bn_s1"),)

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn_s1(self.conv_s1(x)))


def halved(x: Tensor) -> Tensor:
    """Max pooling by 2; an odd side is rounded up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the height and width of ``like``, corners not aligned."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


VARIANTS: dict[str, dict[str, Any]] = {"gray": {"in_channels": 1}}
"""Constructor options of the card's variants; ``gray`` is what BasicIRSTD trains."""
