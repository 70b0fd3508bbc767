"""SeRankDet: a five-level U-shaped network whose channels attend to each other by their strongest pixels.

Dai, Pan, Qian, Li, Li, Yang, Wang, "Pick of the Bunch: Detecting Infrared Small Targets Beyond Hit-Miss Trade-Offs via
Selective Rank-Aware Attention", IEEE TGRS vol. 62, 2024, arXiv 2408.03717. The paper's DDC is `DifferenceBlock` here,
SeRank is `RankAttention`, LSFF is `SkipFusion`. Parameter names are the published ones.

What is as published, though odd:

- the bias of a central-difference convolution acts with the factor 0.3 (it is in both terms of the difference);
- the position table is read as a grid, one number per pixel: row = position, column = embedding axis.

What is put right, because no published weight needs it (``published_outputs`` keeps both):

- the attention is standardised per image, in training too, so a frame's result does not depend on its neighbours
  (``batch_statistics=True`` brings the published way back);
- of equal values the attention takes the first ones in raster order. After a ReLU whole regions are 0, and which of
  these zeros the published code takes is left to the library's selection, a different one on every device. The first
  is also what ONNX prescribes (its TopK breaks ties by the lower index), so an exported file gives the same result.

What remains is the step in the selection itself: where a channel's last taken and first left pixel differ by no more
than rounding, another device, the merged form or the exported file may take the other one, which moves the logits of
that frame. Measured between PyTorch and ONNX Runtime on 20 frames of SIRST (half with generated weights at the authors'
size, half with a trained network of width 8): 17 agree to 1.1e-5 of the largest logit, three to 2e-4, 1.5e-3 and
1.2e-2, with at most 9 mask pixels changed. Hence ``export_bounds``.
"""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.layers.precision import full_precision

FORMS = ("train", "deploy")
VARIANTS = {"deploy": {"form": "deploy"}}
"""Constructor options of the card's variants."""

THETA = 0.7  # weight of the subtracted mean in a central difference
STRIDE = 16
STRONGEST = (512, 256, 128, 64, 32)
"""Pixels that a channel of each level is represented by; the sides of the position tables as well."""


