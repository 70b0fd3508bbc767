"""The feature pyramid of detectors: maps of a backbone -> maps of equal width, and coarser levels made from the last.

Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", CVPR 2017. Parameter
names are mmdetection's: ``lateral_convs.{i}.conv``, ``fpn_convs.{i}.conv`` (extra levels continue the index).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.naming import look_up

EXTRA = ("output", "input", "pool")
INITIAL = ("xavier", "caffe2")


class BoxFPN(nn.Module):
    """See the module's text; ``forward`` takes as many maps as ``in_channels`` has numbers, finest first.

    Args:
        in_channels: of the maps.
        out_channels: of every output.
        extra: coarser levels to add, each half as large as the one before.
        extra_from: made by 3x3 convolutions of stride 2 from the last ``output`` or the last ``input`` (each further
            one from the extra level before), or by leaving out every second row and column (``pool``).
        relu_before_extra: ReLU before each such convolution but the first.
        norm: batch norms instead of biases in all 3x3 convolutions (``fpn_convs.{i}.bn``, EfficientDet's).
        init: ``xavier`` or ``caffe2`` (Kaiming, uniform, a = 1).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra: int = 0,
        extra_from: str = "output",
        relu_before_extra: bool = False,
        norm: bool = False,
        init: str = "xavier",
    ) -> None:
        super().__init__()
        look_up("extra_from", extra_from, EXTRA, CardError)
        look_up("init", init, INITIAL, CardError)
        self.extra, self.extra_from, self.relu_before_extra = extra, extra_from, relu_before_extra
        self.out_channels = out_channels
        self.lateral_convs = nn.ModuleList(Unit(c, out_channels, 1) for c in in_channels)
        self.fpn_convs = nn.ModuleList(Unit(out_channels, out_channels, 3, norm=norm) for _ in in_channels)
        for i in range(extra if extra_from != "pool" else 0):
            width = in_channels[-1] if extra_from == "input" and i == 0 else out_channels
            self.fpn_convs.append(Unit(width, out_channels, 3, stride=2, norm=norm))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if init == "xavier":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        inner = [lateral(m) for lateral, m in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            inner[i - 1] = inner[i - 1] + F.interpolate(inner[i], size=inner[i - 1].shape[-2:], mode="nearest")
        out = [conv(m) for conv, m in zip(self.fpn_convs, inner, strict=False)]
        if self.extra_from == "pool":
            for _ in range(self.extra):
                out.append(F.max_pool2d(out[-1], kernel_size=1, stride=2))
            return out
        source = maps[-1] if self.extra_from == "input" else out[-1]
        for i in range(self.extra):
            source = self.fpn_convs[len(maps) + i](F.relu(source) if i and self.relu_before_extra else source)
            out.append(source)
        return out


class Unit(nn.Module):
    """A convolution that keeps the size (or divides it by ``stride``), and perhaps a batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not norm)
        if norm:
            self.bn = nn.BatchNorm2d(out_channels)
            self.FOLDABLE = [("conv", "bn")]

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.bn(x) if hasattr(self, "bn") else x
