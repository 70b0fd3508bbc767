"""Adaptive average pooling of any size, which ONNX has no operator for, as matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def replace_pooling(net: nn.Module) -> None:
    """Puts :class:`MatrixPooling` where adaptive average pooling has no ONNX operator (any output but 1x1)."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, MatrixPooling(child.output_size))


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