class SeRankDet(nn.Module):
    """SeRankDet (section III of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: K, one logit each (published: 1).
        deep_supervision: the five side outputs in training.
        batch_statistics: standardise the attention over the whole batch, as published, instead of per image.
        width: channels of the first level (published: 64), doubled at every further one.
        form: ``train``, or ``deploy``: central differences as plain convolutions, no side outputs.

    ``forward`` takes [B, C, H, W] with H and W multiples of 16, at most 512, and H * W >= 8192 (else MotesError), and
    returns logits [B, K, H, W]; in training a tuple: the prediction, then the side outputs from fine to coarse.
    """

    export_bounds: ClassVar = {"outliers": 0.5, "outlier": 0.05, "changed": 1e-3}
    """Fields of ``motes.export.Bounds``: at least half of the tiles must agree to rounding."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        deep_supervision: bool = True,
        batch_statistics: bool = False,
        width: int = 64,
        form: str = "train",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise MotesError(f"SeRankDet has no form '{form}'", f"one of {', '.join(FORMS)}")
        if width < 1:
            raise MotesError(f"SeRankDet of width {width}: expected at least 1 channel", "64 is the published one")
        self.deep_supervision, self.batch_statistics, self.form = deep_supervision, batch_statistics, form
        channels = [width << level for level in range(5)]
        for i, (given, made) in enumerate(zip([in_channels, *channels], channels, strict=False), 1):
            self.add_module(f"Conv{i}", DifferenceBlock(given, made, form))
        for i, k in enumerate(STRONGEST, 1):
            self.add_module(f"max_channel{i}", RankAttention(k))
        for i in (5, 4, 3, 2):
            self.add_module(f"neck{i}", SkipFusion(channels[i - 2]))
        for i in (5, 4, 3, 2):
            self.add_module(f"Up{i}", Up(channels[i - 1], channels[i - 2]))
            self.add_module(f"Up_conv{i}", DecoderBlock(channels[i - 1], channels[i - 2], form))
        self.Conv = nn.Conv2d(width, num_classes, 1)
        if form == "train":
            for i in (5, 4, 3, 2, 1):
                self.add_module(f"conv{i}", nn.Conv2d(channels[i - 1], num_classes, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        features = self._features(images)
        logits = self.Conv(features[0])
        if not self.training:
            return logits
        return (logits, *self._side_outputs(features)) if self.deep_supervision else (logits,)

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0`` .. ``out4``: side outputs from fine to coarse, ``out5``: the prediction, all logits [B, K, H, W].

        Without deep supervision the prediction alone, ``out0``. Batch statistics, ties as ``torch.topk`` breaks them.
        """
        features = self._features(images, as_published=True)
        outputs = [*self._side_outputs(features), self.Conv(features[0])]
        return {f"out{i}": output for i, output in enumerate(outputs)}

    def reparameterize(self) -> SeRankDet:
        """The deploy form with the same output in eval mode (a copy); a network already in it is returned as it is."""
        if self.form == "deploy":
            return self
        net = copy.deepcopy(self)
        for chain in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
            for i, module in enumerate(chain):
                if isinstance(module, CentralDifference):
                    chain[i] = module.merged()
        for i in range(1, 6):
            delattr(net, f"conv{i}")
        net.form = "deploy"
        return net

    def published_extra_macs(self, output: Tensor) -> int:
        """Multiply-accumulates of the side outputs, which the authors' code computes in eval mode as well."""
        if not self.deep_supervision or self.form == "deploy":
            return 0
        heads = [getattr(self, f"conv{i + 1}") for i in range(5)]
        return sum(head.weight.numel() * output[:, 0].numel() // 4**i for i, head in enumerate(heads))

    def _features(self, images: Tensor, as_published: bool = False) -> list[Tensor]:
        """Decoded features of levels 1 to 4 and encoded ones of level 5; level l is [B, width 2^(l-1), H/2^(l-1), ...].

        Args:
            as_published: batch statistics, and ties as ``torch.topk`` breaks them.
        """
        check_size(images)
        batch_statistics = self.batch_statistics or as_published
        skips: list[Tensor] = []
        x = images
        for i in range(1, 6):
            x = getattr(self, f"Conv{i}")(F.max_pool2d(x, 2) if i > 1 else x)
            x = getattr(self, f"max_channel{i}")(x, batch_statistics, any_equal=as_published)
            skips.append(x)
        features = [skips.pop()]
        for i in (5, 4, 3, 2):
            fused = getattr(self, f"neck{i}")(skips.pop(), getattr(self, f"Up{i}")(features[0]))
            features.insert(0, getattr(self, f"Up_conv{i}")(fused))
        return features

    def _side_outputs(self, features: list[Tensor]) -> list[Tensor]:
        """Logits of every level, [B, K, H, W] each."""
        if not self.deep_supervision or self.form == "deploy":
            return []
        size = features[0].shape[-2:]
        first, *coarse = (getattr(self, f"conv{i}")(x) for i, x in enumerate(features, 1))
        return [first, *(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in coarse)]


def check_size(images: Tensor) -> None:
    """MotesError where the position tables end, or a level has fewer pixels than the attention takes."""
    h, w = images.shape[-2:]
    most = STRONGEST[0]
    fewest = max(k * 4**level for level, k in enumerate(STRONGEST))
    if h % STRIDE or w % STRIDE or max(h, w) > most or h * w < fewest:
        raise MotesError(
            f"SeRankDet cannot take a frame of {h}x{w} px: its sides must be multiples of {STRIDE}, at most {most} px, "
            f"with at least {fewest} pixels in all",
            "motes.models.any_size pads, Detector and `motes detect` cut larger frames into tiles",
        )


class DifferenceBlock(nn.Module):
    """Dilated difference convolution (DDC): plain, central-difference and dilated branch, concatenated and mixed."""

    def __init__(self, in_channels: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.conv_layer = nn.Sequential(
            conv_norm(in_channels, in_channels),
            conv_norm(in_channels, out_channels),
            conv_norm(out_channels, out_channels),
        )
        self.cdc_layer = nn.Sequential(
            difference(in_channels, out_channels, form), nn.BatchNorm2d(out_channels), nn.ReLU()
        )
        self.dconv_layer = nn.Sequential(
            conv_norm(in_channels, in_channels, dilation=2),
            conv_norm(in_channels, out_channels, dilation=4),
            conv_norm(out_channels, out_channels, dilation=2),
        )
        self.final_layer = conv_norm(3 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(torch.cat([self.conv_layer(x), self.cdc_layer(x), self.dconv_layer(x)], dim=1))


class RankAttention(nn.Module):
    """Selective rank-aware attention (SeRank): every channel, known by its k strongest pixels, gathers from the others.

    Args:
        k: pixels taken per channel; also the side of the position table, so H, W <= k <= H * W.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.fc1 = nn.Linear(k, 2 * k, bias=False)
        self.fc2 = nn.Linear(k, 2 * k, bias=False)
        self.pos_enc = PositionTable(k)

    def forward(self, x: Tensor, batch_statistics: bool = False, any_equal: bool = False) -> Tensor:
        """[B, C, H, W] -> the same; ``any_equal``: of equal values any are taken, as published, not the first."""
        h, w = x.shape[-2:]
        flat = x.flatten(2)
        where = strongest(flat, self.k) if any_equal else first_strongest(flat, self.k)
        # In raster order, not by strength: the vector says where the channel responds and how strongly.
        where = where.sort(dim=-1).values
        picked = flat.gather(2, where) + self.pos_enc(h, w)[where]
        with full_precision(x):
            # Sums of products of 512 activations leave the range of 16-bit floats.
            picked = picked.to(self.fc1.weight.dtype)
            score = self.fc1(picked) @ self.fc2(picked).transpose(1, 2)
            axes = (0, 1, 2) if batch_statistics else (1, 2)
            score = (score - score.mean(axes, keepdim=True)) / (score.std(axes, keepdim=True) + 1e-5)
            weight = score.softmax(dim=-1)
        return (weight.to(flat.dtype) @ flat).view_as(x) + x


class PositionTable(nn.Module):
    """A fixed table [k, k] stored with the weights: column 2j is sin(row w_j), 2j + 1 is cos(row w_j), where
    w_j = 10000^(-2j / k)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        # By numpy: on the meta device, where files are told apart, torch would import its compiler for this.
        angle = np.arange(k)[:, None] * 10000.0 ** (-np.arange(0, k, 2) / k)
        table = np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(k, k).astype(np.float32)
        self.pos_enc = nn.Parameter(torch.as_tensor(table), requires_grad=False)

    def forward(self, h: int, w: int) -> Tensor:
        """The number of every pixel of a map in raster order, [h * w]."""
        return self.pos_enc[:h, :w].flatten()


def strongest(x: Tensor, k: int) -> Tensor:
    """Indices [B, C, k] of the k largest of ``x`` [B, C, N]; of equal values any, as the library's selection goes."""
    return x.detach().topk(k, dim=-1).indices


@torch.no_grad()
def first_strongest(x: Tensor, k: int) -> Tensor:
    """Indices [B, C, k] of the k largest of ``x`` [B, C, N]; of equal values the first ones."""
    values, indices = x.topk(k, dim=-1)
    if torch.onnx.is_in_onnx_export():
        return indices  # ONNX's TopK takes the first ones by itself
    # Only the smallest taken value can have equals that were left out: replace its n indices by its first n.
    smallest = values[..., -1:]
    taken = (values == smallest).cumsum(-1, dtype=torch.int32)
    seen = (x == smallest).cumsum(-1, dtype=torch.int32)
    return torch.where(taken > 0, torch.searchsorted(seen, taken), indices)


class SkipFusion(nn.Module):
    """Large selective feature fusion (LSFF) of skip and decoder features: [B, c, H, W] twice -> [B, 2c, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, skip: Tensor, decoded: Tensor) -> Tensor:
        both = torch.cat([skip, decoded], dim=1)
        summary = torch.cat([both.mean(1, keepdim=True), both.max(1, keepdim=True).values], dim=1)
        gate = torch.sigmoid(self.conv_squeeze(summary))
        selected = self.conv(skip * gate[:, :1] + decoded * gate[:, 1:])
        return self.gamma * (both * selected) + both


class Up(nn.Module):
    """Twice the size, other channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), *conv_norm(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class DecoderBlock(nn.Module):
    """Three convolutions, a central difference in the middle."""

    def __init__(self, in_channels: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *conv_norm(in_channels, out_channels),
            difference(out_channels, out_channels, form),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            *conv_norm(out_channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def conv_norm(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def difference(in_channels: int, out_channels: int, form: str) -> nn.Module:
    if form == "deploy":
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return CentralDifference(in_channels, out_channels)


class CentralDifference(nn.Module):
    """conv(x) - 0.7 * (1x1 convolution with the kernel's sum)(x), as one convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.kernel(), padding=1)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Kernel [out, in, 3, 3] and bias [out] that are really applied.

        The subtracted 1x1 convolution changes only the centre tap, zero-padded borders included. The published code
        gives it the bias too.
        """
        weight = self.conv.weight
        centre = F.pad(weight.sum((2, 3), keepdim=True), (1, 1, 1, 1))
        return weight - THETA * centre, (1 - THETA) * self.conv.bias

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """The plain convolution with the same output."""
        conv = copy.deepcopy(self.conv)
        weight, bias = self.kernel()
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
        return conv

    def published_extra_macs(self, output: Tensor) -> int:
        """Multiply-accumulates that the authors' code spends and this does not: the subtracted 1x1 convolution."""
        return output.numel() * self.conv.in_channels
