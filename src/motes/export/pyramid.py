"""RepISD-Net's pyramid and the convolution after it as small matrix products: same numbers, a tenth less work.

The head's 3x3 convolution sees 32 feature channels and 32 context channels, and the context is a bilinear upsampling of
1x1, 2x2, 3x3 and 6x6 maps. Upsampling is a matrix product on either side, ``U_h p U_w^T``, and a convolution only adds
shifted copies, so what the context contributes to an output channel is ``A M C^T`` with ``A`` [H, 36] and ``C`` [W, 36]
(upsampling rows for 3 shifts of 12 bins) and ``M`` the small maps weighted by the kernel: 36 multiply-accumulates a
pixel and channel instead of 288, and the full-size context maps are never made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.export.pooling import averaging
from motes.models.repisdnet import PyramidPooling, RepISDNet


def merge_pyramid(net: nn.Module) -> None:
    """Rewrites a RepISD-Net, its batch norms folded, in place; leaves every other network as it is."""
    if isinstance(net, RepISDNet):
        net.cls[0] = PyramidConv(net.ppm, net.cls[0])
        net.ppm = nn.Identity()


class PyramidConv(nn.Module):
    """``conv(ppm(x))`` for a folded pyramid and the 3x3 convolution that follows: [B, C, H, W] -> [B, O, H, W]."""

    def __init__(self, ppm: PyramidPooling, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bins = [int(branch[0].output_size) for branch in ppm.features]
        self.branches = nn.ModuleList(branch[1:] for branch in ppm.features)
        channels = [branch[1].out_channels for branch in ppm.features]
        own = conv.in_channels - sum(channels)
        self.features = nn.Conv2d(own, conv.out_channels, 3, padding=1)
        self.features.weight.data = conv.weight.data[:, :own].clone()
        self.features.bias.data = conv.bias.data.clone()
        kernels = conv.weight.data[:, own:].split(channels, dim=1)
        # Kernel [O, c, 3, 3] -> a 1x1 convolution to O * 9 channels: the small map once for every tap.
        self.taps = nn.ModuleList(nn.Conv2d(k.shape[1], k.shape[0] * 9, 1, bias=False) for k in kernels)
        for tap, k in zip(self.taps, kernels, strict=True):
            tap.weight.data = k.permute(0, 2, 3, 1).reshape(-1, k.shape[1], 1, 1).clone()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2], x.shape[-1]
        columns = torch.cat([averaging(width, b, x) for b in self.bins])
        narrow = torch.matmul(x, columns.transpose(0, 1)).split(self.bins, dim=-1)
        left = []
        for b, branch, tap, part in zip(self.bins, self.branches, self.taps, narrow, strict=True):
            small = tap(branch(torch.matmul(averaging(height, b, x), part)))
            maps = small.reshape(-1, self.features.out_channels, 3, 3, b, b).permute(0, 1, 2, 4, 3, 5)
            maps = maps.reshape(-1, self.features.out_channels, 3 * b, 3 * b)
            left.append(torch.matmul(shifted_upsampling(height, b, x), maps))
        right = torch.cat([shifted_upsampling(width, b, x) for b in self.bins], dim=1)
        return self.features(x) + torch.matmul(torch.cat(left, dim=-1), right.transpose(0, 1))


def shifted_upsampling(length: int, bins: int, like: Tensor) -> Tensor:
    """[length, 3 * bins]: bilinear upsampling, corners aligned, as a zero-padded 3-tap convolution sees it."""
    i = torch.arange(bins, device=like.device).unsqueeze(0)
    j = torch.arange(length, device=like.device).unsqueeze(1)
    one = torch.ones_like(j[:1])
    parts = []
    for shift in (-1, 0, 1):
        at = j + shift
        position = (at * (bins - 1)).to(like.dtype) / torch.maximum(j[-1:], one).to(like.dtype)
        weight = torch.relu(1 - (position - i.to(like.dtype)).abs())
        parts.append(weight * ((at >= 0) & (at < length)).to(like.dtype))
    return torch.cat(parts, dim=1)
