"""A 3x3 deformable convolution as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.layers.deformable import deform_conv2d


class DeformableConv(nn.Module):
    """3x3 deformable convolution without bias that keeps the size, or halves it (``stride`` 2).

    Its place in a published file is ``weight`` [out, in, 3, 3].
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.stride = stride
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x`` [B, C, H, W]; ``offset`` [B, 18, Ho, Wo], (dy, dx) px a tap; ``mask`` [B, 9, Ho, Wo], a factor each."""
        return deform_conv2d(x, offset, self.weight, stride=self.stride, padding=1, mask=mask)

    def published_extra_macs(self, output: Tensor) -> int:
        """The counter of the published table sees no deformable convolutions."""
        return -output.numel() * self.weight[0].numel()
