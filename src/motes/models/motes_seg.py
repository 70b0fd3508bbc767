"""Our own segmentation network: most of its work at half resolution, plain 3x3 convolutions once merged.

A target of four pixels is lost where the stride is 4, and clutter is told from targets by what surrounds them. So the
network looks far around at strides 8 and 16, which costs little, spends most multiply-accumulates at strides 2 and 4,
and none at full resolution: its head gives four logits for every cell of stride 2, one a pixel (sub-pixel convolution,
Shi et al., CVPR 2016). Blocks are a 3x3 convolution beside an identity, each with its batch norm, which merge into one
convolution (RepVGG, Ding et al., CVPR 2021, without the 1x1 branch); the pyramid is added up from the top as in FPN
(Lin et al., CVPR 2017).

Sensors differ in gain more than in anything else: a point 20 times above the noise is 10 grey levels of one camera and
100 of another. ``contrast`` lays the local contrast in units of what is usual around it (local contrast normalisation,
Jarrett et al., ICCV 2009) beside the image, as a second input of the first convolution.

A loss of overlap drives every answer to 0 or 1, so that no threshold tells clutter from targets; the peaks of the
logits do. ``peak`` calibrates them after training (as Platt, 1999): no pixel is more probable than that the best one
near it belongs to a target, and a threshold takes whole blobs away before it wears down their edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.models.repisdnet import folded

FORMS = ("train", "deploy")
PRIOR = -4.0
"""Logit before training: a pixel of a target is rare."""
REACH = 5
"""How far a pixel looks for a peak, cells of stride 2."""
NEAR, AROUND = 7, 16
"""Sides, px: of the square from whose mean local contrast is taken; of the blocks, 3x3 of which give its unit."""
QUIET, LOUD = 0.01, 20.0
"""Least unit (0.6 of 255 grey levels as ``input`` scales them) and the ratio that a local contrast never reaches."""


class MotesSeg(nn.Module):
    """Encoder of strides 2 to 16, decoder back to stride 2, sub-pixel head.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        width: channels at stride 2; strides 4, 8 and 16 have 2, 8/3 and 8/3 times as many.
        depths: blocks at strides 2, 4, 8 and 16 on the way down.
        form: ``train``, or ``deploy``: every block one convolution.
        peak: None, or (middle, scale) of the logistic curve from the largest raw logit near a pixel to the
            probability that a target is there; it bounds the pixel's probability in eval mode.
        contrast: whether the first convolution also sees the local contrast.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 16 and returns logits [B, K, H, W]; in training a
    tuple of them and those of strides 4 and 8, enlarged to the same size, for deep supervision.

    Raises:
        MotesError: unknown form, a width that is no multiple of 3, not four depths, or a scale that is not positive.
    """

    export_bounds: ClassVar = {"relative": 2e-4}
    """Fields of ``motes.export.parity.Bounds``. Where the ground is flat the local contrast is a quotient of small
    means: on a frame of SIRST PyTorch in float32 was 1.0e-4 of the largest logit off float64, the file 0.3e-4."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        width: int = 48,
        depths: Sequence[int] = (2, 3, 3, 3),
        form: str = "train",
        peak: Sequence[float] | None = None,
        contrast: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise MotesError(f"motes_seg has no form '{form}'", f"one of {', '.join(FORMS)}")
        if width < 3 or width % 3 or len(depths) != 4 or min(depths) < 1:
            raise MotesError(
                f"motes_seg needs a width that is a multiple of 3 and four depths, found {width}, {depths}"
            )
        if peak is not None and not (len(peak) == 2 and peak[1] > 0):
            raise MotesError(f"peak of motes_seg is (middle, scale) with a scale above 0, found {peak}")
        self.options = {
            "in_channels": in_channels, "num_classes": num_classes, "width": width, "depths": tuple(depths),
            "peak": peak, "contrast": contrast,
        }  # fmt: skip
        self.form, self.peak, self.num_classes, self.contrast = form, peak, num_classes, contrast
        channels = (width, 2 * width, 8 * width // 3, 8 * width // 3)
        # 6x6 at stride 2 sees each pixel of its cell and one more around them.
        self.stem = Block(in_channels * (1 + contrast), width, form, kernel=6, stride=2)
        self.stages = nn.ModuleList()
        before = width
        for level, (c, depth) in enumerate(zip(channels, depths, strict=True)):
            down = [Block(before, c, form, stride=2)] if level else []
            self.stages.append(nn.Sequential(*down, *(Block(c, c, form) for _ in range(depth))))
            before = c
        self.laterals = nn.ModuleList(nn.Conv2d(above, c, 1) for c, above in pairwise(channels))
        self.merges = nn.ModuleList(
            nn.Sequential(*(Block(c, c, form) for _ in range(n))) for c, n in zip(channels[:3], (2, 2, 1), strict=True)
        )
        self.head = nn.Conv2d(width, 4 * num_classes, 3, padding=1)
        self.side_heads = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels[1:3])
        for head in (self.head, *self.side_heads):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias, PRIOR)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = torch.cat((images, local_contrast(images)), 1) if self.contrast else images
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        merged = {}
        for level in (2, 1, 0):
            x = maps[level] + F.interpolate(self.laterals[level](x), scale_factor=2.0, mode="nearest")
            x = merged[level] = self.merges[level](x)
        cells = self.head(x)
        if self.peak is not None and not self.training:
            cells = self.bounded(cells)
        logits = F.pixel_shuffle(cells, 2)
        if not self.training:
            return logits
        size = images.shape[-2:]
        sides = [head(merged[level]) for head, level in zip(self.side_heads, (1, 2), strict=True)]
        return (logits, *(F.interpolate(s, size, mode="bilinear", align_corners=False) for s in sides))

    def bounded(self, cells: Tensor) -> Tensor:
        """Logits [B, 4 K, h, w] of cells, none above what the peak near it allows."""
        assert self.peak is not None
        middle, scale = self.peak
        pixels = cells.unflatten(1, (self.num_classes, 4))
        peaks = pixels.amax(2)
        for kernel in ((2 * REACH + 1, 1), (1, 2 * REACH + 1)):  # one after the other: a square for the price of a line
            peaks = F.max_pool2d(peaks, kernel, stride=1, padding=tuple(k // 2 for k in kernel))
        return pixels.minimum((peaks[:, :, None] - middle) / scale).flatten(1, 2)

    @torch.no_grad()
    def reparameterize(self) -> MotesSeg:
        """The deploy form with the same output in eval mode (a copy); a network already in it is returned as it is."""
        if self.form == "deploy":
            return self
        net = MotesSeg(**self.options, form="deploy")
        blocks = {name: m for name, m in self.named_modules() if isinstance(m, Block)}
        state = {k: v for k, v in self.state_dict().items() if k.rpartition(".")[0].rpartition(".")[0] not in blocks}
        for name, block in blocks.items():
            state[f"{name}.conv.weight"], state[f"{name}.conv.bias"] = block.merged()
        net.load_state_dict(state)
        return net.train(self.training)


def local_contrast(images: Tensor) -> Tensor:
    """Difference from the local mean over the mean absolute difference around, compressed to (-LOUD/4, LOUD/4).

    Args:
        images: float [B, C, H, W] as ``input`` scales them, sides multiples of 16.

    Returns:
        [B, C, H, W]; noise is about 0.3 everywhere, whatever the camera's gain.
    """
    detail = images - F.avg_pool2d(images, NEAR, 1, NEAR // 2, count_include_pad=False)
    unit = F.avg_pool2d(F.avg_pool2d(detail.abs(), AROUND), 3, 1, 1, count_include_pad=False)
    ratio = detail / (F.interpolate(unit, scale_factor=float(AROUND), mode="bilinear", align_corners=False) + QUIET)
    return ratio / (1 + ratio.abs() / LOUD) / 4


class Block(nn.Module):
    """ReLU of a normed convolution, to which the normed input is added where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, form: str, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        merged = form == "deploy"
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=merged)
        self.norm = nn.Identity() if merged else nn.BatchNorm2d(out_channels)
        same = in_channels == out_channels and stride == 1 and not merged
        self.identity = nn.BatchNorm2d(in_channels) if same else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return F.relu(y if self.identity is None else y + self.identity(x))

    def merged(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias of the one convolution that equals the block in eval mode."""
        kernel, bias = folded(self.conv.weight, None, self.norm)
        if self.identity is None:
            return kernel, bias
        unit = torch.eye(len(kernel), device=kernel.device, dtype=kernel.dtype)[..., None, None]
        more, shift = folded(F.pad(unit, (1, 1, 1, 1)), None, self.identity)
        return kernel + more, bias + shift


VARIANTS = {"s": {"width": 24}, "deploy": {"form": "deploy"}}
"""Constructor options of the card's variants."""


def variant_of(state: Mapping[str, Any]) -> str | None:
    """The variant whose weights these are (own names, arrays): deploy by its biases, ``s`` by its width."""
    if "stem.conv.bias" in state:
        return "deploy"
    return "s" if len(state["stem.conv.weight"]) == 24 else None
