"""YOLOF's neck: one map, made to see objects of all sizes by residual blocks of growing dilation.

Chen, Wang, Yang, Zhang, Cheng, Sun, "You Only Look One-level Feature", CVPR 2021, section 4.1. Parameter names are the
published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class DilatedEncoder(nn.Module):
    """[B, in_channels, h, w] -> [B, channels, h, w].

    Args:
        in_channels: of the backbone's map.
        channels: of the result; the blocks narrow to a quarter of it.
        dilations: of the residual blocks.
    """

    def __init__(self, in_channels: int, channels: int = 512, dilations: Sequence[int] = (2, 4, 6, 8)) -> None:
        super().__init__()
        self.lateral_conv, self.lateral_norm = nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels)
        self.fpn_conv, self.fpn_norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.dilated_encoder_blocks = nn.Sequential(*(Bottleneck(channels, channels // 4, d) for d in dilations))
        for conv in (self.lateral_conv, self.fpn_conv):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fpn_norm(self.fpn_conv(self.lateral_norm(self.lateral_conv(x))))
        return self.dilated_encoder_blocks(x)


class Bottleneck(nn.Module):
    """x + three convolutions of it, the middle one dilated; the sum is not rectified again."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(channels, hidden, 1)
        self.conv2 = ConvNormReLU(hidden, hidden, 3, dilation)
        self.conv3 = ConvNormReLU(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv3(self.conv2(self.conv1(x)))


class ConvNormReLU(nn.Sequential):
    """Convolution without bias that keeps the size, batch norm, ReLU: ``conv``, ``bn``."""

    def __init__(self, in_channels: int, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        nn.init.normal_(self.conv.weight, std=0.01)
