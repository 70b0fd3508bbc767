"""Adaptive pooling of any size, which ONNX has no operator for: averages as matrix products, maxima by gathering."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def replace_pooling(net: nn.Module) -> None:
    """Puts :class:`MatrixPooling` or :class:`GatherPooling` where ONNX has no operator (any output but 1x1)."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, MatrixPooling(child.output_size))
            elif isinstance(child, nn.AdaptiveMaxPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, GatherPooling(child.output_size))


class MatrixPooling(nn.Module):
    """Adaptive average pooling as two small matrix products, for any height and width.

    Output row i is the mean of input rows floor(i n / b) .. ceil((i + 1) n / b) - 1, as torch defines it. The matrices
    are computed from the shape inside the graph. [B, C, H, W] -> [B, C, bins, bins].
    """

    def __init__(self, bins: int | tuple[int, int]) -> None:
        super().__init__()
        self.bins = (bins, bins) if isinstance(bins, int) else bins

    def forward(self, x: Tensor) -> Tensor:
        rows = averaging(x.shape[-2], self.bins[0], x)
        columns = averaging(x.shape[-1], self.bins[1], x)
        # Columns first: one large product with a small right-hand side, instead of one per channel.
        return torch.matmul(rows, torch.matmul(x, columns.transpose(0, 1)))


def averaging(length: int, bins: int, like: Tensor) -> Tensor:
    """The matrix [bins, length] that averages ``length`` samples into ``bins``."""
    i = torch.arange(bins, device=like.device).unsqueeze(1)
    j = torch.arange(length, device=like.device).unsqueeze(0)
    first, last = (i * length) // bins, ((i + 1) * length + bins - 1) // bins
    inside = (j >= first) & (j < last)
    return inside.to(like.dtype) / (last - first).to(like.dtype)


class GatherPooling(nn.Module):
    """Adaptive max pooling for any height and width, exactly: [B, C, H, W] -> [B, C, bins, bins].

    Output row i is the maximum of input rows floor(i n / b) .. ceil((i + 1) n / b) - 1. The bins differ in length, so
    each is gathered at the length of the longest, the short ones repeating their last row: a maximum does not mind.
    """

    def __init__(self, bins: int | tuple[int, int]) -> None:
        super().__init__()
        self.bins = (bins, bins) if isinstance(bins, int) else bins

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (members(x.shape[d], n, x) for d, n in zip((-2, -1), self.bins, strict=True))
        return x[:, :, rows].amax(-2)[..., columns].amax(-1)


def members(length: int, bins: int, like: Tensor) -> Tensor:
    """[bins, longest] int64: which of ``length`` samples each bin holds, its last one repeated to the common length."""
    i = torch.arange(bins, device=like.device).unsqueeze(1)
    j = torch.arange(length // bins + 2, device=like.device).unsqueeze(0)
    first, last = (i * length) // bins, ((i + 1) * length + bins - 1) // bins
    return torch.minimum(first + j, last - 1)
