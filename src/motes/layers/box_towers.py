"""Parts of a dense head: the convolutions before its predictors, a learned factor, and how it starts."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError

LINEAR_LIKE = (nn.Conv2d, nn.ConvTranspose2d)


class Tower(nn.Sequential):
    """``depth`` times [3x3 convolution, norm, ReLU]; shared by all levels. Names are ``{i}.conv``, ``{i}.gn``.

    Args:
        in_channels: of the input.
        channels: of everything after.
        depth: 0 is allowed.
        norm: ``gn`` (GroupNorm of ``groups`` groups), ``bn`` (``{i}.bn``), None.
        groups: of the GroupNorm.
        bias: of the convolutions; default: where there is no norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        depth: int = 4,
        norm: str | None = "gn",
        groups: int = 32,
        bias: bool | None = None,
    ) -> None:
        widths = [in_channels, *[channels] * depth]
        super().__init__(*(ConvUnit(a, b, 3, norm, groups, bias) for a, b in pairwise(widths)))
        self.out_channels = widths[-1]


class ConvUnit(nn.Module):
    """Convolution that keeps the size (``conv``), norm (``gn`` or ``bn``), ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 3,
        norm: str | None = "gn",
        groups: int = 32,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("gn", "bn", None):
            raise CardError(f"norm of a tower is 'gn', 'bn' or none, found {norm!r}")
        if norm == "gn" and channels % groups:
            raise CardError(f"{channels} channels cannot be normalised in {groups} groups")
        bias = norm is None if bias is None else bias
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
        self.norm_name = norm
        if norm == "gn":
            self.gn = nn.GroupNorm(groups, channels)
        elif norm == "bn":
            self.bn = nn.BatchNorm2d(channels)
            self.FOLDABLE = [("conv", "bn")]

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu(getattr(self, self.norm_name)(x) if self.norm_name else x)


class Scale(nn.Module):
    """Multiplication by one learned number, ``scale``."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def prior_bias(p: float = 0.01) -> float:
    """The bias under which a sigmoid starts at probability ``p``: -ln((1 - p) / p)."""
    return -math.log((1 - p) / p)


def init_head(module: nn.Module, std: float = 0.01) -> None:
    """Starts every convolution in ``module``, itself included, with normal weights of ``std`` and bias 0."""
    for part in module.modules():
        if isinstance(part, LINEAR_LIKE):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
