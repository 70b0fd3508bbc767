"""Deformable convolution: torchvision's kernel, or the same sum as a sampled grid where a graph is wanted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d as kernel

Pair = int | tuple[int, int]


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 1,
    dilation: Pair = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose taps are read at shifted places, bilinearly, zeros outside (Dai et al. 2017, Zhu et al. 2019).

    Args:
        x: [B, C, H, W].
        offset: [B, 2 * G * kh * kw, Ho, Wo], (dy, dx) px of each tap, taps in row-major order; channels are split into
            G equal groups with their own offsets.
        weight: [O, C / groups, kh, kw]; groups follow from its shape.
        bias: [O].
        mask: [B, G * kh * kw, Ho, Wo], a factor of each tap (DCNv2).

    Returns:
        [B, O, Ho, Wo].
    """
    if torch.jit.is_tracing() or x.is_meta:
        return sampled(x, offset, weight, bias, pair(stride), pair(padding), pair(dilation), mask)
    return kernel(x, offset, weight, bias, pair(stride), pair(padding), pair(dilation), mask)


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


def sampled(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    mask: Tensor | None,
) -> Tensor:
    """The same through ``grid_sample``, which ONNX has: all taps of all groups in one call."""
    channels, (kh, kw) = x.shape[1], weight.shape[-2:]
    taps = kh * kw
    groups = offset.shape[1] // (2 * taps)
    b, (h, w), (ho, wo) = x.shape[0], x.shape[-2:], offset.shape[-2:]
    ky, kx = torch.meshgrid(
        torch.arange(kh, device=x.device) * dilation[0] - padding[0],
        torch.arange(kw, device=x.device) * dilation[1] - padding[1],
        indexing="ij",
    )
    offset = offset.reshape(b * groups, taps, 2, ho, wo)
    rows = (torch.arange(ho, device=x.device) * stride[0])[:, None] + ky.reshape(taps, 1, 1)
    columns = torch.arange(wo, device=x.device) * stride[1] + kx.reshape(taps, 1, 1)
    y, across = offset[:, :, 0] + rows, offset[:, :, 1] + columns
    # align_corners=False: with True a map one pixel wide has no coordinates.
    grid = torch.stack(((2 * across + 1) / w - 1, (2 * y + 1) / h - 1), -1).reshape(b * groups, taps * ho, wo, 2)
    values = F.grid_sample(
        x.reshape(b * groups, channels // groups, h, w), grid, "bilinear", "zeros", align_corners=False
    ).reshape(b * groups, channels // groups, taps, ho, wo)
    if mask is not None:
        values = values * mask.reshape(b * groups, 1, taps, ho, wo)
    flat = weight.reshape(weight.shape[0], weight.shape[1] * taps, 1, 1)
    return F.conv2d(values.reshape(b, channels * taps, ho, wo), flat, bias, groups=channels // weight.shape[1])


def pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
