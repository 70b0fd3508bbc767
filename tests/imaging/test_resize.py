"""One resize, and it is Pillow's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from motes.errors import ImageError
from motes.imaging import FILTERS, resize

RNG = np.random.default_rng(5)
SIZES = [(16, 16), (37, 91), (100, 64), (1, 1), (40, 53)]
METHODS = {f: PillowImage.Resampling["BOX" if f == "area" else f.upper()] for f in FILTERS}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_uint8_is_pillow(filter, size, channels):
    pixels = RNG.integers(0, 256, (40, 53, channels) if channels else (40, 53), dtype=np.uint8)
    expected = np.asarray(PillowImage.fromarray(pixels.squeeze()).resize(size[::-1], METHODS[filter]))
    found = resize(pixels, size, filter)
    assert found.dtype == np.uint8 and found.shape == size + pixels.shape[2:]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter", FILTERS)
def test_float32_is_pillow(filter, size):
    pixels = RNG.normal(7400, 25, (40, 53)).astype(np.float32)
    np.testing.assert_array_equal(
        resize(pixels, size, filter), np.asarray(PillowImage.fromarray(pixels).resize(size[::-1], METHODS[filter]))
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_sixteen_bits_are_pillows_floats_rounded(filter, size, dtype):
    pixels = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (40, 53, 2), endpoint=True).astype(dtype)
    found = resize(pixels, size, filter)
    assert found.dtype == dtype
    for c in range(2):
        floats = PillowImage.fromarray(pixels[:, :, c].astype(np.float32)).resize(size[::-1], METHODS[filter])
        expected = np.clip(np.rint(np.asarray(floats)), np.iinfo(dtype).min, np.iinfo(dtype).max)
        np.testing.assert_array_equal(found[:, :, c], expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "int64", "float16", "float64", "uint64"])
@pytest.mark.parametrize("size", [(7, 91), (80, 5), (41, 52), (256, 256)])
def test_nearest_copies_what_pillow_copies(dtype, size):
    pixels = RNG.integers(0, 2 if dtype == "bool" else 200, (40, 53)).astype(dtype)
    expected = np.asarray(
        PillowImage.fromarray(pixels.astype(np.uint8)).resize(size[::-1], PillowImage.Resampling.NEAREST)
    )
    found = resize(pixels, size, "nearest")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))


def test_transparency_does_not_weigh_colours():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (200, 100, 50, 255)
    pixels[:, 2:] = (100, 50, 0, 0)
    assert resize(pixels, (1, 1), "area")[0, 0].tolist() == [150, 75, 25, 128]


def test_same_size_is_a_copy():
    pixels = np.ones((3, 4), np.uint8)
    same = resize(pixels, (3, 4))
    same[0, 0] = 9
    assert pixels[0, 0] == 1


@pytest.mark.parametrize(
    ("pixels", "size", "filter", "expected"),
    [
        (np.ones((3, 4), np.uint8), (5, 5), "bilinera", "unknown filter 'bilinera' (did you mean 'bilinear'?)"),
        (np.ones((3, 4), np.uint8), (0, 5), "bilinear", "cannot resize shape [3, 4] to height 0, width 5"),
        (np.ones((0, 4), np.uint8), (5, 5), "nearest", "cannot resize shape [0, 4]"),
        (np.ones((3, 4), bool), (5, 5), "bilinear", "use 'nearest'"),
    ],
)
def test_bad_requests(pixels, size, filter, expected):
    with pytest.raises(ImageError) as caught:
        resize(pixels, size, filter)
    assert expected in str(caught.value)
