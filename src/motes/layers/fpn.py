"""A feature pyramid and the light decoder that joins it to one map at stride 4; of FarSeg, FactSeg and Semantic FPN.

Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", CVPR 2017; the decoder
follows Kirillov, Girshick, He, Dollar, "Panoptic Feature Pyramid Networks", CVPR 2019. Parameter names are FarSeg's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

PADDLE_NAMES = [
    *((rf"(fpn\.)inner_blocks\.{i}\.", rf"\g<1>fpn_inner{i + 1}.") for i in range(4)),
    *((rf"(fpn\.)layer_blocks\.{i}\.", rf"\g<1>fpn_layer{i + 1}.") for i in range(4)),
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
]
"""PaddleRS's names of a pyramid's tensors and of batch norms, and ours."""

TO_PADDLE = [
    *((rf"(fpn\.)fpn_inner{i + 1}\.", rf"\g<1>inner_blocks.{i}.") for i in range(4)),
    *((rf"(fpn\.)fpn_layer{i + 1}\.", rf"\g<1>layer_blocks.{i}.") for i in range(4)),
]
"""Our names of a pyramid's tensors, and PaddleRS's."""


class FPN(nn.Module):
    """Maps of a backbone -> as many maps of ``width`` channels, each with what the coarser ones know.

    1x1 convolutions (``fpn_inner1`` for the finest), sums from coarse to fine with nearest-neighbour doubling, and a
    3x3 convolution each (``fpn_layer1``, ...); no norms, no activations.

    Args:
        channels: of the maps, finest first; each is half as large as the one before.
        width: channels of every output.
    """

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.levels = len(channels)
        for i, c in enumerate(channels, 1):
            self.add_module(f"fpn_inner{i}", nn.Conv2d(c, width, 1))
            self.add_module(f"fpn_layer{i}", nn.Conv2d(width, width, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        top: Tensor | None = None
        for i in range(self.levels, 0, -1):
            inner = getattr(self, f"fpn_inner{i}")(maps[i - 1])
            top = inner if top is None else inner + F.interpolate(top, scale_factor=2, mode="nearest")
            out.insert(0, getattr(self, f"fpn_layer{i}")(top))
        return out


class LightDecoder(nn.Module):
    """Maps at strides 4, 8, 16 and 32 -> their mean at stride 4, each brought there by convolutions and doublings.

    Level l passes max(l, 1) layers of 3x3 convolution, batch norm, ReLU and, but for the finest level, bilinear
    doubling with aligned corners: ``blocks.<level>.<layer>.<0: convolution, 1: norm>``.

    Args:
        in_channels: of every map.
        channels: of the result.
        levels: how many maps.
    """

    def __init__(self, in_channels: int = 256, channels: int = 128, levels: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(layer(channels if k else in_channels, channels, level > 0) for k in range(max(level, 1))))
            for level in range(levels)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        brought = [block(m) for block, m in zip(self.blocks, maps, strict=True)]
        total = brought[0]
        for m in brought[1:]:
            total = total + m
        return total / len(brought)


def layer(in_channels: int, channels: int, double: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.UpsamplingBilinear2d(scale_factor=2) if double else nn.Identity(),
    )


def upsampled(x: Tensor, factor: int = 4) -> Tensor:
    """``x`` [B, C, H, W] enlarged bilinearly, corners aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
