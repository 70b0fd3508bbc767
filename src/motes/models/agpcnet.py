"""AGPCNet: a ResNet at full resolution whose deepest map is compared with itself, block by block, at several scales.

Zhang, Li, Cao, Pu, Peng, "Attention-Guided Pyramid Context Networks for Detecting Infrared Small Target Under Complex
Background", IEEE TAES 2023, arXiv 2111.03580. Parameter names are the published ones, so the authors' weights load
strictly; ``agpcnet_1`` and ``agpcnet_2`` have the same names and shapes: a file of the second needs its name.

The context pyramid cuts the deepest map (an eighth of the frame) into s x s blocks. Within a block every pixel attends
to every other, in all blocks of equal size at once; the s x s maxima, which attend to each other, then weigh the
blocks. Blocks grow with the frame: at 256 px, the size of training, they are 24 to 96 px wide. Hence the card's tile of
256 px: a larger frame in one piece has blocks of a size that was never trained, and its attention costs 16 times as
much for twice the side.

Published quirks that no weight needs and that are not here: ImageNet weights are loaded into the backbone and then
overwritten by the initialisation, all but the running statistics; a network name that its own factory rejects.
Kept, since it is in the architecture: the channel gates of the fusion normalise 1x1 maps over the batch alone, so
training needs at least two frames in a batch. ONNX has no adaptive max pooling, so the export gathers its bins: the
file is exact at every size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError, MotesError
from motes.layers.pooled_norm import PooledNorm
from motes.naming import look_up

VARIANTS = {
    "agpcnet_1": {},
    "agpcnet_2": {"scales": (10, 6, 5, 4)},
    "resnet34": {"backbone": "resnet34"},
    "classdefault": {"scales": (10, 6), "reduce_ratios": (8, 8), "gca_att": "origin"},
}
"""``agpcnet_1`` (the default), ``agpcnet_2``: the paper's. ``classdefault``: the arguments of the authors' class, which
is what other toolboxes run."""

BACKBONE = "backbone."
"""Its tensors are called as torchvision's ResNets call them, in the same shapes."""

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Residual blocks a stage."""


class AGPCNet(nn.Module):
    """AGPCNet (section III of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: foreground classes K (published: 1).
        backbone: ``resnet18`` or ``resnet34``.
        scales: blocks a side, one context block (AGCB) each.
        reduce_ratios: channels of the context are 512 / the first, those of its queries and keys the first's / second.
        gca_type: ``patch``: one weight a block and channel; ``element``: they are interpolated to one a pixel.
        gca_att: ``origin``: attention among the block maxima; ``post``: two 1x1 convolutions after it.
        drop: dropout in the head.

    ``forward`` takes [B, C, H, W] with sides of at least 8 times the largest scale (and, as published, multiples of 4)
    and returns logits [B, K, H, W], in training a tuple of them alone.

    Raises:
        CardError: unknown option. MotesError: options that fit no channels, frames too small for the scales, training
        with one frame a batch.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet18",
        scales: Sequence[int] = (10, 6, 5, 3),
        reduce_ratios: Sequence[int] = (16, 4),
        gca_type: str = "patch",
        gca_att: str = "post",
        drop: float = 0.1,
    ) -> None:
        super().__init__()
        look_up("backbone of AGPCNet", backbone, BLOCKS, CardError)
        look_up("gca_type of AGPCNet", gca_type, ("patch", "element"), CardError)
        look_up("gca_att of AGPCNet", gca_att, ("origin", "post"), CardError)
        check_numbers(scales, reduce_ratios)
        self.min_size = 8 * max(scales)
        self.input_limits = {"min_size": self.min_size}
        self.backbone = Backbone(in_channels, BLOCKS[backbone])
        self.fuse23 = Fusion(512, 256)
        self.fuse12 = Fusion(256, 128)
        self.head = Head(128, num_classes, drop)
        self.context = ContextPyramid(512, scales, reduce_ratios, gca_type, gca_att)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        self._check(images)
        half, quarter, eighth = self.backbone(images)
        x = resize(self.context(eighth), quarter)
        x = resize(self.fuse23(x, quarter), half)
        logits = resize(self.head(self.fuse12(x, half)), images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: what the authors' code returns, logits [B, 1, H, W]."""
        return {"out0": self(images)}

    def _check(self, images: Tensor) -> None:
        if min(images.shape[-2:]) < self.min_size:
            h, w = images.shape[-2:]
            raise MotesError(
                f"AGPCNet cannot take a frame of {h}x{w} px: its scales need at least {self.min_size} px a side",
                "motes.models.any_size(net) pads frames",
            )


class Backbone(nn.Module):
    """ResNet of basic blocks without its pooling: [B, C, H, W] -> maps at 1/2 (128), 1/4 (256), 1/8 (512 channels)."""

    def __init__(self, in_channels: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, blocks[0], stride=1)
        self.layer2 = stage(64, 128, blocks[1], stride=2)
        self.layer3 = stage(128, 256, blocks[2], stride=2)
        self.layer4 = stage(256, 512, blocks[3], stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        full = self.layer1(torch.relu(self.bn1(self.conv1(images))))
        half = self.layer2(full)
        quarter = self.layer3(half)
        return half, quarter, self.layer4(quarter)


def stage(in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(count - 1)))


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + skip)


