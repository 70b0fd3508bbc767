"""Copied targets look like targets, and the mask says exactly where they are."""

from __future__ import annotations

import numpy as np
import pytest

from motes.metrics import components
from motes.training.pasting import paste_targets
from motes.training.recipe import TransformPart

SHAPE = np.array([[0, 1, 1], [1, 1, 1], [0, 1, 0]], bool)  # six pixels, no symmetry


def donor(contrast: float = 0.5, background: float = 0.3, bands: int = 1) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((40, 50), bool)
    mask[10:13, 20:23] = SHAPE
    mask[30:33, 40:43] = SHAPE
    pixels = np.full((40, 50, bands), background, np.float32)
    pixels[mask] += contrast
    return pixels, mask


def empty(bands: int = 1, level: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    return np.full((64, 48, bands), level, np.float32), np.zeros((64, 48), bool)


@pytest.mark.parametrize("seed", range(8))
def test_adds_the_contrast_of_the_target_and_nothing_else(seed: int) -> None:
    pixels, mask = paste_targets(*empty(), *donor(), TransformPart(pasted=2), np.random.default_rng(seed))
    found = components(mask)
    assert found.areas.tolist() == [6, 6]
    assert np.allclose(pixels[~mask], 0.1)  # the donor's background is flat: its level must not come along
    for label in (1, 2):
        added = pixels[found.labels == label] - 0.1
        assert np.allclose(added, added[0]) and 0.7 * 0.5 - 1e-6 <= added[0, 0] <= 1.3 * 0.5 + 1e-6


def test_targets_are_kept_apart() -> None:
    pixels, mask = empty()
    mask[30:33, 20:23] = True
    for seed in range(30):
        _, pasted = paste_targets(pixels, mask, *donor(), TransformPart(pasted=2), np.random.default_rng(seed))
        assert (pasted >= mask).all()
        assert components(pasted).areas.tolist().count(6) == len(components(pasted)) - 1


def test_the_generator_decides_everything() -> None:
    once = TransformPart(pasted=1)
    first, again, other = (paste_targets(*empty(), *donor(), once, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    assert len(components(first[1])) == 1


@pytest.mark.parametrize(("bands", "donor_bands"), [(3, 1), (1, 3), (3, 3)])
def test_bands_are_those_of_the_frame(bands: int, donor_bands: int) -> None:
    once, rng = TransformPart(pasted=1), np.random.default_rng(0)
    pixels, mask = paste_targets(*empty(bands), *donor(bands=donor_bands), once, rng)
    assert pixels.shape == (64, 48, bands) and mask.any()


@pytest.mark.parametrize("frame", [(np.zeros((5, 5, 1), np.float32), np.zeros((5, 5), bool)), empty()])
def test_what_does_not_fit_or_is_not_there_changes_nothing(frame: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, mask = donor()
    if frame[1].size > 100:
        mask = np.zeros_like(mask)
    out = paste_targets(*frame, pixels, mask, TransformPart(), np.random.default_rng(0))
    assert out[0] is frame[0] and out[1] is frame[1]


@pytest.mark.parametrize(("factor", "areas"), [(2.0, range(18, 31)), (0.5, range(1, 4)), (0.1, range(1, 2))])
def test_targets_of_other_sizes(factor: float, areas: range) -> None:
    part = TransformPart(pasted=1, paste_scale=(factor, factor))
    for seed in range(8):
        pixels, mask = paste_targets(*empty(), *donor(), part, np.random.default_rng(seed))
        assert components(mask).areas[0] in areas
        assert pixels[mask].max() - 0.1 + 1e-6 > 0.7 * 0.5 and pixels.max() - 0.1 < 1.3 * 0.5 + 1e-6


def test_targets_of_another_contrast() -> None:
    part = TransformPart(pasted=1, paste_gain=(0.1, 0.1))
    pixels, mask = paste_targets(*empty(), *donor(), part, np.random.default_rng(0))
    assert pixels[mask] == pytest.approx(0.1 + 0.1 * 0.5)


def test_targets_stand_out_of_the_clutter_they_are_pasted_on() -> None:
    rng = np.random.default_rng(3)
    clutter = np.clip(rng.normal(0.4, 0.1, (64, 48, 1)), 0, 1).astype(np.float32)
    faint, none = donor(contrast=0.05), np.zeros((64, 48), bool)
    for least, expected in ((0.0, 0.05), (3.0, 0.3)):
        part = TransformPart(pasted=1, paste_gain=(1.0, 1.0), paste_scr=least)
        added = []
        for seed in range(20):
            pixels, mask = paste_targets(clutter, none, *faint, part, np.random.default_rng(seed))
            added.append(float((pixels - clutter)[mask].mean()))
        assert np.median(added) == pytest.approx(expected, rel=0.25)
    bright = np.full((64, 48, 1), 0.95, np.float32)  # half of the frame leaves no room above
    bright[:, :24] = 0.2
    part = TransformPart(pasted=1, paste_scr=2.0)
    for seed in range(20):
        pixels, mask = paste_targets(bright, none, *donor(), part, np.random.default_rng(seed))
        assert mask.any() and not mask[:, 25:].any()
