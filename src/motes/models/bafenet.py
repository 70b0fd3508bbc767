"""BAFE-Net: FCOS with a branch that segments the sky, and an exchange of channels between the two tasks.

Xiao, Dai, Zhu, Guo, Wang, Shu, Yang, Dai, "Background Semantics Matter: Cross-Task Feature Exchange Network for
Clustered Infrared Small Target Detection With Sky-Annotated Dataset", arXiv 2407.20078, after the authors' code
(GrokCV/BAFE-Net): variant None is what it contains since August 2024, ``v1`` its first upload, which the table with
mAP07 .270 is of. Parameter names are the authors', but for the backbone's, which are timm's under ``backbone.body``;
the 850,339 parameters that the authors' head declares and never uses are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError, MotesError
from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.box_towers import Tower, init_head, prior_bias
from motes.layers.dense_detector import Raw, Targets
from motes.losses.boxes import weighted_mean
from motes.models.fcos import FCOS, REACH, SMALL, FCOSHead
from motes.naming import look_up

VARIANTS = {"v1": {"exchange": "even"}, "small": SMALL}
NEEDS_SKY = True
"""Training needs a sky map of every frame."""

PUBLISHED_NAMES = BACKBONE_NAMES
UNUSED_NAMES = [
    r"bbox_head\.(?:conv_squeeze_tgt|conv_squeeze_bg|conv_mix|conv_reduce|gen_weight|fusion_conv|convs_reg"
    r"|conv_spatial|conv_squeeze|conv_post)\."
]
"""Declared in the authors' head and used in neither version."""

EXCHANGES = ("attention", "even")
IGNORED_SKY = 255


class BAFENet(FCOS):
    """BAFE-Net; options as :class:`motes.models.fcos.FCOS`'s, and:

    Args:
        exchange: ``attention``: both branches go through large selective kernels, and the half of the channels that an
            attention finds strongest is exchanged through a perceptron; ``even``: every second channel is, value by
            value (the first version).

    ``raw``: as FCOS's, and 1 logit of the sky. Detections have ``sky``, made from the finest level. Targets need a sky
    map, in which 255 is ignored (but counted in the mean, as published).

    The attention decides by a hard choice of channels and so never gets a gradient: its weights stay as they started,
    as published, and do not ask for one.
    """

    published_extra_params = 850_339
    """In the authors' head, not in ours; their tables count them."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        levels: Sequence[int] = (3, 4, 5),
        extra: int = 0,
        least_radius: float = 0.0,
        style: str = "caffe",
        norm: str = "frozen",
        frozen_stages: int = -1,
        bgr: bool = True,
        depth: int = 4,
        width: int = 256,
        exchange: str = "attention",
    ) -> None:
        look_up("exchange", exchange, EXCHANGES, CardError)
        self.exchange = exchange
        super().__init__(
            in_channels,
            num_classes,
            backbone,
            levels,
            extra,
            least_radius,
            style,
            norm,
            frozen_stages,
            bgr,
            depth,
            width,
        )

    def make_head(self, num_classes: int, depth: int, width: int) -> nn.Module:
        return BAFEHead(num_classes, self.strides, depth, self.least_radius > 0, width, self.exchange)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        ranges = super().ranges
        if self.least_radius:
            return ranges
        return [*ranges[:-1], (ranges[-1][0], float(REACH * self.strides[-1]))]

    @contextmanager
    def published_ties(self) -> Iterator[None]:
        """Within, channels are chosen among equally strong ones as the authors' code does it on this machine."""
        exchange = self.bbox_head.ChannelEx
        exchange.published_ties = True
        try:
            yield
        finally:
            exchange.published_ties = False

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``, ``out1``, ...: logits, distances, centreness and sky of all levels, ties as published."""
        with self.published_ties():
            return super().published_outputs(images)

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        found = super().candidates_of(raw, size)
        finest = raw[3][0]
        h, w = (n * self.strides[0] for n in finest.shape[-2:])
        return {**found, "sky": F.interpolate(finest, size=(h, w), mode="bilinear", align_corners=False)}

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        h, w = (n * self.strides[0] for n in raw[3][0].shape[-2:])
        sky = padded_sky(targets, size, (h, w)).to(raw[3][0].device)
        logits, wanted = [], []
        for level in raw[3]:
            logits.append(level.flatten())
            wanted.append(F.interpolate(sky, size=level.shape[-2:], mode="nearest").flatten())
        truth, known = torch.cat(wanted), torch.cat(wanted) != IGNORED_SKY
        loss = F.binary_cross_entropy_with_logits(torch.cat(logits), truth * known, reduction="none")
        return {**super().losses_of(raw, targets, size), "loss_seg": weighted_mean(loss, known)}


def padded_sky(targets: Targets, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Sky maps as [B, 1, h, w] float32 of the ``padded`` size, 255 in the padding.

    Raises:
        MotesError: a target without a sky map, or with one that is not as large as its image.
    """
    maps = []
    for i, target in enumerate(targets):
        if "sky" not in target:
            raise MotesError(f"bafenet learns the sky, and target {i} has no sky map", "fcos needs none")
        sky = target["sky"]
        if tuple(sky.shape) != tuple(size):
            raise MotesError(f"the sky map of target {i} is {list(sky.shape)} px, its image {list(size)}")
        below, right = padded[0] - size[0], padded[1] - size[1]
        maps.append(F.pad(sky.float(), (0, right, 0, below), value=float(IGNORED_SKY)))
    return torch.stack(maps)[:, None]


