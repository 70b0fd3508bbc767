"""Patch images and patch tensors: a frame cut into overlapping squares, and put together again.

The low-rank methods look for targets in the stack of all squares of a frame: background squares resemble each other, so
their stack has few large singular values, and a target fits none of them. Large frames are cut into blocks first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from motes.errors import CardError

PATCH_VALUES = 1 << 24
"""Most values in one patch image. A method holds ten to fifteen arrays of this size in float64: up to 2 GiB."""

FEWEST = 4
"""Patches below which a stack says nothing about what repeats: smaller squares are cut then."""


@dataclass(frozen=True)
class PatchGrid:
    """Where the squares of a frame lie, and their order.

    Attributes:
        shape: (H, W) of the frame, px.
        patch: side of a square, px.
        rows, columns: top and left positions of the squares, ascending.
        by_columns: the squares of one column follow each other (row position in the inner loop), as in the published
            tensor codes; else those of one row.
    """

    shape: tuple[int, int]
    patch: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    by_columns: bool = True

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """[H, W] -> [patches, patch, patch], a copy in the image's dtype."""
        windows = sliding_window_view(image, (self.patch, self.patch))[np.ix_(self.rows, self.columns)]
        if self.by_columns:
            windows = windows.transpose(1, 0, 2, 3)
        return np.ascontiguousarray(windows).reshape(-1, self.patch, self.patch)

    def paste(self, patches: np.ndarray, combine: str = "mean") -> np.ndarray:
        """[patches, patch, patch] -> [H, W]; 0 where no square lies.

        Args:
            patches: in the order of `cut`.
            combine: what counts where squares overlap. ``mean``, ``median`` (of an even number: the mean of the two
                middle ones), ``last`` (the square furthest to the bottom right, which published codes keep by
                overwriting), ``shifted`` (the mean of zero and all squares but that last one: an off-by-one of
                ISTD-python, for comparison only).
        """
        p = self.patch
        if combine == "median":
            return self._median(patches)
        last = np.zeros(self.shape, patches.dtype)
        total, count = np.zeros_like(last), np.zeros(self.shape, np.int32)
        for square, (i, j) in zip(patches, self._positions(), strict=True):
            last[i : i + p, j : j + p] = square
            total[i : i + p, j : j + p] += square
            count[i : i + p, j : j + p] += 1
        if combine == "last":
            return last
        if combine == "shifted":
            total -= last
        return np.divide(total, np.maximum(count, 1), out=total)

    def _positions(self) -> list[tuple[int, int]]:
        if self.by_columns:
            return [(i, j) for j in self.columns for i in self.rows]
        return [(i, j) for i in self.rows for j in self.columns]

    def _median(self, patches: np.ndarray) -> np.ndarray:
        """Squares that do not overlap share a layer, so that a pixel's values are one row to sort."""
        p = self.patch
        down, across = _layers(self.rows, p), _layers(self.columns, p)
        stack = np.full((*self.shape, down * across), np.inf, patches.dtype)
        count = np.zeros(self.shape, np.int64)
        row_of, column_of = ({at: n for n, at in enumerate(line)} for line in (self.rows, self.columns))
        for square, (i, j) in zip(patches, self._positions(), strict=True):
            stack[i : i + p, j : j + p, row_of[i] % down * across + column_of[j] % across] = square
            count[i : i + p, j : j + p] += 1
        stack.sort(axis=2)
        middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=2)
        middle = np.minimum(middle, stack.shape[2] - 1)
        median = np.take_along_axis(stack, middle, axis=2).mean(axis=2)
        return np.where(count > 0, median, 0)


def patch_grid(
    shape: tuple[int, ...], patch: int, step: int, *, border: str = "flush", by_columns: bool = True
) -> PatchGrid:
    """Squares every ``step`` px, as the published codes lay them.

    Args:
        shape: (H, W), px.
        patch: side of a square, px. In a frame that holds fewer than `FEWEST` of them, squares are half as wide as its
            shorter side.
        step: px from one square to the next; never more than the side.
        border: ``flush``: the last square ends at the border. ``inside``: positions 0, step, 2 step, ... while the
            square fits, so that up to step - 1 px at the bottom and right lie in none. ``before``: the same without a
            last one that ends exactly at the border.
        by_columns: the order, see `PatchGrid`.
    """
    h, w = shape

    def grid(side: int) -> PatchGrid:
        rows, columns = (_line(n, side, min(step, side), border) for n in (h, w))
        return PatchGrid((h, w), side, rows, columns, by_columns)

    whole = grid(min(patch, h, w))
    return whole if len(whole) >= FEWEST else grid(max(1, min(h, w) // 2))


def in_blocks(solve: Callable[[np.ndarray], np.ndarray], frame: np.ndarray, block: int, patch: int) -> np.ndarray:
    """``solve`` of an [H, W] frame, block by block where a side is longer than ``block`` px.

    Blocks overlap by ``patch`` px; every pixel is taken from the block in which it lies further from the border.
    """
    out = np.empty(frame.shape, np.float32)
    lines = [_blocks(n, block, patch) for n in frame.shape]
    for top, bottom, first_row, last_row in lines[0]:
        for left, right, first, last in lines[1]:
            solved = solve(frame[top:bottom, left:right])
            out[first_row:last_row, first:last] = solved[first_row - top : last_row - top, first - left : last - left]
    return out


def too_large(patch: int, step: int, block: int, **_: object) -> str | None:
    """What is wrong with these options together: squares with gaps, or a patch image beyond `PATCH_VALUES`."""
    if step > patch:
        return f"step {step} is larger than patch {patch}, which leaves gaps between the patches"
    if block < 2 * patch:
        return f"block {block} must be at least two patches of {patch} px wide"
    values = len(_line(block, patch, step, "flush")) ** 2 * patch**2
    if values > PATCH_VALUES:
        return (
            f"patch {patch} and step {step} make {values / 1e6:.0f} million values of a block of {block} px, and "
            f"{PATCH_VALUES / 1e6:.0f} million is the limit; choose a larger step or a smaller block"
        )
    return None


def check(name: str, patch: int, step: int, block: int) -> None:
    """Raises CardError with the sentence of `too_large`."""
    wrong = too_large(patch, step, block)
    if wrong:
        raise CardError(f"{name}: {wrong}")


def _line(length: int, patch: int, step: int, border: str) -> tuple[int, ...]:
    """Positions of squares along one side."""
    room = length - patch
    if border == "flush":
        return (*range(0, room, step), room)
    return tuple(range(0, room + (border == "inside"), step)) or (0,)


def _layers(positions: tuple[int, ...], patch: int) -> int:
    """The smallest m such that squares m places apart do not overlap."""
    m = 1
    while any(b - a < patch for a, b in zip(positions, positions[m:], strict=False)):
        m += 1
    return m


def _blocks(length: int, block: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, first, last) of every block along one side: what it reads, and what of it is kept."""
    if length <= block:
        return [(0, length, 0, length)]
    count = -(-(length - overlap) // (block - overlap))
    size = -(-(length + (count - 1) * overlap) // count)
    starts = [round(k * (length - size) / (count - 1)) for k in range(count)]
    cuts = [0, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
    return [(start, start + size, cuts[k], cuts[k + 1]) for k, start in enumerate(starts)]
