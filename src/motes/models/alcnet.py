"""ALCNet: local contrast measured on every level of a residual encoder, joined by bottom-up attention.

Dai, Wu, Zhou, Barnard, "Attentional Local Contrast Networks for Infrared Small Target Detection", IEEE TGRS 2021, arXiv
2012.08573. Two networks go by the name:

- the authors' (YimianDai/open-alcnet, Gluon): :class:`ALCNet`, with their other ways to join distances (``scale``) and
  levels (``fusion``) as variants ``<scale>-<fusion>``;
- BasicIRSTD's "ALCNet" (variant ``basicirstd``): :class:`AttentionUNet`, which has no local contrast at all. Numbers
  published for "ALCNet" in comparisons are mostly this network's.

Reproduced because the authors' weights need it: the distances are 13 and 17 px of each level's own resolution; shifts
wrap around, so contrast near one border is measured against the opposite one; resizing has aligned corners. Corrected
because no weight needs it: BasicIRSTD's batch-norm momentum of 0.9 outside the residual blocks (0.1 here), and its two
decoder stages ``uplayer1`` and ``uplayer2``, which are stored in its files and never used (dropped when loading).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.modulation import AsymBi, gate
from motes.layers.residual import (
    CHANNELS,
    ENCODER,
    FIXED_NORM,
    NORM_NAMES,
    PLAIN_BLOCK_NAMES,
    Head,
    initialise,
    stage,
    stem,
)
from motes.naming import look_up

PUBLISHED_NAMES = [*NORM_NAMES, *PLAIN_BLOCK_NAMES, (r"\b[a-z]+_fpn_([12])\.", r"fuse\1.")]
"""The authors name a fusion after its mode."""

UNUSED_NAMES = [FIXED_NORM, r"(^|\.)uplayer[12]\.\d+\."]
BACKBONE = ENCODER

DISTANCES = (13, 17)
"""Of the local contrast, px of the level it is measured on."""

WIDTH = CHANNELS[0]
"""Channels that all levels are brought to before they are joined."""


def create(in_channels: int = 3, num_classes: int = 1, contrast: bool = True, **options: Any) -> ALCNet | AttentionUNet:
    """The authors' network, or without ``contrast`` BasicIRSTD's; ``options`` of the class."""
    return (ALCNet if contrast else AttentionUNet)(in_channels, num_classes, **options)


class ALCNet(nn.Module):
    """ALCNet (sections III and IV of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: foreground classes K.
        scale: how the contrasts at both distances become one: ``multiple`` (the larger; the paper's), ``single`` (one
            distance only), ``add``, ``localsk``, ``globalsk``.
        fusion: how two levels are joined (:data:`LEVEL_FUSIONS`): ``bottomuplocal`` is the paper's.
        blocks: residual blocks in each stage.
        shift: the distance of ``single``, px.
        reduction: channels of a map for one inside the gates of the two-way and selective fusions.

    ``forward`` takes [B, C, H, W] of any sides from ``input_limits["min_size"]`` and returns logits [B, K, H, W], in
    training a tuple of them alone. (The deepest level has a quarter of the input's sides, and must be longer than the
    largest distance.)

    Raises:
        CardError: unknown scale or fusion; blocks, shift or reduction below 1.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        scale: str = "multiple",
        fusion: str = "bottomuplocal",
        blocks: int = 4,
        shift: int = DISTANCES[0],
        reduction: int = 2,
    ) -> None:
        super().__init__()
        look_up("scale of alcnet", scale, SCALES, CardError)
        look_up("fusion of alcnet", fusion, LEVEL_FUSIONS, CardError)
        for name, value in (("blocks", blocks), ("shift", shift), ("reduction", reduction)):
            if value < 1:
                raise CardError(f"alcnet: {name} must be at least 1, found {value}")
        self.scale, self.shift = scale, shift
        self.input_limits = {"min_size": 4 * (shift if scale == "single" else max(DISTANCES)) + 1}

        c1, c2, c3 = CHANNELS
        self.stem = stem(in_channels, tiny=True)
        self.head = Head(WIDTH, num_classes)
        self.layer1 = stage(c1, c1, blocks)
        self.layer2 = stage(c1, c2, blocks, stride=2)
        self.layer3 = stage(c2, c3, blocks, stride=2)
        self.dec_c2 = narrowed(c2)
        self.dec_c3 = narrowed(c3)
        make_scale = SCALES[scale]
        if make_scale is not None:
            self.fuse_mpcm_c1, self.fuse_mpcm_c2, self.fuse_mpcm_c3 = (make_scale(c) for c in CHANNELS)
        self.fuse2 = LEVEL_FUSIONS[fusion](WIDTH, reduction)
        self.fuse1 = LEVEL_FUSIONS[fusion](WIDTH, reduction)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: the authors' output, logits [B, K, H, W]."""
        return {"out0": self._logits(images)}

    def _logits(self, images: Tensor) -> Tensor:
        c1 = self.layer1(self.stem(images))
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        up = self.fuse2(resized(self.dec_c3(self._contrast(c3, 3)), c2), self.dec_c2(self._contrast(c2, 2)))
        return self.head(self.fuse1(resized(up, c1), self._contrast(c1, 1)))

    def _contrast(self, x: Tensor, level: int) -> Tensor:
        if self.scale == "single":
            return local_contrast(x, self.shift)
        near, far = (local_contrast(x, d) for d in DISTANCES)
        if self.scale == "multiple":
            return torch.maximum(near, far)
        return getattr(self, f"fuse_mpcm_c{level}")(near, far)


