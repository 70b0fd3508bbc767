"""From counts to the network's input: the same function for training, evaluation and detection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motes.cards import InputSpec, Scaling
from motes.errors import ImageError
from motes.imaging import Image, fix_scaling, network_input, scale, scaling_limits

METHODS = [
    Scaling("range"),
    Scaling("bits", bits=14),
    Scaling("percentile", low=1, high=99),
    Scaling("minmax"),
    Scaling("fixed", low=7000, high=8000),
    Scaling("robust", low=4, high=8),
    Scaling("robust", low=4, high=8, clip=True),
]


def frame(dtype: str = "uint16", channels: int = 1, height: int = 48, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(9)
    if dtype == "uint8":
        return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return np.rint(rng.normal(7400, 25, (height, width, channels))).astype(dtype)


@pytest.mark.parametrize(
    ("scaling", "counts", "expected"),
    [
        (Scaling("range"), np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (Scaling("range"), np.array([0, 65535], np.uint16), [0, 1]),
        (Scaling("range"), np.array([-128, 127], np.int8), [0, 1]),
        (Scaling("range"), np.array([0.25, 1.5], np.float32), [0.25, 1.5]),
        (Scaling("range", clip=True), np.array([-0.25, 1.5], np.float32), [0, 1]),
        (Scaling("range"), np.array([False, True]), [0, 1]),
        (Scaling("bits", bits=14), np.array([0, 16383], np.uint16), [0, 1]),
        (Scaling("fixed", low=100, high=200), np.array([50, 150, 250], np.uint16), [-0.5, 0.5, 1.5]),
        (Scaling("fixed", low=100, high=200, clip=True), np.array([50, 150, 250], np.uint16), [0, 0.5, 1]),
        (Scaling("minmax"), np.array([10, 20, 30], np.int32), [0, 0.5, 1]),
        (Scaling("maximum"), np.array([10, 20, 40], np.uint8), [0.25, 0.5, 1]),
        (Scaling("maximum"), np.array([0, 0], np.uint8), [0, 0]),
        (Scaling("percentile", low=25, high=75), np.array([0, 10, 20, 30, 40], np.uint8), [-0.5, 0, 0.5, 1, 1.5]),
        (Scaling("robust", low=1, high=1), np.arange(101, dtype=np.uint8), (np.arange(101) - 16) / 68),
    ],
)
def test_scale(scaling, counts, expected):
    scaled = scale(counts.reshape(1, -1, 1), scaling)
    assert scaled.dtype == np.float32 and scaled.shape == (1, counts.size, 1)
    np.testing.assert_allclose(scaled.ravel(), expected, atol=1e-6)


def test_eight_bits_are_divided_by_255_exactly():
    counts = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(network_input(counts, InputSpec(channels=1))[0], counts / np.float32(255))


@pytest.mark.parametrize("scaling", METHODS, ids=lambda s: s.method + ("-clip" if s.clip else ""))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_order_is_kept_and_steps_are_equal(scaling, data):
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    values = data.draw(st.lists(st.integers(0, 255 if dtype == "uint8" else 16383), min_size=4, max_size=40))
    counts = np.array(values, dtype).reshape(1, -1, 1)
    scaled = scale(counts, scaling).ravel().astype(np.float64)
    assert np.isfinite(scaled).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(scaled[order]) >= 0).all()
    low, high = scaling_limits(counts, scaling)
    if high > low:
        expected = (np.array(values) - low) / (high - low)
        expected = expected.clip(0, 1) if scaling.clip else expected
        np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))
    else:
        assert (scaled == 0).all()


@pytest.mark.parametrize(
    "method", [Scaling("percentile", low=1, high=99), Scaling("minmax"), Scaling("robust", low=4, high=8)]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32", "float64"])
def test_a_constant_frame_gives_zeros(method, dtype):
    with np.errstate(all="raise"):
        assert not scale(np.full((5, 6, 1), 70, dtype), method).any()


@pytest.mark.parametrize("method", [Scaling("percentile", low=1, high=99), Scaling("robust", low=4, high=8, clip=True)])
def test_a_target_on_a_perfectly_flat_background_is_not_lost(method):
    counts = np.full((50, 50, 1), 7400, np.uint16)
    counts[20, 30] = 7500
    scaled = scale(counts, method)
    assert scaled[20, 30, 0] == 1 and scaled.sum() == 1


def test_a_hot_pixel_does_not_set_the_robust_scale():
    counts = frame()
    hot = counts.copy()
    hot[0, 0], hot[1, 1] = 16383, 0
    method = Scaling("robust", low=4, high=8, clip=True)
    np.testing.assert_allclose(scaling_limits(hot, method), scaling_limits(counts, method), atol=5)


def test_large_offsets_keep_small_differences():
    counts = np.array([[[1e9], [1e9 + 0.5], [1e9 + 1]]])
    np.testing.assert_array_equal(scale(counts, Scaling("minmax")).ravel(), [0, 0.5, 1])


def test_percentiles_of_large_frames_see_every_column_and_repeat():
    columns = np.tile(np.arange(2048, dtype=np.uint16) % 2 * 1000, (1024, 1))[:, :, None]  # every other column is dark
    assert scaling_limits(columns, Scaling("percentile", low=1, high=99)) == (0.0, 1000.0)
    counts = frame(height=1500, width=1500)
    sampled = scaling_limits(counts, Scaling("robust", low=4, high=8))
    assert sampled == scaling_limits(counts.copy(), Scaling("robust", low=4, high=8))
    dark, median, bright = np.percentile(counts, (16, 50, 84))
    np.testing.assert_allclose(sampled, (median - 2 * (bright - dark), median + 4 * (bright - dark)), atol=2)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", 1 / 255), ("uint16", 0.5), ("float32", 0.5), ("bool", 1 / 255)]
)
def test_deep_frames_take_the_deep_scaling(dtype, expected):
    spec = InputSpec(
        channels=1, scaling=Scaling("fixed", low=0, high=255), scaling_deep=Scaling("fixed", low=0, high=2)
    )
    np.testing.assert_allclose(network_input(np.ones((2, 2), dtype), spec), expected, rtol=1e-6)


def test_channels():
    grey, colour = frame("uint8"), frame("uint8", 3)
    three = network_input(grey, InputSpec(channels=3))
    assert three.shape == (3, 48, 64) and three.flags.c_contiguous and three.dtype == np.float32
    np.testing.assert_array_equal(three[0], three[2])
    kept = network_input(Image(colour), InputSpec(channels=3))
    np.testing.assert_array_equal(kept, colour.transpose(2, 0, 1) / np.float32(255))
    one = network_input(colour, InputSpec(channels=1))
    np.testing.assert_allclose(one[0], colour @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-6)
    np.testing.assert_array_equal(network_input(np.dstack([grey] * 3), InputSpec(channels=1)), three[:1])


@pytest.mark.parametrize(("channels", "wanted"), [(4, 3), (2, 1), (5, 3), (2, 3), (3, 4)])
def test_channels_that_do_not_fit(channels, wanted):
    with pytest.raises(ImageError, match=f"has {channels} channels, the network takes {wanted}"):
        network_input(np.zeros((4, 4, channels), np.uint8), InputSpec(channels=wanted))


def test_statistics_per_channel():
    spec = InputSpec(channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    made = network_input(np.full((2, 2), 51, np.uint8), spec)
    np.testing.assert_allclose(made[:, 0, 0], [0.2, 0.0, -0.05], atol=1e-6)
    shared = network_input(np.full((2, 2), 51, np.uint8), InputSpec(channels=3, mean=(0.1,), std=(0.5,)))
    np.testing.assert_allclose(shared[:, 0, 0], [0.2, 0.2, 0.2], atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_of_a_fixed_scaling_are_parts_of_the_whole(dtype, channels):
    counts = frame(dtype, channels)
    spec = InputSpec(channels=3, mean=(0.1,), std=(0.3,))
    whole = network_input(counts, spec)
    fixed = fix_scaling(counts, spec)
    np.testing.assert_array_equal(network_input(counts[8:24, 16:48], fixed), whole[:, 8:24, 16:48])


def test_fixed_scaling_of_a_constant_frame():
    counts = np.full((8, 8), 900, np.uint16)
    assert not network_input(counts[:4], fix_scaling(counts, InputSpec())).any()


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((2, 2), complex), np.array("a")])
def test_arrays_that_are_no_image(bad):
    with pytest.raises(ImageError, match="expected"):
        network_input(bad, InputSpec())
