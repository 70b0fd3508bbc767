"""Tiles: a partition of unity, and the same pixels as without tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from motes.errors import MotesError
from motes.inference.tiles import spans, stitch, windows


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "count"),
    [
        (100, 128, 32, 1),
        (128, 128, 32, 1),
        (129, 128, 32, 2),
        (1000, 256, 64, 5),
        (257, 256, 128, 2),
        (30, 8, 3, 6),
        (31, 8, 0, 4),
    ],
)
def test_spans_cover_with_weights_that_add_up_to_one(length: int, tile: int, overlap: int, count: int) -> None:
    found = spans(length, tile, overlap)
    total = np.zeros(length)
    for span in found:
        assert span.weight.min() >= 0
        total[span.start : span.stop] += span.weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert len(found) == count
    assert (found[0].start, found[-1].stop) == (0, length)
    assert {s.stop - s.start for s in found} == {min(tile, length)}
    assert all(a.stop - b.start >= overlap for a, b in pairwise(found))


def test_outer_quarter_of_an_overlap_counts_for_nothing() -> None:
    first, second = spans(480, 256, 32)
    assert (first.stop - second.start) == 32
    assert not first.weight[-8:].any()
    assert not second.weight[:8].any()
    assert first.weight[-9] > 0 < second.weight[8]


@pytest.mark.parametrize("overlap", [-1, 65])
def test_overlap_must_fit(overlap: int) -> None:
    with pytest.raises(MotesError, match="does not fit tiles of 128 px"):
        spans(500, 128, overlap)


def test_stitch_gives_back_what_the_windows_hold() -> None:
    frame = np.random.default_rng(0).random((201, 170)).astype(np.float32)
    np.testing.assert_allclose(stitch(frame.shape, 64, 16, lambda r, c: frame[r, c]), frame, atol=1e-6)


def test_windows_come_in_reading_order() -> None:
    order = [(r.start, c.start) for r, c in windows((100, 112), 64, 16)]
    assert order == sorted(order)
    assert order == [(0, 0), (0, 48), (36, 0), (36, 48)]
