"""BAG-CP against its published numbers, and what has to hold of every paste."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.data.copy_paste import (
    MODES,
    Patch,
    Places,
    blend,
    choose_patches,
    cut_patches,
    draw_gaussian,
    gaussian,
    paste,
    uncovered,
)
from motes.errors import DataError

REFERENCE = Path(__file__).parents[1] / "reference" / "bafenet" / "gaussian.json"


@pytest.mark.parametrize("case", json.loads(REFERENCE.read_text()), ids=lambda c: f"{c['h']}x{c['w']}")
def test_gaussian_is_the_published_one(case: dict) -> None:
    ours = gaussian(
        case["h"], case["w"], case["sigma_x"], case["sigma_y"], case["centre_x"], case["centre_y"],
        case["theta_degrees"],
    )  # fmt: skip
    assert ours.shape == (case["h"], case["w"])
    assert np.abs(ours - np.array(case["matrix"])).max() < 1e-7


def test_gaussian_of_one_pixel_is_no_division_by_zero() -> None:
    assert gaussian(1, 1, 0.4, 0.4, 0, 0, 0).tolist() == [[1.0]]
    assert np.isfinite(gaussian(1, 4, 0.4, 0.4, -0.1, 0, 30)).all()


def test_drawn_gaussians_start_at_0_and_reach_1() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = draw_gaussian(*rng.integers(2, 10, 2).tolist(), rng)
        assert values.min() == 0 and values.max() == 1


def test_large_targets_are_squeezed_and_those_without_a_whole_pixel_left_out() -> None:
    pixels = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50, 1)
    boxes = np.array([[3.9, 5.2, 7.1, 8.9], [10, 10, 13, 20], [20, 20, 29, 29], [30.1, 30.2, 30.9, 33], [-2, 0, 2, 3]])
    patches = cut_patches(pixels, boxes, np.array([0, 1, 2, 3, 4]))
    assert [(p.label, p.mask.shape) for p in patches] == [(0, (3, 4)), (1, (7, 7)), (2, (9, 9)), (4, (3, 2))]
    assert np.array_equal(patches[0].pixels, pixels[5:8, 3:7])


def test_every_number_of_targets_is_drawn_none_twice() -> None:
    patches = [Patch(np.zeros((1, 1, 1), np.uint8), np.ones((1, 1), bool), i) for i in range(4)]
    rng = np.random.default_rng(0)
    drawn = [[p.label for p in choose_patches(patches, rng)] for _ in range(2000)]
    counts = np.bincount([len(d) for d in drawn], minlength=5)
    assert (np.abs(counts - 400) < 80).all() and all(len(set(d)) == len(d) for d in drawn)
    assert max(len(choose_patches(patches, rng, 2)) for _ in range(50)) == 2


def patches_of(*sizes: tuple[int, int], level: int = 200) -> list[Patch]:
    return [Patch(np.full((*s, 1), level, np.uint8), np.ones(s, bool)) for s in sizes]


def frame(height: int = 64, width: int = 80, level: int = 50) -> tuple[np.ndarray, ...]:
    """A grey frame with one target of 4x4 px."""
    pixels, mask = np.full((height, width, 1), level, np.uint8), np.zeros((height, width), bool)
    mask[40:44, 60:64] = True
    return pixels, np.array([[60, 40, 64, 44]], np.float32), np.array([0]), mask


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_patches_lie_apart_and_in_the_sky(mode: str, seed: int) -> None:
    pixels, boxes, labels, mask = frame()
    sky = np.zeros(mask.shape, bool)
    sky[:50] = True
    patches = patches_of((3, 4), (5, 2), (1, 1), (9, 9), (4, 4), (3, 3), (2, 6))
    done = paste(pixels, boxes, labels, mask, patches, np.random.default_rng(seed), mode, sky)
    assert len(done.boxes) == len(done.labels) == 1 + len(patches)
    assert [(y2 - y1, x2 - x1) for x1, y1, x2, y2 in done.boxes[1:]] == [p.mask.shape for p in patches]
    counted = np.zeros(mask.shape, int)
    for x1, y1, x2, y2 in done.boxes.astype(int):
        counted[max(y1 - 1, 0) : y2, max(x1 - 1, 0) : x2] += 1  # so that touching ones overlap
        if MODES[mode].sky:
            assert sky[y1:y2, x1:x2].all()
    assert counted.max() == 1
    assert np.array_equal(pixels[~done.mask], done.pixels[~done.mask])
    assert bool(done.windows) == MODES[mode].clusters
    for k, (y, x, h, w) in enumerate(done.places if MODES[mode].clusters else ()):
        top, left, side = done.windows[k // 5]
        assert top <= y and y + h <= top + side and left <= x and x + w <= left + side
    if not MODES[mode].gaussian:
        assert all((done.pixels[y : y + h, x : x + w] == 200).all() for y, x, h, w in done.places)
    else:
        assert all((g >= 0).all() and 0.5 <= g.max() <= 1 for g in done.weights)


def test_the_same_generator_gives_the_same_frame() -> None:
    first, second, other = (
        paste(*frame(), patches_of((3, 3), (4, 5)), np.random.default_rng(s), "gaussian").pixels for s in (3, 3, 4)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_blending_adds_and_cuts_off() -> None:
    own, patch = np.array([[[100]], [[250]]], np.uint8), np.array([[[101]], [[200]]], np.uint8)
    assert blend(own, patch, np.array([[0.5], [0.9]])).tolist() == [[[150]], [[255]]]  # 150.5 is cut off to 150
    assert blend(own / np.float32(255), patch, np.array([[0.0], [1.0]])).dtype == np.float32
    deep = blend(np.array([[[60000]]], np.uint16), np.array([[[60000]]], np.uint16), np.ones((1, 1)))
    assert deep.tolist() == [[[65535]]]
    bright = blend(np.array([[[1.5]]], np.float32), np.array([[[0.5]]], np.float32), np.ones((1, 1)))
    assert bright.tolist() == [[[1.5]]]  # a frame that is brighter than its scale stays so
    colours = blend(np.zeros((1, 1, 3), np.uint8), np.array([[[90]]], np.uint8), np.ones((1, 1)))
    assert colours.tolist() == [[[90, 90, 90]]]


def test_what_is_left_of_covered_boxes() -> None:
    covered = np.zeros((60, 60), bool)
    covered[10:12, 10:14] = True  # half of the first, all of the second
    covered[20:45, 20:31] = True  # 11 columns of the third: moved too far, and 25 * 4 px are left
    covered[20:50, 31:46] = False
    boxes = np.array(
        [[10, 10, 14, 14], [11, 10, 13, 12], [20, 20, 35, 45], [19.5, 19.5, 60, 60], [50.2, 50.7, 50.9, 50.9]],
        np.float32,
    )
    left, kept = uncovered(boxes, covered)
    assert kept.tolist() == [True, False, False, True, True]
    assert left.tolist() == [[10, 12, 14, 14], [19, 19, 60, 60], [50, 50, 51, 51]]


def test_smaller_windows_where_there_is_less_room_and_none_below_ten() -> None:
    allowed = np.zeros((40, 40), bool)
    allowed[:14, :14] = True
    places = Places(allowed, np.zeros_like(allowed), np.random.default_rng(0), clusters=True)
    window = places.new_window()
    assert window is not None and window[2] in (10, 13) and places.side == window[2]  # 25, 22, 19, 16 do not fit
    allowed[:] = False
    allowed[:9, :9] = True
    places = Places(allowed, np.zeros_like(allowed), np.random.default_rng(0), clusters=True)
    assert places.new_window() is None and places.side == 25


def test_where_nothing_fits_the_last_place_is_taken() -> None:
    pixels, boxes, labels, mask = frame(12, 12)
    mask[:] = True
    done = paste(pixels, boxes[:0], labels[:0], mask, patches_of((5, 5)), np.random.default_rng(0), "plain")
    assert len(done.places) == 1 and done.pixels.max() == 200


@pytest.mark.parametrize("corner", [(0, 0), (0, 76), (60, 0), (60, 76)])
def test_targets_at_the_edge_have_a_margin_too(corner: tuple[int, int]) -> None:
    """The published test sees an empty slice at row or column 0, and passes."""
    mask = np.zeros((64, 80), bool)
    y, x = corner
    mask[y : y + 4, x : x + 4] = True
    places = Places(np.ones_like(mask), mask, np.random.default_rng(0), clusters=False)
    assert not places.free(y, min(max(x - 4, x + 4 if x == 0 else 0), 76), 4, 4)
    assert places.free(30, 40, 4, 4)


def test_nothing_happens_without_patches_or_without_sky() -> None:
    pixels, boxes, labels, mask = frame()
    rng, none = np.random.default_rng(0), np.zeros(mask.shape, bool)
    for done in (
        paste(pixels, boxes + 0.25, labels, mask, [], rng, "plain"),
        paste(pixels, boxes + 0.25, labels, mask, patches_of((3, 3)), rng, "sky", none),
    ):
        assert done.pixels is pixels and done.boxes.tolist() == (boxes + 0.25).tolist()
    with pytest.raises(DataError, match="needs a sky map"):
        paste(pixels, boxes, labels, mask, patches_of((3, 3)), rng)
    with pytest.raises(DataError, match="gaussian"):
        paste(pixels, boxes, labels, mask, [], rng, "gausian")