class ContextPyramid(nn.Module):
    """CPM: context at every scale, concatenated with the map itself; keeps channels and size."""

    def __init__(
        self, channels: int, scales: Sequence[int], reduce_ratios: Sequence[int], gca_type: str, gca_att: str
    ) -> None:
        super().__init__()
        narrow = channels // reduce_ratios[0]
        self.conv1 = nn.Sequential(*conv_norm(channels, narrow, 1), nn.ReLU())
        self.scale_list = nn.ModuleList(
            ContextBlock(narrow, scale, reduce_ratios[1], gca_type, gca_att) for scale in scales
        )
        self.conv2 = nn.Sequential(*conv_norm(narrow * (1 + len(scales)), channels, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        return self.conv2(torch.cat([narrow, *(block(narrow) for block in self.scale_list)], dim=1))


class ContextBlock(nn.Module):
    """AGCB: attention within each of s x s blocks, weighed by the attention among the blocks' maxima (GCA).

    The last row and column of blocks reach to the border, so they may be larger than the others.
    """

    def __init__(self, channels: int, scale: int, reduce_ratio: int, gca_type: str, gca_att: str) -> None:
        super().__init__()
        self.scale, self.gca_type = scale, gca_type
        self.gamma = nn.Parameter(torch.zeros(1))
        self.non_local = NonLocal(channels, reduce_ratio)
        self.conv = nn.Sequential(*conv_norm(channels, channels, 3))
        self.attention = GlobalContext(channels, scale, reduce_ratio, gca_att)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention(x)
        if self.gca_type == "patch":
            weights = spread(torch.sigmoid(weights), x)
        else:
            weights = torch.sigmoid(resize(weights, x))
        return torch.relu(self.gamma * self.conv(self.non_local(x, self.scale) * weights) + x)


class GlobalContext(nn.Module):
    """GCA: the maximum of each of s x s blocks, attended among all of them; weights before the sigmoid [B, C, s, s]."""

    def __init__(self, channels: int, scale: int, reduce_ratio: int, gca_att: str) -> None:
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(scale)
        post = gca_att == "post"
        self.non_local_att = NonLocal(channels, 1 if post else reduce_ratio)
        self.conv_att = (
            nn.Sequential(*conv_norm(channels, channels // 4, 1), nn.ReLU(), *conv_norm(channels // 4, channels, 1))
            if post
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_att(self.non_local_att(self.pool(x)))


class NonLocal(nn.Module):
    """Adds to every pixel the values of those it attends to: all of the map, or those of its own block."""

    def __init__(self, channels: int, reduce_ratio: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // reduce_ratio, 1)
        self.key_conv = nn.Conv2d(channels, channels // reduce_ratio, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, scale: int = 1) -> Tensor:
        """[B, C, H, W] -> the same shape, attention within each of ``scale`` x ``scale`` blocks."""
        query, key, value = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        rows, columns = cuts(x.shape[-2], scale), cuts(x.shape[-1], scale)
        # At most four groups of blocks of equal size: the inner ones, the last column, the last row, the last block.
        strips = []
        for across, row in rows:
            parts = [
                attend(*(m[..., row, column] for m in (query, key, value)), across, along) for along, column in columns
            ]
            strips.append(torch.cat(parts, dim=3))
        return self.gamma * torch.cat(strips, dim=2) + x


def cuts(length: int, scale: int) -> list[tuple[int, slice]]:
    """(blocks, pixels) of the parts of a side whose blocks are equally long: all but the last, the last."""
    first = (scale - 1) * (length // scale)
    return [(n, part) for n, part in ((scale - 1, slice(0, first)), (1, slice(first, None))) if n]


def attend(query: Tensor, key: Tensor, value: Tensor, across: int, along: int) -> Tensor:
    """Attention, unscaled, within each of ``across`` x ``along`` equal blocks of maps [B, *, H, W]."""
    b, c, h, w = value.shape
    query, key, value = (blocks(m, across, along) for m in (query, key, value))
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
    y = (value @ weights.transpose(1, 2)).reshape(b, across, along, c, h // across, w // along)
    return y.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def blocks(x: Tensor, across: int, along: int) -> Tensor:
    """[B, C, H, W] -> [B * across * along, C, pixels of a block]."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, across, h // across, along, w // along).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b * across * along, c, (h // across) * (w // along))


def spread(weights: Tensor, like: Tensor) -> Tensor:
    """[B, C, s, s] -> [B, C, H, W]: every pixel gets its block's weight."""
    scale = weights.shape[-1]
    for dim in (2, 3):
        length = like.shape[dim]
        block = torch.arange(length, device=like.device) // (length // scale)
        weights = weights.index_select(dim, block.clamp(max=scale - 1))
    return weights


class Fusion(nn.Module):
    """AFM: deep and shallow maps added; the deep one weighs channels, the shallow one pixels and channels."""

    def __init__(self, high_channels: int, low_channels: int) -> None:
        super().__init__()
        inner = low_channels // 4
        self.pa = nn.Sequential(
            *conv_norm(low_channels, inner, 1), nn.ReLU(), *conv_norm(inner, low_channels, 1), nn.Sigmoid()
        )
        self.plus_conv = nn.Sequential(*conv_norm(high_channels, low_channels, 1), nn.ReLU())
        self.ca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(low_channels, inner, 1),
            PooledNorm(inner),
            nn.ReLU(),
            nn.Conv2d(inner, low_channels, 1),
            PooledNorm(low_channels),
            nn.Sigmoid(),
        )
        self.end_conv = nn.Sequential(*conv_norm(low_channels, low_channels, 3), nn.ReLU())

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        high = self.plus_conv(high)
        return self.end_conv(low + high) * self.ca(high) * self.pa(low)


class Head(nn.Module):
    def __init__(self, channels: int, num_classes: int, drop: float) -> None:
        super().__init__()
        inner = channels // 4
        self.block = nn.Sequential(
            *conv_norm(channels, inner, 3), nn.ReLU(), nn.Dropout(drop), nn.Conv2d(inner, num_classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def conv_norm(in_channels: int, out_channels: int, kernel: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2), nn.BatchNorm2d(out_channels)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners aligned, to the height and width of ``like``."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def check_numbers(scales: Sequence[int], reduce_ratios: Sequence[int]) -> None:
    """MotesError unless the scales are counts of blocks and the ratios leave channels."""
    if not scales or not all(isinstance(s, int) and s > 0 for s in scales):
        raise MotesError(f"scales of AGPCNet are numbers of blocks a side, at least one of them, found {scales}")
    good = len(reduce_ratios) == 2 and all(isinstance(r, int) and r > 0 for r in reduce_ratios)
    if not good or 512 // reduce_ratios[0] < max(4, reduce_ratios[1]):
        raise MotesError(
            f"reduce_ratios of AGPCNet are two numbers that leave 4 or more of 512 channels, found {reduce_ratios}",
            "published: 16 and 4",
        )
