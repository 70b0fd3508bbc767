"""Overlays: every size and depth gives a readable RGB picture in which the targets can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from spot_network import sky

from motes.inference import Detections, find_targets
from motes.inference.overlay import ACCENT, LARGE, display, draw_overlay


def overlay(pixels: np.ndarray, spots: list[tuple[int, int]]) -> tuple[np.ndarray, Detections]:
    probability = np.zeros(pixels.shape[:2], np.float32)
    for x, y in spots:
        probability[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 0.9
    found = find_targets(probability, pixels, name="frame.png")
    return draw_overlay(pixels, found, probability > 0.5), found


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 5), (32, 32), (64, 900), (900, 64), (256, 256), (512, 640), (1030, 1300), (700, 2500)]
)
def test_any_frame_gives_a_picture_of_sensible_size(size: tuple[int, int]) -> None:
    height, width = size
    picture, found = overlay(np.zeros(size, np.uint16), [(0, 0), (width - 1, height - 1), (width // 2, height // 2)])
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert 700 <= max(picture.shape[:2]) <= LARGE + 400
    assert len(found) >= 1
    assert (picture == ACCENT).all(axis=2).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, bool])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_any_dtype_and_channels(dtype: type, channels: int) -> None:
    frame = sky(40, 50, [(20, 20)]).astype(dtype)
    if channels:
        frame = np.repeat(frame[:, :, None], channels, axis=2)
    assert overlay(frame, [(20, 20)])[0].shape[2] == 3


def test_the_target_is_neither_covered_nor_moved() -> None:
    """Its pixels stay as they are in the frame, and the enlargement shows it in the middle."""
    frame = np.full((256, 256), 50, np.uint8)
    frame[99:102, 149:152] = 255
    picture, _ = overlay(frame, [(150, 100)])
    assert (picture[99 * 3 : 102 * 3, 149 * 3 : 152 * 3] == 255).all()
    strip = picture[:768, 768:]
    bright = np.argwhere((strip[:200] == 255).all(axis=2))
    assert len(bright) > 9 * 25  # every pixel at least five times its size
    inside = bright.mean(axis=0)[::-1] - 8
    assert np.ptp(inside) < 12  # centred in a square crop


def test_no_target_no_strip() -> None:
    picture, _ = overlay(np.full((256, 256), 50, np.uint8), [])
    assert picture.shape[1] == 768
    assert not (picture == ACCENT).all(axis=2).any()


def test_eight_bits_as_they_are_deeper_ones_stretched() -> None:
    np.testing.assert_array_equal(display(np.array([[0, 7, 255]], np.uint8))[:, :, 0], [[0, 7, 255]])
    deep = display(sky(100, 100, [(50, 50)], np.uint16))
    assert deep.min() == 0
    assert deep.max() == 255
    assert not display(np.full((4, 4), 7400, np.uint16)).any()


def test_crowds_are_all_marked() -> None:
    spots = [(x, y) for x in range(8, 500, 16) for y in range(8, 500, 16)]
    picture, found = overlay(np.zeros((512, 512), np.uint8), spots)
    assert len(found) == len(spots)
    marked = (picture == ACCENT).all(axis=2)[:1024, :1024]
    for x, y in spots:
        assert marked[2 * y - 14 : 2 * y + 15, 2 * x - 14 : 2 * x + 15].any()
