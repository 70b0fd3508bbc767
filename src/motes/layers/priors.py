"""Where detectors expect boxes: a point or some anchors in every cell of every level's grid.

Everything is flattened in one order: level by level, then row, column, anchor. Positions are px of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from motes.errors import MotesError

Sizes = Sequence[tuple[Any, Any]]
"""(h, w) of each level's grid in cells; numbers, or scalar tensors while a network is traced."""


def points(
    sizes: Sizes, strides: Sequence[float], offset: float = 0.5, device: torch.device | str | None = None
) -> list[Tensor]:
    """The point (x, y) of every cell, [h * w, 2] a level: ((column + offset) * stride, (row + offset) * stride)."""
    return [grid_points(h, w, s, offset, device) for (h, w), s in zip(sizes, strides, strict=True)]


class Anchors:
    """Boxes of fixed sizes in every cell, around (column * stride, row * stride): a cell's corner, as published.

    Args:
        strides: px between cells, a level each.
        ratios: height / width.
        scales: side of the square anchor in units of the level's base size.
        base_sizes: px, a level each; default: the strides.
        octave_base: the ``scales_per_octave`` scales octave_base * 2^(k / n) are used instead of ``scales``.
        offset: 0.5 puts the anchors around the cells' centres.

    Attributes:
        base: per level [A, 4], the anchors around the origin; for every ratio all scales. May be replaced (SSD).
        per_cell: A of each level.
    """

    def __init__(
        self,
        strides: Sequence[float],
        ratios: Sequence[float] = (1.0,),
        scales: Sequence[float] = (8.0,),
        base_sizes: Sequence[float] | None = None,
        octave_base: float | None = None,
        scales_per_octave: int = 1,
        offset: float = 0.0,
    ) -> None:
        if octave_base is not None:
            scales = [octave_base * 2 ** (k / scales_per_octave) for k in range(scales_per_octave)]
        if len(base_sizes or strides) != len(strides):
            raise MotesError(f"{len(strides)} strides of anchors and {len(base_sizes or ())} base sizes")
        self.strides, self.offset = tuple(strides), offset
        self.base = [base_anchors(size, ratios, scales) for size in (base_sizes or strides)]

    @property
    def per_cell(self) -> list[int]:
        return [len(b) for b in self.base]

    def grid(self, sizes: Sizes, device: torch.device | str | None = None) -> list[Tensor]:
        """All anchors of each level, [h * w * A, 4] xyxy px."""
        found = []
        for (h, w), stride, base in zip(sizes, self.strides, self.base, strict=True):
            corner = grid_points(h, w, stride, self.offset, device)
            found.append((corner.repeat(1, 2)[:, None] + base.to(corner.device)).reshape(-1, 4))
        return found

    def inside(
        self,
        sizes: Sizes,
        image_size: tuple[int, int],
        border: float = -1,
        device: torch.device | str | None = None,
    ) -> list[Tensor]:
        """Which anchors training may use, bool [h * w * A] a level.

        Those whose cell starts inside the image (h, w); with ``border`` >= 0 also only those that cross the image's
        edge by at most ``border`` px.
        """
        height, width = image_size
        found = []
        for (h, w), stride, base, anchors in zip(sizes, self.strides, self.base, self.grid(sizes, device), strict=True):
            rows = torch.arange(h, device=anchors.device) < math.ceil(height / stride)
            columns = torch.arange(w, device=anchors.device) < math.ceil(width / stride)
            usable = (rows[:, None] & columns).flatten().repeat_interleave(len(base))
            if border >= 0:
                usable &= (anchors[:, :2] >= -border).all(1)
                usable &= (anchors[:, 2] < width + border) & (anchors[:, 3] < height + border)
            found.append(usable)
        return found


def base_anchors(size: float, ratios: Sequence[float], scales: Sequence[float]) -> Tensor:
    """[ratios * scales, 4] float32 around the origin."""
    # Made as Python numbers: networks are also built on the meta device, which holds no values.
    rows = []
    for ratio in ratios:
        for scale in scales:
            w, h = size * scale / math.sqrt(ratio), size * scale * math.sqrt(ratio)
            rows.append((-w / 2, -h / 2, w / 2, h / 2))
    return torch.tensor(rows, dtype=torch.float32, device="cpu")


def grid_points(h: Any, w: Any, stride: float, offset: float, device: torch.device | str | None) -> Tensor:
    x = (torch.arange(w, device=device, dtype=torch.float32) + offset) * stride
    y = (torch.arange(h, device=device, dtype=torch.float32) + offset) * stride
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((columns, rows), -1).reshape(-1, 2)