def local_contrast(x: Tensor, distance: int) -> Tensor:
    """How much a position stands out from all sides (multiscale patch contrast of one distance), [B, C, H, W].

    The differences to the two neighbours at ``distance`` px on opposite sides are multiplied: large only where both
    have the same sign. The smallest of the four directions counts. Shifts wrap around.
    """

    def difference(dy: int, dx: int) -> Tensor:
        return torch.roll(x, (-dy * distance, -dx * distance), (-2, -1)) - x

    directions = ((1, 1), (1, 0), (1, -1), (0, -1))
    return reduce(torch.minimum, (difference(dy, dx) * difference(-dy, -dx) for dy, dx in directions))


def narrowed(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the height and width of ``like``."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


class ScaleAdd(nn.Module):
    """Contrasts at two distances, each normalised, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        return self.bn1(near) + self.bn2(far)


class ScaleLocalSK(nn.Module):
    """A weight of 2 divided between contrasts at two distances, pixel by pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local_att = gate(channels, channels // 2, pooled=False)

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        share = self.local_att(near + far)
        return 2 * share * near + 2 * (1 - share) * far


class ScaleGlobalSK(nn.Module):
    """The same, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_att = gate(channels, channels // 2, pooled=True)

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        share = self.global_att(near + far)
        return 2 * share * near + 2 * (1 - share) * far


SCALES: dict[str, type[nn.Module] | None] = {
    "multiple": None,
    "single": None,
    "add": ScaleAdd,
    "localsk": ScaleLocalSK,
    "globalsk": ScaleGlobalSK,
}
"""How contrasts at two distances are joined: module made for C channels, None where it has no parameters."""


class Add(nn.Module):
    """Levels added as they are."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return high + low


class Max(Add):
    """The larger of both levels."""

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return torch.maximum(high, low)


class LevelFusion(nn.Module):
    """Both levels [B, C, H, W] are normalised, then ``joined``."""

    pooled = (False, False)
    """Whether the gates see the whole frame: top-down, bottom-up."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.make_gates(channels, reduction)

    def make_gates(self, channels: int, reduction: int) -> None:
        raise NotImplementedError

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return self.joined(self.bn1(high), self.bn2(low))


class BottomUpLocal(LevelFusion):
    """high * weights of low + low (the paper's)."""

    def make_gates(self, channels: int, reduction: int) -> None:
        self.bottomup_att = gate(channels, channels, self.pooled[1])

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return self.bottomup_att(low) * high + low


class BottomUpGlobal(BottomUpLocal):
    pooled = (False, True)


class TopDownLocal(LevelFusion):
    """high + low * weights of high."""

    def make_gates(self, channels: int, reduction: int) -> None:
        self.topdown_att = gate(channels, channels, self.pooled[0])

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return high + self.topdown_att(high) * low


class BiLocal(LevelFusion):
    """low * weights of high + high * weights of low."""

    def make_gates(self, channels: int, reduction: int) -> None:
        self.topdown_att = gate(channels, channels // reduction, self.pooled[0])
        self.bottomup_att = gate(channels, channels // reduction, self.pooled[1])

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        return self.topdown_att(high) * low + self.bottomup_att(low) * high


class BiGlobal(BiLocal):
    pooled = (True, True)


class AsymmetricBi(BiLocal):
    pooled = (True, False)


class LocalSK(LevelFusion):
    """A weight of 1 divided between both levels. (Its gate sees no frame, but carries the published name.)"""

    def make_gates(self, channels: int, reduction: int) -> None:
        self.global_att = gate(channels, channels // reduction, self.pooled[0])

    def joined(self, high: Tensor, low: Tensor) -> Tensor:
        share = self.global_att(high + low)
        return share * high + (1 - share) * low


class GlobalSK(LocalSK):
    pooled = (True, True)


LEVEL_FUSIONS: dict[str, type[nn.Module]] = {
    "bottomuplocal": BottomUpLocal,
    "bottomupglobal": BottomUpGlobal,
    "topdownlocal": TopDownLocal,
    "bilocal": BiLocal,
    "biglobal": BiGlobal,
    "asymbi": AsymmetricBi,
    "localsk": LocalSK,
    "globalsk": GlobalSK,
    "add": Add,
    "max": Max,
}
"""Mode -> class, under the names of the authors' options in small letters."""


class AttentionUNet(nn.Module):
    """BasicIRSTD's "ALCNet": ACM's encoder, three transposed convolutions, asymmetric modulation, no local contrast.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        blocks: residual blocks in each stage.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 16 and returns logits [B, K, H, W], in training a
    tuple of them alone.

    Raises:
        CardError: no blocks. MotesError: training with one frame a batch, which its pooled gates cannot.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 1, blocks: int = 4) -> None:
        super().__init__()
        if blocks < 1:
            raise CardError(f"alcnet: blocks must be at least 1, found {blocks}")
        self.input_limits = {"stride": 16, "min_size": 16}
        c1, c2, c3 = CHANNELS
        self.stem = stem(in_channels, learn_input_norm=True)
        self.head = Head(c1 // 2, num_classes)
        self.layer1 = stage(c1, c1, blocks)
        self.layer2 = stage(c1, c2, blocks, stride=2)
        self.layer3 = stage(c2, c3, blocks, stride=2)
        self.deconv2 = nn.ConvTranspose2d(c3, c2, 4, 2, 1)
        self.deconv1 = nn.ConvTranspose2d(c2, c1, 4, 2, 1)
        self.deconv0 = nn.ConvTranspose2d(c1, c1 // 2, 4, 2, 1)
        self.fuse23 = AsymBi(c2)
        self.fuse12 = AsymBi(c1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: the published output, probabilities [B, K, H, W]; ``logits0``: before the sigmoid."""
        logits = self._logits(images)
        return {"out0": torch.sigmoid(logits), "logits0": logits}

    def _logits(self, images: Tensor) -> Tensor:
        c1 = self.layer1(self.stem(images))
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        up = self.fuse12(self.deconv1(self.fuse23(self.deconv2(c3), c2)), c1)
        logits = self.head(self.deconv0(up))
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


VARIANTS: dict[str, dict[str, Any]] = {
    **{
        f"{scale}-{fusion}": {"scale": scale, "fusion": fusion, "blocks": 1}
        for scale, fusion in (
            ("single", "add"),
            ("multiple", "topdownlocal"),
            ("multiple", "bilocal"),
            ("multiple", "biglobal"),
            ("multiple", "asymbi"),
            ("multiple", "bottomupglobal"),
            ("add", "bottomuplocal"),
            ("localsk", "localsk"),
            ("globalsk", "globalsk"),
        )
    },
    "basicirstd": {"contrast": False, "in_channels": 1},
}
"""Constructor options of the card's variants; those of one block a stage are reference cases."""
