"""MTU-Net: a residual U-Net whose bottleneck is joined by a small vision transformer of each of the four levels above.

Wu, Li, Luo, Wang, Xiao, Liu, Yang, An, Guo, "MTU-Net: Multilevel TransUNet for Space-Based Infrared Tiny Ship
Detection", IEEE TGRS vol. 61, 2023, arXiv 2209.13756. Parameter names are the published ones; what the published
network stores and never uses (a first block, a fifth transformer, a second head: 3,480,321 parameters) is left out.

What is as published, though odd, because published results were computed with it:

- a token is not a patch: of a level cut into p x p equal parts it collects the pixels at the same place in each, so
  they are spread over the whole frame;
- products of queries and keys are multiplied by e / 2 = 32 instead of 1 / sqrt(e) = 0.125, which makes the softmax
  nearly a choice of one key (``attention_scale`` sets another factor);
- the outputs of the layer that makes queries, keys and values are interleaved: q0, k0, v0, q1, ...;
- positions are numbered along the rows of the frame and read from a table, so weights fit one frame width best.

What is put right: the published code runs on frames of 1024 x 1024 px alone, this on any size that the table of
positions is long enough for, with the same result at 1024 x 1024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.layers.precision import full_precision

UNUSED_NAMES = [r"(^|\.)conv0_0_0\.", r"(^|\.)vit1\.", r"(^|\.)head\.block\."]
"""Tensors that the published network stores and never uses."""

STRIDE = 16
MOST_TOKENS = 4096
"""A token stands for 16 x 16 px: the frame of 1024 x 1024 px that the table of positions was made for."""

EMBEDDING = 64
HIDDEN = 4096
SLOPE = 0.01


class MTUNet(nn.Module):
    """MTU-Net (section III of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: K, one logit each (published: 1).
        width: channels of the first level (published: 16), doubled at every further one.
        attention_scale: factor between the products of queries and keys and the softmax (published: 32).
        dropout: share of the transformers' activations dropped in training.

    ``forward`` takes [B, C, H, W] with H and W multiples of 16 and H * W <= 4096 * 256 (else MotesError), and returns
    logits [B, K, H, W], in training a tuple of them alone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        width: int = 16,
        attention_scale: float = EMBEDDING / 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width < 1:
            raise MotesError(f"MTU-Net of width {width}: expected at least 1 channel", "16 is the published one")
        if not 0 <= dropout < 1:
            raise MotesError(
                f"dropout of MTU-Net is a share from 0 to below 1, found {dropout}", "0.1 is the published one"
            )
        c = [width << level for level in range(5)]
        self.conv0_0 = blocks(in_channels, c[0], 1)
        for level in (1, 2, 3, 4):
            self.add_module(f"conv{level}_0", blocks(c[level - 1], c[level], 2))
        for level, channels in enumerate(c[:4]):
            vit = LevelTransformer(channels, STRIDE >> level, attention_scale, dropout)
            self.add_module(f"vit{5 - level}", vit)
        self.conv3_1_1 = blocks(4 * EMBEDDING + c[4], c[4], 1)
        self.conv3_1 = blocks(c[3] + c[4], c[3], 1)
        self.conv2_2 = blocks(c[2] + c[3], c[2], 1)
        self.conv1_3 = blocks(c[1] + c[2], c[1], 1)
        self.conv0_4 = blocks(c[0] + c[1], c[0], 1)
        self.final = nn.Conv2d(c[0], num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: what the authors' code returns, logits [B, K, H, W]."""
        return {"out0": self._logits(images)}

    def _logits(self, images: Tensor) -> Tensor:
        check_size(images)
        x0 = self.conv0_0(images)
        x1 = self.conv1_0(F.max_pool2d(x0, 2))
        x2 = self.conv2_0(F.max_pool2d(x1, 2))
        x3 = self.conv3_0(F.max_pool2d(x2, 2))
        bottom = self.conv4_0(F.max_pool2d(x3, 2))
        t = self.conv3_1_1(torch.cat([self.vit2(x3), self.vit3(x2), self.vit4(x1), self.vit5(x0), bottom], dim=1))
        t = self.conv3_1(joined(x3, t))
        t = self.conv2_2(joined(x2, t))
        t = self.conv1_3(joined(x1, t))
        t = self.conv0_4(joined(x0, t))
        return self.final(t)


def check_size(images: Tensor) -> None:
    """MotesError where a side is no multiple of 16, or the table of positions ends."""
    h, w = images.shape[-2:]
    if h % STRIDE or w % STRIDE or h * w > MOST_TOKENS * STRIDE**2:
        raise MotesError(
            f"MTU-Net cannot take a frame of {h}x{w} px: its sides must be multiples of {STRIDE}, "
            f"with at most {MOST_TOKENS * STRIDE**2} pixels ({MOST_TOKENS} tokens, 1024x1024 px) in all",
            "motes.models.any_size pads, Detector and `motes detect` cut larger frames into tiles",
        )


def joined(skip: Tensor, deep: Tensor) -> Tensor:
    """[B, c, H, W] and [B, d, H/2, W/2] -> [B, c + d, H, W]."""
    up = F.interpolate(deep, skip.shape[-2:], mode="bilinear", align_corners=True)
    return torch.cat([skip, up], dim=1)


def blocks(in_channels: int, channels: int, count: int) -> nn.Sequential:
    """A chain of residual blocks, the first of which changes the channels."""
    rest = (ResidualBlock(channels, channels) for _ in range(count - 1))
    return nn.Sequential(ResidualBlock(in_channels, channels), *rest)


class ResidualBlock(nn.Sequential):
    """Two 3x3 convolutions with batch norm, plus their input. A Sequential, so that its norms can be folded."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        if in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.bn1(self.conv1(x)), SLOPE)
        y = self.bn2(self.conv2(y))
        return F.leaky_relu(y + (self.shortcut(x) if hasattr(self, "shortcut") else x), SLOPE)


class LevelTransformer(nn.Module):
    """One encoder block over the tokens of a level: [B, c, p * h, p * w] -> [B, 64, h, w].

    Args:
        channels: c.
        patch: p; a token is the p x p pixels (a * h + i, b * w + j) with the same i and j.
        scale: see MTUNet.
        dropout: see MTUNet.
    """

    def __init__(self, channels: int, patch: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Linear(patch * patch * channels, EMBEDDING)
        self.cls_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, EMBEDDING)))
        self.embedding = nn.Parameter(nn.init.uniform_(torch.empty(MOST_TOKENS + 1, EMBEDDING)))
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(scale, dropout)

    def forward(self, x: Tensor) -> Tensor:
        p, h, w = self.patch, x.shape[2] // self.patch, x.shape[3] // self.patch
        samples = x.reshape(x.shape[0], x.shape[1], p, h, p, w).permute(0, 3, 5, 2, 4, 1)
        tokens = self.projection(samples.flatten(3).flatten(1, 2))
        tokens = torch.cat([self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.transformer(self.dropout(tokens + self.embedding[: tokens.shape[1]]))
        return tokens[:, 1:].transpose(1, 2).reshape(x.shape[0], EMBEDDING, h, w)


class Transformer(nn.Module):
    def __init__(self, scale: float, dropout: float) -> None:
        super().__init__()
        self.layer_blocks = nn.ModuleList([EncoderBlock(scale, dropout)])

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.layer_blocks:
            tokens = block(tokens)
        return tokens


class EncoderBlock(nn.Module):
    """Attention, then a perceptron, each added to its input and normalised afterwards: [B, n, 64] -> the same."""

    def __init__(self, scale: float, dropout: float) -> None:
        super().__init__()
        self.multi_head_attention = Attention(scale)
        self.mlp = Perceptron(dropout)
        self.layer_norm1 = nn.LayerNorm(EMBEDDING)
        self.layer_norm2 = nn.LayerNorm(EMBEDDING)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.layer_norm1(tokens + self.dropout(self.multi_head_attention(tokens)))
        return self.layer_norm2(tokens + self.mlp(tokens))


class Attention(nn.Module):
    """Attention with one head, [B, n, 64] -> the same."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.qkv_layer = nn.Linear(EMBEDDING, 3 * EMBEDDING, bias=False)
        self.out_attention = nn.Linear(EMBEDDING, EMBEDDING, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        with full_precision(tokens):
            # With the factor 32 the rounding of 16-bit floats would decide which key gets all the weight.
            full = self.qkv_layer(tokens.to(self.qkv_layer.weight.dtype))
            q, k, v = (part.contiguous() for part in full.unflatten(-1, (EMBEDDING, 3)).unbind(-1))
            mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out_attention(mixed)


class Perceptron(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.mlp_layers = nn.Sequential(
            nn.Linear(EMBEDDING, HIDDEN),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, EMBEDDING),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp_layers(tokens)
