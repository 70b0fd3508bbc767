"""Large frames in overlapping tiles, stitched without seams and without weight maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from motes.errors import MotesError


@dataclass(frozen=True)
class Span:
    """One tile along one axis: it covers [start, stop) px and counts as ``weight`` [stop - start] there."""

    start: int
    stop: int
    weight: np.ndarray


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Cuts an axis of ``length`` px into equal, evenly spread tiles that overlap by at least ``overlap`` px.

    The weights of all tiles add up to 1 at every pixel. In the middle half of an overlap they pass linearly from one
    tile to the next; in its outer quarters one tile counts alone, so the ``overlap // 4`` px along a tile's inner
    border, where a convolution sees its padding, count for nothing.

    Raises:
        MotesError: ``overlap`` is negative or more than half a tile.
    """
    if tile < 1 or not 0 <= overlap <= tile // 2:
        raise MotesError(f"an overlap of {overlap} px does not fit tiles of {tile} px", "use at most half the tile")
    if length <= tile:
        return [Span(0, length, np.ones(length, np.float32))]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    # passed[i](x): how much of the weight at x has passed to tile i or a later one. Differences add up to 1.
    x = np.arange(length, dtype=np.float64)
    passed = [
        np.ones(length),
        *(_step(x, start, before + tile) for before, start in pairwise(starts)),
    ]
    passed.append(np.zeros(length))
    return [
        Span(start, start + tile, (passed[i] - passed[i + 1])[start : start + tile].astype(np.float32))
        for i, start in enumerate(starts)
    ]


def _step(x: np.ndarray, start: int, stop: int) -> np.ndarray:
    """0 before the middle half of the overlap [start, stop), 1 after it, linear inside."""
    width = stop - start
    if width < 4:  # no room for a ramp: the seam is the middle
        return (x >= start + width / 2).astype(np.float64)
    return np.clip((x + 0.5 - (start + width / 4)) / (width / 2), 0.0, 1.0)


def stitch(
    size: tuple[int, int],
    tile: int,
    overlap: int,
    run: Callable[[slice, slice], np.ndarray],
) -> np.ndarray:
    """The map of a whole frame from the maps of its tiles, in reading order.

    Args:
        size: (height, width) of the frame, px.
        tile: side of a tile, px; tiles are smaller where the frame is.
        overlap: least overlap of neighbouring tiles, px.
        run: (rows, columns) -> [h, w] float32 map of that window.

    Returns:
        [H, W] float32. Besides the tile at work this is all the memory it takes.
    """
    total = np.zeros(size, np.float32)
    for row, column in windows(size, tile, overlap):
        part = run(slice(row.start, row.stop), slice(column.start, column.stop))
        weighted = part * row.weight[:, None]
        weighted *= column.weight
        total[row.start : row.stop, column.start : column.stop] += weighted
    return total


def windows(size: tuple[int, int], tile: int, overlap: int) -> Iterator[tuple[Span, Span]]:
    """(rows, columns) of every tile of a frame, in reading order."""
    columns = spans(size[1], tile, overlap)
    for row in spans(size[0], tile, overlap):
        for column in columns:
            yield row, column
