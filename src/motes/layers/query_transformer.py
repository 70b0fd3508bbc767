"""What networks that detect with queries are made of: attention, feed-forward parts and sine positions.

Post-norm layers as in Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, under the names of the
published weights (``self_attn.attn.in_proj_weight``, ``ffn.layers.0.0``, ``norms.0``). Features are [B, N, C]: N
tokens of a map in row-major order, or N queries. Every attention and feed-forward part returns its input plus what it
found. Nothing is masked: all tokens of a frame are real, and frames of a batch have one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention: [B, Q, D], [B, N, D], [B, N, C] -> [B, Q, C]; D and C are split into heads."""
    parts = (x.unflatten(2, (heads, x.shape[2] // heads)).transpose(1, 2) for x in (queries, keys, values))
    return F.scaled_dot_product_attention(*parts, dropout_p=dropout).transpose(1, 2).flatten(2)


class PackedAttention(nn.Module):
    """Projections and heads of one attention; ``in_proj_weight`` [3 C, C] holds those of query, key and value."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = [F.linear(x, w, b) for x, w, b in zip((queries, keys, values), weights, biases, strict=True)]
        return self.out_proj(attend(*projected, heads=self.heads, dropout=self.dropout if self.training else 0.0))


class Attention(nn.Module):
    """x + attention of x to ``memory``, or to itself; positions are added to queries and keys, not to values."""

    def __init__(self, channels: int = 256, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.attn = PackedAttention(channels, heads, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        positions: Tensor | float = 0.0,
        memory_positions: Tensor | float | None = None,
    ) -> Tensor:
        """x [B, Q, C], memory [B, N, C] -> [B, Q, C]; positions are broadcast."""
        if memory is None:
            memory, memory_positions = x, positions
        return x + self.dropout(self.attn(x + positions, memory + memory_positions, memory))


class FeedForward(nn.Module):
    """Two linear layers with an activation between; added to its input unless ``residual`` is false."""

    def __init__(
        self,
        channels: int = 256,
        hidden: int = 2048,
        dropout: float = 0.1,
        activation: Callable[[], nn.Module] = nn.ReLU,
        residual: bool = True,
    ) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden), activation(), nn.Dropout(dropout))
        self.layers = nn.Sequential(first, nn.Linear(hidden, channels), nn.Dropout(dropout))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MLP(nn.Module):
    """Linear layers with ReLU between them, ``layers`` of them."""

    def __init__(self, channels: int, hidden: int, out: int, layers: int) -> None:
        super().__init__()
        widths = [channels, *[hidden] * (layers - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class EncoderLayer(nn.Module):
    """``attention`` of the tokens and a feed-forward part, each with a norm behind it."""

    def __init__(self, attention: nn.Module, ffn: FeedForward, channels: int = 256) -> None:
        super().__init__()
        self.self_attn, self.ffn = attention, ffn
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, **attention: Any) -> Tensor:
        """``attention``: further arguments of the attention."""
        return self.norms[1](self.ffn(self.norms[0](self.self_attn(x, **attention))))


class DecoderLayer(nn.Module):
    """Attention among the queries, attention of the queries to the tokens, a feed-forward part; norms behind each."""

    def __init__(self, among: nn.Module, across: nn.Module, ffn: FeedForward, channels: int = 256) -> None:
        super().__init__()
        self.self_attn, self.cross_attn, self.ffn = among, across, ffn
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, among: Mapping[str, Any], across: Mapping[str, Any]) -> Tensor:
        """``among``, ``across``: further arguments of the two attentions."""
        x = self.norms[0](self.self_attn(x, **among))
        x = self.norms[1](self.cross_attn(x, **across))
        return self.norms[2](self.ffn(x))


def map_positions(x: Tensor, channels: int = 256, temperature: float = 10000.0, offset: float = 0.0) -> Tensor:
    """Sines of row and column of every cell of a map [B, C, H, W]: [1, H * W, channels], rows in the first half.

    The k-th row counts as (k + 1 + offset) / H of a whole wave at the lowest frequency.
    """
    cells = torch.ones_like(x[:1, 0])
    places = [cells.cumsum(axis) for axis in (1, 2)]
    last = [places[0][:, -1:], places[1][:, :, -1:]]
    fractions = [(p + offset) / (end + 1e-6) for p, end in zip(places, last, strict=True)]
    waves = [sines(f, channels // 2, temperature) for f in fractions]
    return torch.cat(waves, -1).flatten(1, 2)


def point_positions(points: Tensor, channels: int = 128, temperature: float = 10000.0) -> Tensor:
    """Sines of (x, y) or (x, y, w, h) [..., n] in 0..1: [..., n * channels]; y comes before x."""
    x, y, *rest = points.unbind(-1)
    return torch.cat([sines(value, channels, temperature) for value in (y, x, *rest)], -1)


def sines(fractions: Tensor, channels: int, temperature: float) -> Tensor:
    """[...] -> [..., channels]: sine and cosine in turn, of wave lengths from 1 to ``temperature``."""
    exponents = torch.arange(channels // 2, dtype=fractions.dtype, device=fractions.device) * (2 / channels)
    angles = (fractions * (2 * math.pi)).unsqueeze(-1) / temperature**exponents
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """ln(x / (1 - x)) with both at least ``eps``."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def start_transformer(*parts: nn.Module) -> None:
    """Xavier uniform for every matrix of ``parts``, as published."""
    for part in parts:
        for p in part.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
