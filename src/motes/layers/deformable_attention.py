"""Attention that looks at a few learned points of every level instead of at all tokens.

Zhu et al., "Deformable DETR", ICLR 2021, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Sequence[tuple[Any, Any]]


class DeformableAttention(nn.Module):
    """x + weighted mean of values sampled bilinearly (zero outside) around a reference point, over all levels.

    Args:
        levels: maps of the memory.
        points: samples a head takes of a level.
    """

    def __init__(
        self, channels: int = 256, heads: int = 8, levels: int = 4, points: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.start()

    def start(self) -> None:
        """Head h looks in direction 2 pi h / heads, its k-th sample k cells away; all samples weigh the same."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack((angles.cos(), angles.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = direction[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        reference: Tensor,
        sizes: Sizes,
        memory: Tensor | None = None,
        positions: Tensor | float = 0.0,
    ) -> Tensor:
        """x [B, Q, C] -> [B, Q, C].

        Args:
            reference: [B or 1, Q, 2 or 4]: (x, y) in 0..1 of the frame, offsets are cells; or (x, y, w, h), offsets are
                parts of the box.
            sizes: (h, w) of every level of the memory.
            memory: [B, sum of h * w, C]; None: x itself.
            positions: added to x for offsets and weights.
        """
        queries = x + positions
        split = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries).unflatten(2, (*split, 2))
        weights = self.attention_weights(queries).unflatten(2, (self.heads, self.levels * self.points))
        weights = weights.softmax(-1).unflatten(3, (self.levels, self.points))
        values = self.value_proj(x if memory is None else memory)
        values = values.unflatten(2, (self.heads, values.shape[2] // self.heads)).permute(0, 2, 3, 1)
        centre, found, start = reference[:, :, None, None, :2], 0.0, 0
        for level, (h, w) in enumerate(sizes):
            if reference.shape[-1] == 4:
                unit = reference[:, :, None, None, 2:] * (0.5 / self.points)
            else:
                unit = 1 / torch.stack([torch.as_tensor(n, dtype=x.dtype, device=x.device) for n in (w, h)])
            places = centre + offsets[:, :, :, level] * unit  # [B, Q, heads, points, 2]
            level_values = values[..., start : start + h * w].unflatten(3, (h, w)).flatten(0, 1)
            grid = (2 * places - 1).transpose(1, 2).flatten(0, 1)
            samples = F.grid_sample(level_values, grid, align_corners=False)  # [B * heads, C / heads, Q, points]
            found = found + (samples * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
            start = start + h * w
        found = found.unflatten(0, (-1, self.heads)).flatten(1, 2).transpose(1, 2)
        return x + self.dropout(self.output_proj(found))


def cell_centres(maps: Sequence[Tensor]) -> Tensor:
    """(x, y) in 0..1 of the cells of maps [B, C, h, w], one map after the other: [1, sum of h * w, 2]."""
    centres = []
    for x in maps:
        cells = torch.ones_like(x[:1, 0])
        rows, columns = cells.cumsum(1), cells.cumsum(2)
        places = ((columns - 0.5) / columns[:, :, -1:], (rows - 0.5) / rows[:, -1:])
        centres.append(torch.stack(places, -1).flatten(1, 2))
    return torch.cat(centres, 1)
