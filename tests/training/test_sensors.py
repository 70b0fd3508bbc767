"""Stripes, stuck pixels, halos and compression are what their names say, and nothing is drawn for what is off."""

from __future__ import annotations

import numpy as np
import pytest

from motes.training.recipe import TransformPart
from motes.training.sensors import compressed, sensed, sharpened, striped, with_defects


def frame(bands: int = 1) -> np.ndarray:
    pixels = np.full((40, 48, bands), 0.4, np.float32)
    pixels[20:23, 30:33] = 0.9
    return pixels


def test_off_by_default() -> None:
    rng = np.random.default_rng(0)
    assert sensed(frame(), TransformPart(), rng).tobytes() == frame().tobytes()
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("seed", range(6))
def test_stripes_run_along_columns_or_rows(seed: int) -> None:
    added = striped(frame(3), 0.1, np.random.default_rng(seed)) - frame(3)
    along = [np.ptp(added, axis=a).max() for a in (0, 1)]
    assert min(along) < 1e-6 < max(along)
    assert np.ptp(added, axis=2).max() < 1e-6  # all bands alike


def test_both_directions_occur() -> None:
    added = [striped(frame(), 0.1, np.random.default_rng(s)) - frame() for s in range(12)]
    assert {bool(np.ptp(a, axis=0).max() < 1e-6) for a in added} == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_defects_are_few_single_pixels(seed: int) -> None:
    """Two may touch by chance in 1,920 px; none may be blurred."""
    moved = with_defects(frame(3), np.random.default_rng(seed)) - frame(3)
    assert np.ptp(moved, axis=2).max() < 1e-6
    stuck = np.abs(moved[..., 0])
    assert 1 <= np.count_nonzero(stuck) <= 8
    assert stuck[stuck > 0].min() >= 0.05 and stuck.max() <= 0.8 + 1e-6


def test_sharpening_makes_a_brighter_target_with_a_dark_halo() -> None:
    sharp = sharpened(frame(), np.random.default_rng(1))
    assert sharp.shape == frame().shape
    assert sharp[21, 31, 0] > 0.9 and sharp[21, 28:30, 0].min() < 0.39
    assert sharp[2, 2, 0] == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize("bands", [1, 3])
def test_compression_keeps_the_frame_within_a_few_grey_levels(bands: int) -> None:
    out = compressed(frame(bands), np.random.default_rng(2))
    assert out.shape == frame(bands).shape and out.dtype == np.float32
    assert 0 < np.abs(out - frame(bands)).mean() < 0.02
    assert np.allclose(out * 255, np.rint(out * 255), atol=1e-3)


def test_everything_at_once_is_the_generators_choice() -> None:
    part = TransformPart(stripes=0.05, defects=0.5, sharpen=0.5, compress=0.5)
    first, again = (sensed(frame(), part, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)
    assert len({sensed(frame(), part, np.random.default_rng(s)).tobytes() for s in range(6)}) > 2
