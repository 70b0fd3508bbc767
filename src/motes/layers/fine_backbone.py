"""A light backbone for targets of a few pixels: no pixel is lost before stride 2, where much of its work is done."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from motes.layers.residual import ResidualBlock, stage

STRIDES = (2, 4, 8, 16)
BLOCKS = (1, 2, 2, 2)


class FineBackbone(nn.Module):
    """Maps at strides 2, 4, 8 and 16; ``channels`` and ``strides`` of them, finest first.

    The stem makes channels of each 2x2 pixels (the sub-pixel convolution of Shi et al., CVPR 2016, backwards), so that
    the place of a target within its cell is not lost; residual stages follow (He et al., CVPR 2016), all of them
    trained.

    Args:
        in_channels: bands of the input [B, C, H, W], whose sides are multiples of 16.
        widths: channels of the maps.
    """

    def __init__(self, in_channels: int = 1, widths: Sequence[int] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.channels, self.strides = tuple(widths), STRIDES
        first = widths[0]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * in_channels, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            *(ResidualBlock(first, first) for _ in range(BLOCKS[0])),
        )
        self.stages = nn.ModuleList(stage(widths[i - 1], widths[i], BLOCKS[i], stride=2) for i in range(1, len(widths)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.stem(images)]
        for part in self.stages:
            maps.append(part(maps[-1]))
        return maps
