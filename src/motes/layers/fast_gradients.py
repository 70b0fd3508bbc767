"""Operations that PyTorch runs, or differentiates, slowly on a processor with channels last: the same maths, faster.

With channels last a pixel's few channels lie side by side. What broadcasts over them, reduces them or hands out slices
of them runs in loops of a few numbers. The ways around it here are for training on a processor alone. Without
gradients, on other devices and while a graph is recorded (export, compilation) the plain operation is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from motes.layers.precision import full_precision


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B, C_i, H, W] side by side: ``torch.cat(maps, 1)``.

    Its gradient is handed out in slices; adding and resizing them is many times slower than copying them first.
    """
    return torch.cat([_DenseGradient.apply(m) if worthwhile(m) else m for m in maps], dim=1)


def pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum of every channel over the frame: [B, C, H, W] -> twice [B, C, 1, 1].

    Of equal maxima one takes the gradient (plainly, they share it).
    """
    if worthwhile(x):
        return _Pooled.apply(x)
    return x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)


class FrameMean(nn.AdaptiveAvgPool2d):
    """Mean of every channel over the frame: [B, C, H, W] -> [B, C, 1, 1]."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return _FrameMean.apply(x) if worthwhile(x) else super().forward(x)


def mean_and_largest(x: Tensor) -> Tensor:
    """Mean and maximum of every pixel's channels: [B, C, H, W] -> [B, 2, H, W]. Equal maxima share the gradient."""
    if worthwhile(x):
        return _MeanAndLargest.apply(x)
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """``x * gate`` for ``x`` [B, C, H, W] and one weight a pixel, ``gate`` [B, 1, H, W]."""
    return _Gated.apply(x, gate) if worthwhile(x) and gate.dtype == x.dtype else x * gate


def enlarged(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """A map of one channel, [B, 1, h, w] -> [B, 1, H, W], bilinear; its gradient by two matrix products.

    16-bit maps come back as float32 (plainly, as they are).
    """
    size = tuple(size)
    if worthwhile(x) and x.shape[1] == 1 and size[0] >= x.shape[2] and size[1] >= x.shape[3]:
        return _Enlarged.apply(x, size, align_corners)
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def worthwhile(x: Tensor) -> bool:
    """Whether ``x`` is in training on a processor, channels last."""
    return (
        x.device.type == "cpu"
        and x.requires_grad
        and torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _DenseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last)


class _FrameMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.adaptive_avg_pool2d(x, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.empty_like(x).copy_(grad / x[0, 0].numel())


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        largest, ctx.where = F.adaptive_max_pool2d(x, 1, return_indices=True)
        ctx.save_for_backward(x)
        return x.mean((2, 3), keepdim=True), largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_largest: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        given = torch.empty_like(x).copy_(of_mean / x[0, 0].numel())
        memory = given.permute(0, 2, 3, 1).view(len(x), -1, x.shape[1])
        memory.scatter_add_(1, ctx.where.flatten(2).mT, of_largest.flatten(2).mT)
        return given


class _MeanAndLargest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        largest = x.contiguous().amax(1, keepdim=True)
        ctx.save_for_backward(x, largest)
        pooled = torch.stack([channel_sum(x) / x.shape[1], largest], dim=-1)  # [B, 1, H, W, 2]
        return pooled.squeeze(1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, largest = ctx.saved_tensors
        of_mean, of_largest = grad.split(1, dim=1)
        is_largest = over_channels(largest, x).eq_(x)  # 0 and 1 in the dtype of x
        given = is_largest.mul_(over_channels(of_largest / channel_sum(is_largest), x))
        return given.add_(over_channels(of_mean / x.shape[1], x))


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(x, gate)
        return over_channels(gate, x).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gate = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        return over_channels(gate, x).mul_(grad), channel_sum(grad * x)


class _Enlarged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        ctx.of = x.shape[2:], x.dtype, align_corners
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        sides, dtype, align_corners = ctx.of
        rows, columns = (
            F.interpolate(grad.new_ones(n).diag()[None], to, mode="linear", align_corners=align_corners)[0]  # [n, to]
            for n, to in zip(sides, grad.shape[2:], strict=True)
        )
        with full_precision(grad):
            return (rows @ (grad @ columns.mT)).to(dtype), None, None


def over_channels(values: Tensor, like: Tensor) -> Tensor:
    """[B, 1, H, W] repeated to the shape and layout of ``like``."""
    return torch.empty_like(like).copy_(values)


def channel_sum(x: Tensor) -> Tensor:
    """Sum over the channels, [B, C, H, W] -> [B, 1, H, W], accumulated in float32: a 1x1 convolution with ones."""
    with full_precision(x):
        return F.conv2d(x, x.new_ones(1, x.shape[1], 1, 1))
