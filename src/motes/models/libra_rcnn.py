"""Libra R-CNN: balanced levels, balanced samples, balanced gradients.

Pang, Chen, Shi, Feng, Ouyang, Lin, "Libra R-CNN: Towards Balanced Learning for Object Detection", CVPR 2019, arXiv
1904.02701: a pyramid whose levels all get the same refined average (section 3.2), samples drawn equally over boxes and
over overlaps (3.1), and an L1 loss that gives small errors more weight (3.3). Otherwise Faster R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.layers.box_backbone import BACKBONE_NAMES
from motes.losses.boxes import balanced_l1
from motes.losses.samplers import BalancedSampler, RandomSampler
from motes.models.two_stage import SMALL, PyramidDetector, RegionHead

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": SMALL}

MIDDLE = 2  # of the levels P2 to P6: P4, where they meet


class LibraRCNN(PyramidDetector):
    """Libra R-CNN.

    Args:
        in_channels: bands of the input.
        num_classes: K foreground classes.
        backbone: a name of timm with maps at strides 4 to 32.
        frozen_stages: of the backbone: 0 its stem, 1 also its first stage, ...; -1 nothing.
        scales: sides of the anchors in units of a level's stride (4 to 64 px).
        ratios: height / width of the anchors.
        overlaps: see :class:`motes.models.two_stage.PyramidDetector`.

    ``net(images)`` takes [B, C, H, W] of any size and returns boxes; see :mod:`motes.layers.dense_detector`.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        frozen_stages: int = 1,
        scales: Sequence[float] = (8.0,),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        overlaps: Sequence[float] = (0.7, 0.3, 0.3),
    ) -> None:
        super().__init__(in_channels, backbone, frozen_stages, scales, ratios, overlaps)
        self.neck = nn.Sequential(self.neck, BalancedPyramid())
        self.rpn_loss = replace(self.rpn_loss, sampler=RandomSampler(256, 0.5, negatives=5))
        self.roi_head = RegionHead(num_classes, box_loss=balanced_l1, sampler=BalancedSampler(512, 0.25))


class BalancedPyramid(nn.Module):
    """Adds to every level the refined average of all of them. Five maps [B, 256, h, w], finest first -> the same."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.refine = NonLocal(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = maps[MIDDLE].shape[-2:]
        gathered = [reduced(m, size, 2 ** (MIDDLE - i)) for i, m in enumerate(maps[:MIDDLE])]
        gathered += [F.interpolate(m, size=size, mode="nearest") for m in maps[MIDDLE:]]
        shared = self.refine(torch.stack(gathered).mean(0))
        spread = [F.interpolate(shared, size=m.shape[-2:], mode="nearest") for m in maps[:MIDDLE]]
        spread += [reduced(shared, m.shape[-2:], 2**i) for i, m in enumerate(maps[MIDDLE:])]
        return [m + s for m, s in zip(maps, spread, strict=True)]


class NonLocal(nn.Module):
    """x plus an embedded-Gaussian attention over all places (Wang et al. 2018), its products not scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi, self.conv_out = (Pointwise(channels) for _ in range(4))
        for unit in (self.g, self.theta, self.phi):
            nn.init.normal_(unit.conv.weight, std=0.01)
            nn.init.zeros_(unit.conv.bias)
        nn.init.zeros_(self.conv_out.conv.weight)  # starts as the identity
        nn.init.zeros_(self.conv_out.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        value, query, key = (unit(x).flatten(2) for unit in (self.g, self.theta, self.phi))
        weights = torch.matmul(query.transpose(1, 2), key).softmax(-1)
        mixed = torch.matmul(weights, value.transpose(1, 2)).transpose(1, 2)
        return x + self.conv_out(mixed.reshape(x.shape))


class Pointwise(nn.Module):
    """A 1x1 convolution under its published name, ``conv``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def reduced(x: Tensor, size: Any, factor: int) -> Tensor:
    """``x`` max-pooled to ``size`` (h, w), about a ``factor``-th of its own.

    Adaptive pooling, which ONNX has not: in a graph the bins are gathered instead.
    """
    if factor == 1:
        return x
    if not torch.jit.is_tracing():
        return F.adaptive_max_pool2d(x, tuple(size))
    rows, columns = (members(x.shape[d], size[d], factor, x.device) for d in (-2, -1))
    return x[:, :, rows].amax(-2)[..., columns].amax(-1)


def members(length: Any, bins: Any, factor: int, device: torch.device) -> Tensor:
    """[bins, factor + 1] int64: which of ``length`` samples each bin holds, its last one repeated."""
    i = torch.arange(bins, device=device).unsqueeze(1)
    first, last = (i * length) // bins, ((i + 1) * length + bins - 1) // bins
    return torch.minimum(first + torch.arange(factor + 1, device=device), last - 1)
