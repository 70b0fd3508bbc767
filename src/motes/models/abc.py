"""ABC: a U-shaped network whose encoder mixes the rows of its maps by bilinear attention.

Pan, Wang, Wang, Nie, "ABC: Attention with Bilinear Correlation for Infrared Small Target Detection", IEEE ICME 2023,
arXiv 2303.10321. The paper's BAM is `BilinearAttention` here, its CLFT `ConvTransformer`, its UCDC `DilatedBlock`;
clft-s, -b and -l are the widths 16, 32 and 64. Parameter names are the published ones, the misspelt among them.

As published, the attention reads each map of the encoder through a fully connected layer, so a network is built for
square frames of one side, ``image_size``, and runs on no other. Smaller frames are padded to it, larger ones cut into
tiles of it, and an exported file has that height and width fixed.

Unlike the published code, which computes the side outputs in evaluation as well, this computes them in training alone.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.layers.precision import full_precision

VARIANTS = {
    "clft-s": {"width": 16},
    "clft-b": {"width": 32},
    "clft-l": {"width": 64},
    "clft-s-512": {"width": 16, "image_size": 512},
    "clft-b-512": {"width": 32, "image_size": 512},
    "clft-l-512": {"width": 64, "image_size": 512},
    "dim16-h64": {"width": 16, "image_size": 64},
    "dim32-h64": {"width": 32, "image_size": 64},
    "dim16-h96": {"width": 16, "image_size": 96},
}
"""Constructor options of the card's variants: the paper's three at their sizes, and small ones."""

STRIDE = 16
LEVELS = (1, 2, 3, 4, 5)


class ABC(nn.Module):
    """ABC (section 2 of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: K, one logit each (published: 1).
        width: channels of the first level, doubled at every further one (published: 16, 32, 64).
        image_size: side of the frames, px, a multiple of 16 (published: 256, 512).
        deep_supervision: the five side outputs in training.

    ``forward`` takes [B, C, image_size, image_size] (else MotesError) and returns logits [B, K, H, W]; in training a
    tuple: the prediction, then the side outputs from fine to coarse.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        width: int = 64,
        image_size: int = 256,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if width < 1:
            raise MotesError(f"ABC of width {width}: expected at least 1 channel", "published: 16, 32 and 64")
        if image_size < STRIDE or image_size % STRIDE:
            raise MotesError(
                f"ABC cannot be built for {image_size}x{image_size} px, image_size must be a multiple of {STRIDE}",
                "published: 256 and 512",
            )
        self.image_size, self.deep_supervision = image_size, deep_supervision
        self.input_limits = dict.fromkeys(("stride", "min_size", "max_size", "tile"), image_size)
        c = [width << level for level in range(5)]
        self.Conv1 = TwoConvs(in_channels, c[0])
        for i in (2, 3, 4):
            self.add_module(f"Convtans{i}", ConvTransformer(c[i - 2], c[i - 1], image_size >> (i - 1)))
        self.Conv5 = DilatedBlock(c[3], c[4])
        for i in (5, 4, 3, 2):
            self.add_module(f"Up{i}", Up(c[i - 1], c[i - 2]))
            block = DilatedBlock if i == 5 else TwoConvs
            self.add_module(f"Up_conv{i}", block(c[i - 1], c[i - 2]))
        self.Conv = nn.Conv2d(c[0], num_classes, 1)
        for i in reversed(LEVELS):
            self.add_module(f"conv{i}", nn.Conv2d(c[i - 1], num_classes, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        features = self._features(images)
        logits = self.Conv(features[0])
        return (logits, *self._side_outputs(features)) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0`` .. ``out4``: side outputs from fine to coarse, ``out5``: the prediction, all logits [B, K, H, W].

        Without deep supervision the prediction alone, ``out0``.
        """
        features = self._features(images)
        outputs = [*self._side_outputs(features), self.Conv(features[0])]
        return {f"out{i}": output for i, output in enumerate(outputs)}

    def published_extra_macs(self, output: Tensor) -> int:
        """Multiply-accumulates of the side outputs, which the authors' code computes in eval mode as well."""
        heads = [getattr(self, f"conv{i}") for i in LEVELS] if self.deep_supervision else []
        return sum(head.weight.numel() * output[:, 0].numel() // 4**i for i, head in enumerate(heads))

    def _features(self, images: Tensor) -> list[Tensor]:
        """Decoded features of levels 1 to 4, encoded ones of level 5; level l is [B, width 2^(l-1), H/2^(l-1), ...]."""
        self._check_size(images)
        skips = [self.Conv1(images)]
        for block in (self.Convtans2, self.Convtans3, self.Convtans4, self.Conv5):
            skips.append(block(F.max_pool2d(skips[-1], 2)))
        features = [skips.pop()]
        for i in (5, 4, 3, 2):
            up = getattr(self, f"Up{i}")(features[0])
            features.insert(0, getattr(self, f"Up_conv{i}")(torch.cat([skips.pop(), up], dim=1)))
        return features

    def _side_outputs(self, features: list[Tensor]) -> list[Tensor]:
        """Logits of every level, [B, K, H, W] each."""
        if not self.deep_supervision:
            return []
        size = features[0].shape[-2:]
        first, *coarse = (getattr(self, f"conv{i}")(x) for i, x in zip(LEVELS, features, strict=True))
        return [first, *(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in coarse)]

    def _check_size(self, images: Tensor) -> None:
        h, w = images.shape[-2:]
        side = self.image_size
        if h != side or w != side:
            raise MotesError(
                f"ABC cannot take a frame of {h}x{w} px: it was built for {side}x{side} px (image_size)",
                "motes.models.any_size pads, Detector and `motes detect` cut larger frames into tiles",
            )


class ConvTransformer(nn.Module):
    """CLFT: attention among rows, then a convolutional feed-forward part, [B, c, side, side] -> [B, o, side, side]."""

    def __init__(self, in_channels: int, out_channels: int, side: int) -> None:
        super().__init__()
        self.attention = ConvAttention(in_channels, side)
        self.feedforward = FeedForward(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.feedforward(self.attention(x))


class ConvAttention(nn.Module):
    """Plain and dilated convolutions, added; to the sum its rows as the attention mixes them, and the input."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(OrderedDict(convs=chain(channels, (1, 1, 1))))
        self.dconv = nn.Sequential(OrderedDict(dconvs=chain(channels, (2, 4, 2))))
        self.att = BilinearAttention(channels, side)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        value = self.conv(x) + self.dconv(x)
        return self.gamma * (self.att(x).to(value.dtype) @ value) + value + x


class BilinearAttention(nn.Module):
    """BAM: how much every row takes of every other, from the outer product of two vectors; [B, c, s, s] -> the same."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, 1, 1)
        self.key_conv = nn.Conv2d(channels, 1, 1)
        self.query_line = nn.Linear(side * side, side)
        self.key_line = nn.Linear(side * side, side)
        self.s_conv = nn.Conv2d(1, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query_line(self.query_conv(x).flatten(2))
        key = self.key_line(self.key_conv(x).flatten(2))
        with full_precision(x):
            # Products of two sums over a whole map can leave the range of 16-bit floats.
            query, key = (vector.to(self.s_conv.weight.dtype) for vector in (query, key))
            return self.s_conv((query.transpose(1, 2) @ key).unsqueeze(1)).softmax(dim=-1)


class FeedForward(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv_norm(in_channels, out_channels)
        self.x_conv = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.x_conv(x)


class DilatedBlock(nn.Module):
    """UCDC: a small U shape whose deeper steps are dilated instead of smaller, [B, i, H, W] -> [B, o, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = conv_norm(in_channels, out_channels)
        self.dconv1 = conv_norm(out_channels, half, 2)
        self.dconv2 = conv_norm(half, half, 4)
        self.dconv3 = conv_norm(2 * half, out_channels, 2)
        self.conv2 = conv_norm(2 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.conv1(x)
        near = self.dconv1(wide)
        deep = self.dconv3(torch.cat([near, self.dconv2(near)], dim=1))
        return self.conv2(torch.cat([wide, deep], dim=1))


class TwoConvs(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*conv_norm(in_channels, out_channels), *conv_norm(out_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Up(nn.Module):
    """[B, i, H, W] -> [B, o, 2H, 2W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.Sequential(double, *conv_norm(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


def conv_norm(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution that keeps the size, its batch norm and a ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def chain(channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Convolutions as `conv_norm` makes them, one a dilation."""
    return nn.Sequential(*(conv_norm(channels, channels, dilation) for dilation in dilations))