class BAFEHead(FCOSHead):
    """FCOS's head with a third tower for the sky, mixed with the classification tower before the predictors."""

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[int],
        depth: int = 4,
        shifts: bool = False,
        channels: int = 256,
        exchange: str = "attention",
    ) -> None:
        super().__init__(num_classes, strides, depth, shifts, channels)
        self.seg_convs = Tower(channels, channels, depth)
        self.conv_seg = nn.Conv2d(channels, 1, 3, padding=1)
        self.convs_cls = bottleneck(channels)
        self.convs_seg = bottleneck(channels)
        self.ChannelEx = ChannelExchange(channels) if exchange == "attention" else EvenExchange()
        if exchange == "attention":
            self.LSKModule = SelectiveKernel(channels)
        init_head(self)
        nn.init.constant_(self.conv_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> list[list[Tensor]]:
        out: list[list[Tensor]] = [[], [], [], []]
        for level, x in enumerate(maps):
            cls, reg, seg = self.cls_convs(x), self.reg_convs(x), self.seg_convs(x)
            if hasattr(self, "LSKModule"):
                cls, seg = self.LSKModule(cls), self.LSKModule(seg)
            seg, cls = self.ChannelEx(self.convs_seg(seg), self.convs_cls(cls))
            found = (self.conv_cls(cls), self.distances(reg, level), self.conv_centerness(cls), self.conv_seg(seg))
            for group, values in zip(out, found, strict=True):
                group.append(values)
        return out


class SelectiveKernel(nn.Module):
    """Sum of a 5x5 and of a wide depthwise convolution, weighted at each pixel (LSKNet, Li et al. 2023).

    As published without the product with the input that LSKNet ends with.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.conv1 = nn.Conv2d(channels, half, 1)
        self.conv2 = nn.Conv2d(channels, half, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.conv0(x)
        wide = self.conv2(self.conv_spatial(near))
        near = self.conv1(near)
        both = torch.cat((near, wide), 1)
        weight = self.conv_squeeze(torch.cat((both.mean(1, keepdim=True), both.amax(1, keepdim=True)), 1)).sigmoid()
        return self.conv(near * weight[:, :1] + wide * weight[:, 1:])


class ChannelExchange(nn.Module):
    """Replaces the strongest half of the channels of each of two maps by a perceptron of the other's strongest.

    Which they are, an attention says for each image; the j-th chosen channel of one map, in their order, takes the
    place of the j-th of the other. Of equally strong channels (those that are 0 everywhere) the first are taken; with
    ``published_ties`` those that torch's topk happens to take, as the authors' code does.
    """

    published_ties = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.chosen = channels // 2
        self.mlp = Perceptron(self.chosen)
        self.attention_mask = SelectiveKernel(channels).requires_grad_(False)

    def forward(self, seg: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
        of_seg, of_cls = self.choose(seg), self.choose(cls)
        from_seg, from_cls = self.mlp(seg.gather(1, of_seg)), self.mlp(cls.gather(1, of_cls))
        return seg.scatter(1, of_seg, from_cls), cls.scatter(1, of_cls, from_seg)

    def choose(self, x: Tensor) -> Tensor:
        """Numbers of the strongest channels, ascending, [B, chosen, h, w]."""
        with torch.no_grad():
            strength = (x * self.attention_mask(x)).mean((2, 3))
            if self.published_ties:
                order = strength.sigmoid().topk(self.chosen, dim=1)[1]
            elif torch.onnx.is_in_onnx_export():  # whose TopK takes the first of equals, and which has no stable sort
                order = strength.topk(self.chosen, dim=1)[1]
            else:
                order = strength.argsort(dim=1, descending=True, stable=True)[:, : self.chosen]
            order = order.sort(dim=1)[0]
        return order[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])


class EvenExchange(nn.Module):
    """Replaces channels 0, 2, 4, ... of each of two maps by a perceptron of the other's, value by value."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp_exchange = Perceptron(1, 64)

    def forward(self, seg: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
        return self.mixed(seg, cls), self.mixed(cls, seg)

    def mixed(self, x: Tensor, other: Tensor) -> Tensor:
        b, c, h, w = x.shape
        even = other[:, 0::2].reshape(b * (c // 2), 1, h, w)
        even = self.mlp_exchange(even).reshape(b, c // 2, h, w)
        return torch.stack((even, x[:, 1::2]), 2).flatten(1, 2)


class Perceptron(nn.Module):
    """Two linear layers over the channels at every pixel, ReLU between them."""

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or channels // 2
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate((self.fc1, self.fc2)):
            x = F.conv2d(F.relu(x) if i else x, layer.weight[:, :, None, None], layer.bias)
        return x


class Layer(nn.Module):
    """3x3 convolution, batch norm, ReLU, as ``layer``."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def bottleneck(channels: int) -> nn.Sequential:
    return nn.Sequential(Layer(channels, channels // 2), Layer(channels // 2, channels))
