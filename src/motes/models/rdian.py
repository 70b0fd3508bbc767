"""RDIAN: four receptive fields side by side, steered by differences along eight directions.

Sun, Bai, Yang, Bai, "Receptive-Field and Direction Induced Attention Network for Infrared Dim Small Target Detection
With a Large-Scale Dataset IRDST", IEEE TGRS 2023. Parameter names are the published ones; the authors' trained weight
(``params/best.pth`` of their repository) loads as it is.

A point that is brighter than its surroundings is brighter in both of two opposite directions, an edge only in one: the
products of opposite differences make the mask. The eight difference kernels are never trained, yet stored, and applied
as one convolution with eight outputs.

Unlike the authors' training script, which starts the shifts of the batch norms from N(0, 1), a fresh network starts
them from 0. Their logits reach -1000 far from targets: compare relative to the largest one.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFSETS = {
    "d11": (-2, -2),
    "d12": (-2, 0),
    "d13": (-2, 2),
    "d14": (0, 2),
    "d15": (2, 2),
    "d16": (2, 0),
    "d17": (2, -2),
    "d18": (0, -2),
}
"""Published name -> (row, column) of the pixel that is subtracted; the second four are opposite to the first four."""

BRANCHES = ((1, 1), (2, 3), (2, 5), (2, 7))
"""Residual blocks and kernel size of each receptive field."""


class RDIAN(nn.Module):
    """RDIAN (section IV of the paper).

    Args:
        in_channels: bands of the input (published: 1); the directions are those of the bands' mean.
        num_classes: foreground classes K (published: 1).

    ``forward`` takes [B, C, H, W] of any size and returns logits [B, K, H, W], in training a tuple of them alone.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, 16, 3)
        self.conv2 = conv_norm(16, 32, 3, stride=2)
        for i, (count, kernel) in enumerate(BRANCHES):
            self.add_module(f"residual_block{i}", nn.Sequential(*(ResidualBlock(kernel) for _ in range(count))))
        self.cbam = CBAM(32)
        self.conv_cat = conv_norm(32 * len(BRANCHES), 32, 3)
        self.conv_res = conv_norm(16, 32, 1)
        for name, offset in OFFSETS.items():
            self.add_module(name, Difference(*offset))
        self.head = Head(32, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        full = self.conv1(images)
        half = self.conv2(full + full * self.point_mask(images))
        fields = [self.get_submodule(f"residual_block{i}")(half) for i in range(len(BRANCHES))]
        wide = self.cbam(self.conv_cat(torch.cat(fields, dim=1)))
        wide = F.interpolate(wide, images.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.head(torch.relu(wide + self.conv_res(full)))
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: what the authors' code returns, logits [B, 1, H, W]."""
        return {"out0": self(images)}

    def point_mask(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 1, H, W] in (0, 1), high where a pixel stands out from both sides (section IV-B)."""
        kernels = torch.cat([self.get_submodule(name).weight for name in OFFSETS])
        first, opposite = F.conv2d(images.mean(1, keepdim=True), kernels, padding=2).chunk(2, dim=1)
        return torch.sigmoid((first * opposite).sum(1, keepdim=True))


class Difference(nn.Module):
    """Holds a 5x5 kernel [1, 1, 5, 5]: the centre minus the pixel at an offset; fixed, but part of the state."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        kernel = torch.zeros(1, 1, 5, 5)
        kernel[..., 2, 2] = 1
        kernel[..., 2 + row, 2 + column] = -1
        self.register_buffer("weight", kernel)


class ResidualBlock(nn.Module):
    """Two convolutions of one kernel size, 32 -> 16 -> 32 channels, added to their input."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.layer1 = conv_norm(32, 16, kernel)
        self.layer2 = conv_norm(16, 32, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(self.layer1(x)) + x


class CBAM(nn.Module):
    """A gate per channel, then one per pixel: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class ChannelGate(nn.Module):
    """Weighs channels by their mean and maximum over the frame; the published reduction leaves one hidden number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, 1), nn.ReLU(), nn.Linear(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * torch.sigmoid(weights)[:, :, None, None]


class SpatialGate(nn.Module):
    """Weighs pixels by the maximum and the mean of their channels, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=nn.BatchNorm2d(1, momentum=0.01))
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class Head(nn.Module):
    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(channels // 4, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the size but for its stride, batch norm, leaky ReLU (slope 0.01)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.01),
    )
