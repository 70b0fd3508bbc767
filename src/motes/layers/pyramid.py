"""A pyramid of maps from coarse to fine: context pooled at the top, and the head of PFNet and UperNet on the way down.

Two rules place the windows of a pooling with a fixed number of bins b on a side of n samples:

- ``adaptive`` (PyTorch): bin i covers samples floor(i n / b) .. ceil((i + 1) n / b) - 1, any n;
- ``fixed`` (Jittor): stride s = floor(n / b), every window n - (b - 1) s long, n at least b.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.pooled_norm import PooledNorm
from motes.naming import look_up

WINDOWS = ("adaptive", "fixed")


class PyramidHead(nn.Module):
    """The head of PFNet and, without ``links``, of UperNet. Parameter names are those of the PFNet code.

    Args:
        in_channels: channels of the four maps, finest first.
        num_classes: K.
        bins: sides of the pooled context maps.
        windows: ``adaptive`` or ``fixed``, see the module.
        dropout: on the context, while training.
        links: three modules, finest level first, that join the map from above with their level's:
            (coarse [B, 256, h, w], fine [B, 256, H, W]) -> (fine map, edge logits [B, 1, h, w]). None: the map from
            above is enlarged and added.
        channels: of every level.

    ``forward`` takes the four maps and returns logits [B, K, H, W] at the size of the finest, and the links' edge
    logits, coarsest first.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        windows: str = "adaptive",
        dropout: nn.Module | None = None,
        links: Iterable[nn.Module] | None = None,
        channels: int = 256,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise CardError(f"a pyramid head takes 4 maps, the backbone gives {len(in_channels)}")
        self.ppm = PyramidPooling(in_channels[-1], channels, bins, windows, dropout)
        self.fpn_in = nn.ModuleList(conv_norm(n, channels, 1, bias=True) for n in in_channels[:-1])
        self.fpn_out = nn.ModuleList(nn.Sequential(conv_norm(channels, channels, 3)) for _ in in_channels[:-1])
        self.fpn_out_align = None if links is None else nn.ModuleList(links)
        last = conv_norm(len(in_channels) * channels, channels, 3)
        self.conv_last = nn.Sequential(last, nn.Conv2d(channels, num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        top = self.ppm(maps[-1])
        levels, edges = [top], []
        for i in reversed(range(len(self.fpn_in))):
            fine = self.fpn_in[i](maps[i])
            if self.fpn_out_align is None:
                carried = resized(top, fine)
            else:
                carried, edge = self.fpn_out_align[i](top, fine)
                edges.append(edge)
            top = fine + carried
            levels.append(self.fpn_out[i](top))
        levels.reverse()
        return self.conv_last(torch.cat([resized(level, levels[0]) for level in levels], dim=1)), edges


class PyramidPooling(nn.Module):
    """Pyramid pooling module of PSPNet (Zhao et al., CVPR 2017): [B, C, H, W] -> [B, channels, H, W].

    As in the PFNet code, no ReLU before the pooled maps are enlarged, and they come first in the concatenation.
    """

    def __init__(
        self, in_channels: int, channels: int, bins: Sequence[int], windows: str, dropout: nn.Module | None
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                pooling(side, windows),
                nn.Conv2d(in_channels, channels, 1, bias=False),
                (PooledNorm if side == 1 else nn.BatchNorm2d)(channels),
            )
            for side in bins
        )
        gathered = conv_norm(in_channels + len(bins) * channels, channels, 1)
        self.bottleneck = nn.Sequential(*gathered, dropout or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneck(torch.cat([*(resized(stage(x), x) for stage in self.stages), x], dim=1))


def conv_norm(in_channels: int, channels: int, kernel: int, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the height and width of ``like``: bilinear, corners aligned."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def pooling(bins: int, windows: str) -> nn.Module:
    """Average pooling to ``bins`` x ``bins``."""
    look_up("rule of windows", windows, WINDOWS, CardError)
    return nn.AdaptiveAvgPool2d(bins) if windows == "adaptive" else FixedWindowPooling(bins)


class FixedWindowPooling(nn.Module):
    """Average pooling by the rule ``fixed``: [B, C, H, W] -> [B, C, bins, bins]; H and W at least ``bins``."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[-2:]
        if torch.onnx.is_in_onnx_export():  # a kernel whose size depends on the frame is no ONNX operator
            rows, columns = (self._averaging(n, x) for n in sides)
            return torch.matmul(rows, torch.matmul(x, columns.transpose(0, 1)))
        stride = [n // self.bins for n in sides]
        return F.avg_pool2d(x, [n - (self.bins - 1) * s for n, s in zip(sides, stride, strict=True)], stride)

    def _averaging(self, length: int, x: Tensor) -> Tensor:
        """The matrix [bins, length] that averages the windows."""
        members = window_members(length, self.bins, "fixed", x)
        inside = members.unsqueeze(-1) == torch.arange(length, device=x.device)
        return inside.to(x.dtype).mean(1)


def window_maxima(x: Tensor, bins: int, windows: str) -> tuple[Tensor, Tensor]:
    """The largest value of every window and its place; of equal values the first in raster order.

    Args:
        x: [B, 1, H, W].
        bins: windows along a side.
        windows: ``adaptive`` or ``fixed``.

    Returns:
        Values [B, 1, bins, bins], and flat indices into H x W, int64 [B, bins * bins]. Windows that share their
        largest value repeat its index.
    """
    rows, columns = (window_members(n, bins, windows, x) for n in x.shape[-2:])
    # [B, row of windows, row in it, column of windows, column in it]: a few samples more than x has, it is one channel.
    inside = x.squeeze(1)[:, rows][..., columns].transpose(2, 3).flatten(3)
    table = (rows[:, :, None, None] * x.shape[-1] + columns).transpose(1, 2).flatten(2)
    values, where = inside.max(-1)
    indices = table.unsqueeze(0).expand(x.shape[0], -1, -1, -1).gather(-1, where.unsqueeze(-1))
    return values.unsqueeze(1), indices.flatten(1)


def window_members(length: int, bins: int, windows: str, like: Tensor) -> Tensor:
    """[bins, longest] int64: the samples of each window along a side; short ones repeat their last."""
    i = torch.arange(bins, device=like.device).unsqueeze(1)
    if windows == "fixed":
        stride = length // bins
        return i * stride + torch.arange(length - (bins - 1) * stride, device=like.device)
    first, last = (i * length) // bins, ((i + 1) * length + bins - 1) // bins
    return torch.minimum(first + torch.arange(length // bins + 2, device=like.device), last - 1)
