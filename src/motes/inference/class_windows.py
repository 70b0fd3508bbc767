"""Sliding windows over images of any size, and their maps merged row by row in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Span:
    """One window along one axis: it covers [start, stop) px and counts as ``weight`` [stop - start] float32 there.

    ``first`` and ``last`` bound the part [first, last) in which it counts at all.
    """

    start: int
    stop: int
    weight: np.ndarray
    first: int
    last: int


def spans(length: int, window: int, stride: int, blend: Literal["mean", "ramp"] = "ramp", grid: int = 1) -> list[Span]:
    """The windows along an axis of ``length`` px. At every pixel the weights of all of them add up to 1.

    ``mean``: the rule of FarSeg and FactSeg. Windows start at 0, stride, 2 stride, ...; the last one is shifted back to
    end at the border; all windows over a pixel count alike.

    ``ramp``: as many windows, evenly spread, at multiples of ``grid`` (the network's stride: a window sees its pixels
    in the phase in which the whole image would show them); the last one may end beyond the image, by less than
    ``grid``, and is padded as the whole image would be. In the middle half of the nominal overlap (window - stride) the
    weight passes linearly from one window to the next; in its outer quarters, along a window's inner border, a
    window counts for nothing.

    Args:
        length: of the axis, px.
        window: of a window, px; for ``ramp`` a multiple of ``grid``.
        stride: the largest distance of neighbouring windows, px; for ``ramp`` a multiple of ``grid``.
        blend: which rule.
        grid: see above.
    """
    if length <= window:
        return [Span(0, length, np.ones(length, np.float32), 0, length)]
    if blend == "mean":
        grid, margin, ramp = 1, 0, 0
        count = -(-(length - window) // stride) + 1
        starts = [min(i * stride, length - window) for i in range(count)]
    else:
        overlap = window - stride
        margin, ramp = overlap // 4, overlap - 2 * (overlap // 4)
        room = -(-length // grid) - window // grid  # in steps of the grid
        count = -(-room // (stride // grid)) + 1
        starts = [round(i * room / (count - 1)) * grid for i in range(count)]
    raw = []
    for i, start in enumerate(starts):
        stop = min(start + window, length)
        weight = np.ones(stop - start)
        # 0 in the margin, then (k + 1/2) / ramp: two facing ramps add up to 1 where the overlap is the nominal one
        rise = np.clip((np.arange(margin + ramp) - margin + 0.5) / max(ramp, 1), 0, 1)
        if i and len(rise):
            weight[: len(rise)] *= rise
        if i + 1 < len(starts) and len(rise):
            weight[-len(rise) :] *= rise[::-1]
        raw.append((start, stop, weight))
    total = np.zeros(length)
    for start, stop, weight in raw:
        total[start:stop] += weight
    found = []
    for start, stop, weight in raw:
        counted = np.flatnonzero(weight)
        share = (weight / total[start:stop]).astype(np.float32)
        found.append(Span(start, stop, share, start + int(counted[0]), start + int(counted[-1]) + 1))
    return found


def merge(
    rows: Sequence[Span],
    columns: Sequence[Span],
    run: Callable[[Span], Iterable[np.ndarray]],
    finish: Callable[[np.ndarray], np.ndarray],
) -> Iterator[tuple[int, np.ndarray]]:
    """Weighted sums of window maps, given out in bands of finished rows, from the top.

    Between two rows of windows only the pixel rows are kept that both touch; within a row of windows, only the columns
    that two neighbours touch. An image of 13,000 x 13,000 px with 16 classes takes 160 MB that way, instead of 11 GB.
    The order of summation is fixed.

    Args:
        rows: windows from top to bottom, from `spans`.
        columns: windows from left to right.
        run: a row of windows -> the maps [K, h, w] of its windows from left to right. They are written to.
        finish: [K, n, m] finished sums -> what is given out, [n, m] (or [..., n, m]).

    Yields:
        (first row, [n, W] or [..., n, W]).
    """
    width = columns[-1].stop
    kept: np.ndarray | None = None  # [K, most rows, W]: sums of rows that the next row of windows goes on with
    height = 0  # how many rows of it
    most = max((a.last - b.first for a, b in pairwise(rows)), default=0)
    for i, row in enumerate(rows):
        ready = (rows[i + 1].first if i + 1 < len(rows) else row.last) - row.first
        beyond = row.last - row.first - ready
        done: np.ndarray | None = None
        open_: np.ndarray | None = None
        for j, (column, window) in enumerate(zip(columns, run(row), strict=True)):
            part = _weighted(window, row, column)
            if open_ is not None:
                part[:, :, : open_.shape[2]] += open_
            end = columns[j + 1].first if j + 1 < len(columns) else column.last
            block = part[:, :, : end - column.first]
            open_ = part[:, :, end - column.first :].copy()
            place = slice(column.first, end)
            if height:
                assert kept is not None
                block[:, :height] += kept[:, :height, place]
            if beyond:
                if kept is None:
                    kept = np.empty((len(block), most, width), np.float32)
                kept[:, :beyond, place] = block[:, ready:]
            finished = finish(block[:, :ready])
            if done is None:
                done = np.empty((*finished.shape[:-1], width), finished.dtype)
            done[..., place] = finished
        assert done is not None
        height = beyond
        yield row.first, done


def _weighted(window: np.ndarray, row: Span, column: Span) -> np.ndarray:
    """The part of a window that counts, times its weights, in place."""
    y = slice(row.first - row.start, row.last - row.start)
    x = slice(column.first - column.start, column.last - column.start)
    part = window[:, y, x]
    across, down = column.weight[x], row.weight[y]
    if not (across == 1).all():
        part *= across
    if not (down == 1).all():
        part *= down[:, None]
    return part


def top_class(scores: np.ndarray) -> np.ndarray:
    """[K, h, w] -> [h, w] uint8: the class of the largest score, the lowest id where several are equal.

    As ``scores.argmax(0)``, which reads across planes and takes three times as long.
    """
    best = scores[0].copy()
    ids = np.zeros(best.shape, np.uint8)
    for k in range(1, len(scores)):
        better = scores[k] > best
        np.copyto(ids, np.uint8(k), where=better)
        np.maximum(best, scores[k], out=best)
    return ids


def enlarge(maps: np.ndarray, size: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
    """[K, h, w] -> [K, H, W] float32, bilinear with corners aligned: pixel 0 stays pixel 0, the last one the last.

    ``rows`` computes these rows of the result only.
    """
    for axis, (old, new) in ((2, (maps.shape[2], size[1])), (1, (maps.shape[1], size[0]))):
        at = np.arange(new)[rows if axis == 1 else slice(None)] * ((old - 1) / max(new - 1, 1))
        low = np.minimum(at.astype(np.intp), max(old - 2, 0))
        part = (at - low).astype(np.float32)
        part = part[:, None] if axis == 1 else part
        first, second = np.take(maps, low, axis), np.take(maps, np.minimum(low + 1, old - 1), axis)
        second -= first
        second *= part
        maps = np.add(first, second, out=first)
    return maps
