"""Attention with content and place of a query kept apart.

Meng et al., "Conditional DETR for Fast Training Convergence", ICCV 2021, section 3.2; DAB-DETR uses it too. Features
are [B, N, C] as in :mod:`motes.layers.query_transformer`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.layers.query_transformer import attend


class ConditionalAttention(nn.Module):
    """x + attention, with projections of their own for content and place.

    Among queries both are added. Across, to ``memory``, they are concatenated head by head, so that the inner product
    is the sum of one of contents and one of places; the place of a query is ``sine``, of its reference point.

    Args:
        across: whether it attends to a memory.
        first: whether the learned place of the query counts as content too, as in the first layer of a decoder.
    """

    def __init__(
        self, channels: int = 256, heads: int = 8, dropout: float = 0.1, across: bool = False, first: bool = True
    ) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, dropout
        names = ["qcontent_proj", "qpos_proj", "kcontent_proj", "kpos_proj", "v_proj", "qpos_sine_proj", "out_proj"]
        left_out = set() if across else {"qpos_sine_proj"}
        if across and not first:
            left_out.add("qpos_proj")
        for name in names:
            if name not in left_out:
                setattr(self, name, nn.Linear(channels, channels))
        self.dropout = nn.Dropout(dropout)
        self.across, self.first = across, first

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        memory: Tensor | None = None,
        memory_positions: Tensor | None = None,
        sine: Tensor | None = None,
    ) -> Tensor:
        """x, positions, sine [B, Q, C]; memory [B, N, C] and its positions [1, N, C]; -> [B, Q, C]."""
        source = x if memory is None else memory
        queries, keys = self.qcontent_proj(x), self.kcontent_proj(source)
        places = self.kpos_proj(positions if memory is None else memory_positions)
        if self.first or not self.across:
            queries, keys = queries + self.qpos_proj(positions), keys + places
        if self.across:
            queries = self.side_by_side(queries, self.qpos_sine_proj(sine))
            keys = self.side_by_side(keys, places.expand_as(keys))
        dropout = self.attention_dropout if self.training else 0.0
        found = attend(queries, keys, self.v_proj(source), self.heads, dropout)
        return x + self.dropout(self.out_proj(found))

    def side_by_side(self, content: Tensor, place: Tensor) -> Tensor:
        """[B, N, C] twice -> [B, N, 2 C] whose heads hold both."""
        pair = [t.unflatten(2, (self.heads, t.shape[2] // self.heads)) for t in (content, place)]
        return torch.cat(pair, -1).flatten(2)
