"""DNANet: a U-shaped network whose levels are joined by a dense triangle of attention blocks.

Li, Xiao, Wang, Wang, Lin, Li, An, Guo, "Dense Nested Attention Network for Infrared Small Target Detection", IEEE TIP
32, 2023, arXiv 2106.00487 (which also brought NUDT-SIRST). Parameter names are the published ones.

Reproduced because weights need it: resizing with aligned corners, so that halving a map samples it instead of averaging
it; the last node of the top row is supervised only through the fused map. Corrected because no weight needs it: the two
narrowest channel settings, which in the published code fail for want of a hidden unit in the attention, have one; deep
supervision is a bool, where the published code takes the text "False" for true. The published training script gives its
"vgg_10" residual blocks, which makes it resnet_10; here ``vgg10`` has the paper's blocks without a shortcut.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.attention import ChannelAttention, SpatialAttention
from motes.layers.fast_gradients import gated, joined
from motes.naming import look_up

BACKBONES = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "vgg10": (1, 1, 1, 1)}
"""Blocks in each node of levels 1 to 4; a node of level 0 always has one."""

CHANNELS = {
    "one": (4, 8, 16, 32, 64),
    "two": (8, 16, 32, 64, 128),
    "three": (16, 32, 64, 128, 256),
    "four": (32, 64, 128, 256, 512),
}
"""Channels of the levels, under the names of the authors' option."""

LEVELS = 5


class DNANet(nn.Module):
    """DNANet.

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: foreground classes K (published: 1).
        backbone: ``resnet10``, ``resnet18``, ``resnet34``, or ``vgg10`` (blocks without a shortcut).
        channels: ``one`` to ``four``: each doubles the channels of the one before.
        deep_supervision: heads on the top row's inner nodes too; they are run in training alone.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 16 and returns logits [B, K, H, W], in training a
    tuple: the same, followed (with deep supervision) by those of the nodes (0, 1), (0, 2) and (0, 3).

    Raises:
        CardError: unknown backbone or channels, or ``deep_supervision`` is not a bool.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet18",
        channels: str = "three",
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        blocks = (1, *BACKBONES[look_up("backbone of dnanet", backbone, BACKBONES, CardError)])
        widths = CHANNELS[look_up("channels of dnanet", channels, CHANNELS, CardError)]
        if not isinstance(deep_supervision, bool):
            raise CardError(f"dnanet: deep_supervision must be true or false, found {deep_supervision!r}")
        self.deep_supervision = deep_supervision
        self.top_width = top = widths[0]
        residual = backbone != "vgg10"

        for column in range(LEVELS):
            for level in range(LEVELS - column):
                taken = entering(widths, level, column, in_channels)
                self.add_module(f"conv{level}_{column}", node(taken, widths[level], blocks[level], residual))
        self.conv0_4_final = node(LEVELS * top, top, 1, residual)
        for level in range(LEVELS - 1, 0, -1):
            self.add_module(f"conv0_{level}_1x1", nn.Conv2d(widths[level], top, 1))
        for name in ("final1", "final2", "final3", "final4") if deep_supervision else ("final",):
            self.add_module(name, nn.Conv2d(top, num_classes, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps = self._nodes(images)
        logits = self._prediction(maps)
        if not self.training:
            return logits
        return (logits, *self._supervised(maps)) if self.deep_supervision else (logits,)

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Logits as the authors' code returns them, [B, K, H, W]: ``out3`` (without deep supervision ``out0``) is the
        prediction, ``out0`` to ``out2`` are the deep supervision's."""
        maps = self._nodes(images)
        supervised = self._supervised(maps) if self.deep_supervision else []
        return {f"out{i}": out for i, out in enumerate([*supervised, self._prediction(maps)])}

    def published_extra_macs(self, output: Tensor) -> int:
        """Multiply-accumulates that the authors' code spends and this does not: heads of no use after training."""
        return 3 * self.top_width * output.numel() if self.deep_supervision else 0

    def _nodes(self, images: Tensor) -> dict[tuple[int, int], Tensor]:
        """The dense nested module: (level, column) -> that node, [B, C of the level, H / 2^level, W / 2^level]."""
        maps: dict[tuple[int, int], Tensor] = {}
        for diagonal in range(LEVELS):
            for column in range(diagonal + 1):
                level = diagonal - column
                if column:
                    parts = [maps[level, j] for j in range(column)]
                    parts.append(scaled(maps[level + 1, column - 1], 2))
                    if level:
                        parts.append(scaled(maps[level - 1, column], 0.5))
                    x = joined(parts)
                else:
                    x = F.max_pool2d(maps[level - 1, 0], 2) if level else images
                maps[level, column] = getattr(self, f"conv{level}_{column}")(x)
        return maps

    def _prediction(self, maps: dict[tuple[int, int], Tensor]) -> Tensor:
        """Joins the last node of every level at full resolution: the feature pyramid fusion module."""
        last = [
            scaled(getattr(self, f"conv0_{level}_1x1")(maps[level, LEVELS - 1 - level]), 2**level)
            for level in range(LEVELS - 1, 0, -1)
        ]
        fused = self.conv0_4_final(joined([*last, maps[0, LEVELS - 1]]))
        return self.final4(fused) if self.deep_supervision else self.final(fused)

    def _supervised(self, maps: dict[tuple[int, int], Tensor]) -> list[Tensor]:
        return [self.final1(maps[0, 1]), self.final2(maps[0, 2]), self.final3(maps[0, 3])]


def entering(widths: tuple[int, ...], level: int, column: int, in_channels: int) -> int:
    """Channels that enter a node."""
    if column == 0:
        return widths[level - 1] if level else in_channels
    return column * widths[level] + widths[level + 1] + (widths[level - 1] if level else 0)


def scaled(x: Tensor, factor: float) -> Tensor:
    """``x`` resized by ``factor``, corners aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def node(in_channels: int, channels: int, blocks: int, residual: bool) -> nn.Sequential:
    first = AttentionBlock(in_channels, channels, residual)
    return nn.Sequential(first, *(AttentionBlock(channels, channels, residual) for _ in range(blocks - 1)))


class AttentionBlock(nn.Module):
    """Two 3x3 convolutions, a gate per channel, a gate per pixel and, if ``residual``, the shortcut."""

    FOLDABLE = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, in_channels: int, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = None
        if residual and in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels))
        self.ca = ChannelAttention(channels)
        self.sa = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = self.ca(y) * y
        y = gated(y, self.sa(y))
        if self.residual:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return torch.relu(y)


VARIANTS: dict[str, dict[str, Any]] = {
    "resnet10": {"backbone": "resnet10"},
    "resnet34": {"backbone": "resnet34"},
    "vgg10": {"backbone": "vgg10"},
    "four": {"channels": "four"},
    "gray": {"in_channels": 1},
    "nods": {"in_channels": 1, "deep_supervision": False},
}
"""Constructor options of the card's variants; ``gray`` is what BasicIRSTD trains, ``nods`` has no deep supervision."""
