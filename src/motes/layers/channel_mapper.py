"""From the maps of a backbone to maps of one width: level by level, or all in the finest."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelMapper(nn.Module):
    """A 1x1 convolution for every map; ``extra`` further levels are 3x3 convolutions of stride 2, from the last map on.

    Args:
        channels: of the maps, finest first.
        out: channels of all levels.
        groups: of the group norm behind every convolution, which then has no bias; None: bias, no norm.
    """

    def __init__(self, channels: Sequence[int], out: int = 256, extra: int = 0, groups: int | None = None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(c, out, 1, groups=groups) for c in channels)
        if extra:
            widths = [channels[-1]] + [out] * (extra - 1)
            self.extra_convs = nn.ModuleList(ConvNorm(c, out, 3, stride=2, groups=groups) for c in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [conv(x) for conv, x in zip(self.convs, maps, strict=True)]
        x = maps[-1]
        for conv in getattr(self, "extra_convs", ()):
            x = conv(x)
            levels.append(x)
        return levels


class FinestLevel(nn.Module):
    """The finest level of a feature pyramid alone, which has seen all coarser ones; returns a list of this one map.

    Args:
        channels: of the maps, finest first.
        out: channels of the level.
    """

    def __init__(self, channels: Sequence[int], out: int = 256) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(c, out, 1) for c in channels)
        self.output = ConvNorm(out, out, 3)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        *finer, x = (conv(m) for conv, m in zip(self.convs, maps, strict=True))
        for level in reversed(finer):
            x = level + F.interpolate(x, size=level.shape[-2:], mode="nearest")
        return [self.output(x)]


class ConvNorm(nn.Module):
    """Convolution (``conv``) and group norm (``gn``), without activation; Xavier uniform at first."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=groups is None)
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.gn = nn.Identity() if groups is None else nn.GroupNorm(groups, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.gn(self.conv(x))
