"""PVT, version 1: a pyramid of Transformers whose keys and values are taken from a coarser grid.

Wang, Xie, Li, Fan, Song, Liang, Lu, Luo, Shao, "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction
without Convolutions", ICCV 2021. timm has version 2 alone. Parameter names are the published ones:
``layers.<stage>.0`` patch embedding, ``.1.0`` position embedding, ``.1.<k>`` blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.naming import look_up

SIZES: dict[str, dict[str, Any]] = {
    "pvt_v1_tiny": {"channels": (64, 128, 320, 512), "depths": (2, 2, 2, 2), "heads": (1, 2, 5, 8)},
    "pvt_v1_small": {"channels": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "heads": (1, 2, 5, 8)},
}
"""Table 1 of the paper; both have MLPs of 8, 8, 4 and 4 times the width and reductions by 8, 4, 2 and 1."""

PATCHES, REDUCTIONS, WIDENING = (4, 2, 2, 2), (8, 4, 2, 1), (8, 8, 4, 4)
PRETRAINED = 224
"""px, side of the images of the pre-training, whose grids the position embeddings are stored for."""
EPS = 1e-6


def create_pvt(name: str = "pvt_v1_tiny", levels: Sequence[int] = (3, 4, 5), in_channels: int = 3) -> PVT:
    """Raises CardError for an unknown name; the nearest is suggested."""
    return PVT(**SIZES[look_up("backbone", name, SIZES, CardError)], levels=levels, in_channels=in_channels)


class PVT(nn.Module):
    """Four stages; no class token, no norm behind a stage.

    Args:
        channels, depths, heads: of the stages.
        levels: the maps wanted: level l has stride 2^l, 2 is the first stage.
        in_channels: bands of the input.
        drop_path: rate of the last block; grows linearly from 0 at the first.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 32 and returns a list of maps
    [B, channels, H / stride, W / stride], finest first.
    """

    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        levels: Sequence[int] = (3, 4, 5),
        in_channels: int = 3,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        rates = [drop_path * k / max(1, sum(depths) - 1) for k in range(sum(depths))]
        self.layers = nn.ModuleList()
        side, before, first = PRETRAINED, in_channels, 0
        for i, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            side //= PATCHES[i]
            blocks = [Block(width, heads[i], REDUCTIONS[i], WIDENING[i], rate) for rate in rates[first : first + depth]]
            self.layers.append(
                nn.ModuleList([PatchEmbed(before, width, PATCHES[i]), nn.ModuleList([Position(side, width), *blocks])])
            )
            before, first = width, first + depth
        self.channels = tuple(channels[level - 2] for level in self.levels)
        self.strides = tuple(2**level for level in self.levels)
        self.apply(start)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for embed, (position, *blocks) in self.layers:  # type: ignore[misc]
            x = position(embed(x))
            for block in blocks:
                x = block(x)
            maps.append(x)
        return [maps[level - 2] for level in self.levels]


class PatchEmbed(nn.Module):
    """Disjoint patches of ``size`` px -> [B, width, H / size, W / size], normalised over channels."""

    def __init__(self, in_channels: int, width: int, size: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, width, size, stride=size)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection(x)
        return as_map(self.norm(as_tokens(x)), x)


class Position(nn.Module):
    """Adds an embedding that is stored for ``side`` x ``side`` cells, resized bilinearly."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side, width))

    def forward(self, x: Tensor) -> Tensor:
        stored = self.pos_embed.transpose(1, 2).reshape(1, -1, self.side, self.side)
        return x + F.interpolate(stored, size=x.shape[-2:], mode="bilinear", align_corners=False)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), on a map [B, width, h, w]."""

    def __init__(self, width: int, heads: int, reduction: int, widening: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = ReducedAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.ffn = MLP(width, width * widening)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        tokens = as_tokens(x)
        tokens = tokens + self.dropped(self.attn(self.norm1(tokens), x))
        x = as_map(tokens, x)
        return x + self.dropped(self.ffn(as_map(self.norm2(tokens), x)))

    def dropped(self, branch: Tensor) -> Tensor:
        """In training: nothing for a share ``drop_path`` of the frames, and more of the others to make up for it."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) < keep
        return branch * kept.to(branch.dtype) / keep


class ReducedAttention(nn.Module):
    """Self-attention of tokens [B, h * w, width]; keys and values from disjoint patches of ``reduction`` x itself."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.attn = PackedAttention(width, heads)
        self.reduction = reduction
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        """``x``: a map [B, C, h, w] of the shape that the tokens have."""
        context = tokens
        if self.reduction > 1:
            context = self.norm(as_tokens(self.sr(as_map(tokens, x))))
        return self.attn(tokens, context)


class PackedAttention(nn.Module):
    """Multi-head attention under the names of torch's; without its shortcut in eval mode, which ONNX lacks."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        sources = (tokens, context, context)
        q, k, v = (
            F.linear(s, w, b).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for s, w, b in zip(sources, weights, biases, strict=True)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two 1x1 convolutions with GELU between them, ``layers.0`` and ``layers.3``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Identity(), nn.Conv2d(hidden, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def as_tokens(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h * w, C]."""
    return x.flatten(2).transpose(1, 2)


def as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """[B, h * w, C] -> [B, C, h, w] with h and w of ``like``."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *like.shape[-2:])


def start(module: nn.Module) -> None:
    """Fresh weights: truncated normal for linear layers, by fan-out for convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, (2 / fan_out) ** 0.5)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Position):
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
