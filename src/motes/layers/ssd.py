"""SSD's own backbone and neck: VGG-16 with dilated convolutions behind it, and smaller and smaller maps.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016, section 3.1.
Parameter names are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
TAPS = {4: 15, 8: 22, 16: 34}
"""Stride of a map -> its index among ``features``: behind the ReLU of conv3_3, conv4_3 and conv7."""


class DilatedVGG(nn.Module):
    """VGG-16 whose last pooling keeps the size and whose dense layers are convolutions of 1024 channels.

    Args:
        strides: of the maps wanted, out of 4, 8 and 16.
        in_channels: bands of the input.

    ``forward`` takes [B, C, H, W] of any size and returns the maps, ceil(H / stride) high, finest first.
    """

    def __init__(self, strides: Sequence[int] = (8, 16), in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for i, stage in enumerate(STAGES):
            for width in stage:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            last = i == len(STAGES) - 1
            layers.append(nn.MaxPool2d(3, 1, 1) if last else nn.MaxPool2d(2, 2, ceil_mode=True))
        layers += [nn.Conv2d(before, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.strides = tuple(strides)
        self.channels = tuple({4: 256, 8: 512, 16: 1024}[s] for s in strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        taps, maps, x = [TAPS[s] for s in self.strides], [], images
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in taps:
                maps.append(x)
        return maps


class SSDNeck(nn.Module):
    """The backbone's maps, all but the last normalised, then ``extra`` smaller ones made of the last.

    Args:
        channels: of the backbone's maps, finest first.
        extra: per added map (hidden channels, channels, stride, padding) of its 1x1 and 3x3 convolution.
    """

    def __init__(self, channels: Sequence[int], extra: Sequence[tuple[int, int, int, int]]) -> None:
        super().__init__()
        # The published network has one norm; a finer level's is behind it.
        fine = channels[:-1]
        self.l2_norm = L2Norm(fine[-1])
        self.fine_norms = nn.ModuleList(L2Norm(c) for c in fine[:-1])
        self.extra_layers = nn.ModuleList()
        before = channels[-1]
        for hidden, width, stride, padding in extra:
            reduce, shrink = ConvReLU(before, hidden, 1), ConvReLU(hidden, width, 3, stride, padding)
            self.extra_layers.append(nn.Sequential(reduce, shrink))
            before = width
        self.channels = (*channels, *(width for _, width, _, _ in extra))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        *fine, coarse = maps
        norms = [*self.fine_norms, self.l2_norm]
        out = [norm(m) for norm, m in zip(norms, fine, strict=True)] + [coarse]
        for layer in self.extra_layers:
            out.append(layer(out[-1]))
        return out


class L2Norm(nn.Module):
    """Every pixel's channels scaled to length 1, then by a learned gain that starts at 20."""

    def __init__(self, channels: int, gain: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), gain))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: squares of half-precision features overflow.
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        # Not the root of a sum: where all channels are 0, its gradient is not a number.
        length = torch.linalg.vector_norm(wide, dim=1, keepdim=True) + 1e-10
        return (self.weight[:, None, None] * (wide / length)).to(x.dtype)


class ConvReLU(nn.Module):
    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))
