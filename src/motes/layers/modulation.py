"""Gated fusion of a high-level and a low-level map: asymmetric contextual modulation and what its paper compares with.

Dai, Wu, Zhou, Barnard, "Asymmetric Contextual Modulation for Infrared Small Target Detection", WACV 2021, section 3:
the high-level map, pooled over the frame, tells the low-level one which channels matter (top-down, global); the
low-level map tells the high-level one where small details are (bottom-up, pixel by pixel).

Gates pooled over the frame need at least two frames in a training batch (:class:`motes.layers.pooled_norm.PooledNorm`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.errors import MotesError
from motes.layers.fast_gradients import FrameMean
from motes.layers.pooled_norm import PooledNorm
from motes.naming import look_up

REDUCTION = 4
"""Channels of a map for one channel inside its gate."""


def fusion(mode: str, channels: int, high_channels: int | None = None) -> Fusion:
    """The fusion of that ``mode`` (a key of :data:`FUSIONS`); MotesError names the nearest where there is none.

    Args:
        mode: how the maps are joined.
        channels: C, of the low-level map and of the result.
        high_channels: of the high-level map, where a 1x1 convolution (``feature_high``) is to bring it to C first; None
            where it has C channels and goes in as it is.
    """
    return FUSIONS[look_up("fusion mode", mode, FUSIONS, MotesError)](channels, high_channels)


def gate(channels: int, middle: int, pooled: bool) -> nn.Sequential:
    """Weights in (0, 1) from a map [B, C, H, W]: [B, C, 1, 1] if ``pooled`` over the frame, else [B, C, H, W]."""
    norm = PooledNorm if pooled else nn.BatchNorm2d
    return nn.Sequential(
        *([FrameMean()] if pooled else []),
        nn.Conv2d(channels, middle, 1),
        norm(middle),
        nn.ReLU(),
        nn.Conv2d(middle, channels, 1),
        norm(channels),
        nn.Sigmoid(),
    )


class Fusion(nn.Module):
    """Joins ``high`` [B, C or ``high_channels``, H, W] and ``low`` [B, C, H, W] into [B, C, H, W].

    Subclasses say how in ``joined``; a 3x3 convolution (``post``) follows.
    """

    joined_maps = 1
    """Maps of C channels that ``joined`` returns side by side."""

    def __init__(self, channels: int, high_channels: int | None = None) -> None:
        super().__init__()
        self.feature_high = None
        if high_channels is not None:
            self.feature_high = nn.Sequential(
                nn.Conv2d(high_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
            )
        self.make_gates(channels)
        self.post = nn.Sequential(
            nn.Conv2d(self.joined_maps * channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def make_gates(self, channels: int) -> None:
        """Adds the layers that ``joined`` needs."""

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        if self.feature_high is not None:
            high = self.feature_high(high)
        return self.post(self.joined(high, low))


class TwoWay(Fusion):
    """2 * low * topdown(high) + 2 * high * bottomup(low)."""

    pooled = (False, False)
    """Whether the top-down and the bottom-up gate see the whole frame."""

    def make_gates(self, channels: int) -> None:
        middle = channels // REDUCTION
        self.topdown = gate(channels, middle, self.pooled[0])
        self.bottomup = gate(channels, middle, self.pooled[1])

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return 2 * low * self.topdown(high) + 2 * high * self.bottomup(low)


class AsymBi(TwoWay):
    """Asymmetric contextual modulation: global top-down, local bottom-up (the paper's own)."""

    pooled = (True, False)


class BiLocal(TwoWay):
    """Both ways pixel by pixel."""


class BiGlobal(TwoWay):
    """Both ways by channel."""

    pooled = (True, True)


class TopDownLocal(Fusion):
    """high + low * weights of high."""

    pool = False

    def make_gates(self, channels: int) -> None:
        pool = [FrameMean()] if self.pool else []
        norm = (PooledNorm if self.pool else nn.BatchNorm2d)(channels)
        self.global_att = nn.Sequential(*pool, nn.Conv2d(channels, channels, 1), norm)

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return high + low * torch.sigmoid(self.global_att(high))


class TopDownGlobal(TopDownLocal):
    """The same with one weight a channel."""

    pool = True


class SelectiveKernel(Fusion):
    """Each channel divides a weight of 2 between both maps."""

    def make_gates(self, channels: int) -> None:
        middle = channels // REDUCTION
        self.attention = nn.Sequential(
            FrameMean(),
            nn.Conv2d(channels, middle, 1),
            PooledNorm(middle),
            nn.ReLU(),
            nn.Conv2d(middle, 2 * channels, 1),
            PooledNorm(2 * channels),
        )

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        for_high, for_low = self.attention(high + low).chunk(2, dim=1)
        share = torch.sigmoid(for_high - for_low)  # the softmax over two
        return 2 * high * share + 2 * low * (1 - share)


class Concat(Fusion):
    """Side by side."""

    joined_maps = 2

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return torch.cat([high, low], dim=1)


class DirectAdd(Fusion):
    """The sum."""

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return high + low


FUSIONS: dict[str, type[Fusion]] = {
    "asymbi": AsymBi,
    "bilocal": BiLocal,
    "biglobal": BiGlobal,
    "topdownlocal": TopDownLocal,
    "topdownglobal": TopDownGlobal,
    "sk": SelectiveKernel,
    "concat": Concat,
    "directadd": DirectAdd,
}
"""Mode -> class, under the names of the authors' options in small letters."""
