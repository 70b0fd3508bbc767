"""Augmentation of labelled images: the published pipelines' numbers, and labels that follow their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.cards import model_card
from motes.imaging import network_input
from motes.training.aerial_transforms import augment_labelled, blurred, padded, turned
from motes.training.recipe import TransformPart

CASES = Path(__file__).parents[1] / "reference" / "isaid"
FACTSEG, PFNET = (np.load(CASES / f"{name}.npz") for name in ("transforms", "transforms_pfnet"))

PIPELINES = [
    TransformPart(name="aerial", crop=48, fit="pad", rotate=True, blur=0),
    TransformPart(name="aerial", crop=48, fit="resize", rotate=True, blur=1),
    TransformPart(name="aerial", crop=48, fit="crop", scale=(0.5, 2.0), rotate=True, blur=0.5),
]


class Drawn:
    """A generator that gives out what it was given; flips and blur never happen where nothing is said."""

    def __init__(
        self, *, flips: tuple[bool, bool] = (False, False), turns: int = 0, sigma: float | None = None
    ) -> None:
        self.chances = [*(0.0 if f else 1.0 for f in flips), 0.0 if sigma else 1.0]
        self.turns, self.sigma = turns, sigma

    def random(self) -> float:
        return self.chances.pop(0)

    def integers(self, high: int) -> int:
        return self.turns if high == 4 else 0

    def uniform(self, low: float, high: float) -> float:
        assert self.sigma is not None and low <= self.sigma <= high
        return self.sigma


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_as_factseg(turns: int) -> None:
    pixels, labels = turned(FACTSEG["image"], FACTSEG["ids"], turns)
    assert np.array_equal(pixels, FACTSEG[f"rot{turns}_image"])
    assert np.array_equal(labels, FACTSEG[f"rot{turns}_ids"])


def test_a_padded_window_as_factseg() -> None:
    """Padded before it is normalised, so that padding is -mean / std; theirs is in 0..255, ours in 0..1."""
    part = TransformPart(name="aerial", crop=64, fit="pad", rotate=True, blur=0.5)
    pixels, labels = augment_labelled(FACTSEG["image"], FACTSEG["ids"], part, Drawn())  # type: ignore[arg-type]
    made = network_input(pixels, model_card("factseg").input)
    assert np.abs(made - FACTSEG["train_image"]).max() < 1e-6
    assert np.array_equal(labels, FACTSEG["train_ids"])


@pytest.mark.parametrize("side", [64, 32])
def test_a_squeezed_patch_as_pfnet(side: int) -> None:
    part = TransformPart(name="aerial", crop=side, fit="resize", blur=0.5)
    pixels, labels = augment_labelled(PFNET["image"], PFNET["ids"], part, Drawn())  # type: ignore[arg-type]
    assert np.abs(pixels.astype(int) - PFNET[f"resize{side}_image"]).max() <= 1  # Pillow versions differ by so much
    assert np.array_equal(labels, PFNET[f"resize{side}_ids"])
    if side == 64:
        made = network_input(PFNET["resize64_image"], model_card("pfnet").input)
        assert np.abs(made - PFNET["normalized"]).max() < 1e-6


@pytest.mark.parametrize("sigma", [0.15, 0.8, 1.3])
def test_blur_as_pfnet(sigma: float) -> None:
    assert np.array_equal(blurred(PFNET["image"], sigma), PFNET[f"blur{sigma}"])


def test_blur_keeps_counts_of_any_depth() -> None:
    deep = np.full((20, 30, 1), 4000, np.uint16)
    deep[10, 10] = 65535
    smooth = blurred(deep, 1.0)
    assert smooth.dtype == np.uint16 and smooth.shape == deep.shape
    assert smooth[0, 0, 0] in (3999, 4000) and 4000 < smooth[10, 10, 0] < 65535
    assert blurred(deep.astype(np.float32), 1.0)[0, 0, 0] == pytest.approx(4000)


def test_flips_go_left_right_and_up_down() -> None:
    part = TransformPart(name="aerial", crop=8, fit="pad", blur=0.5)
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for flips in ((True, False), (False, True), (True, True)):
        view = (slice(None, None, -1 if flips[1] else 1), slice(None, None, -1 if flips[0] else 1))
        found = augment_labelled(pixels, labels, part, Drawn(flips=flips))  # type: ignore[arg-type]
        assert np.array_equal(found[0], pixels[view]) and np.array_equal(found[1], labels[view])


@pytest.mark.parametrize("part", PIPELINES, ids=lambda p: p.fit)
@pytest.mark.parametrize("size", [(20, 30), (64, 48), (33, 200), (2, 9), (48, 48)])
@pytest.mark.parametrize("bands", [1, 3])
def test_any_image_becomes_a_crop(part: TransformPart, size: tuple[int, int], bands: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 255, (*size, bands), dtype=np.uint8)
        out, labels = augment_labelled(pixels, np.ones(size, np.uint8), part, np.random.default_rng(seed))
        assert out.shape == (48, 48, bands) and out.dtype == np.uint8 and out.flags.c_contiguous
        assert labels.shape == (48, 48) and labels.dtype == np.uint8 and set(np.unique(labels)) <= {1, 255}
        if part.fit == "resize":
            assert (labels == 1).all()
        if part.fit == "pad":
            assert (labels == 1).sum() == min(size[0], 48) * min(size[1], 48)


@pytest.mark.parametrize("part", PIPELINES, ids=lambda p: p.fit)
def test_labels_move_with_the_pixels(part: TransformPart) -> None:
    """The object is bright, so whatever the geometry bright pixels are its class; padding is black and ignored."""
    labels = np.zeros((60, 44), np.uint8)
    labels[5:30, 9:20] = 7
    pixels = np.where(labels == 7, 250, 100).astype(np.uint8)[..., None].repeat(3, 2)
    part = part.model_copy(update={"blur": 0.0})
    for seed in range(12):
        out, moved = augment_labelled(pixels, labels, part, np.random.default_rng(seed))
        bright, black = out[..., 0] > 175, out[..., 0] == 0
        assert np.array_equal(black, moved == 255)
        assert np.mean(bright == (moved == 7)) > 0.97  # bicubic and nearest differ at borders


@pytest.mark.parametrize("part", PIPELINES, ids=lambda p: p.fit)
def test_a_function_of_the_generator(part: TransformPart) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (70, 90, 3), dtype=np.uint8), rng.integers(0, 5, (70, 90), dtype=np.uint8)
    first, again = (augment_labelled(pixels, labels, part, np.random.default_rng((1, 2, 3))) for _ in range(2))
    others = [augment_labelled(pixels, labels, part, np.random.default_rng((1, 2, s))) for s in range(4, 8)]
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert any(not np.array_equal(first[0], o[0]) for o in others)


def test_padding_leaves_what_is_large_enough_alone() -> None:
    pixels, labels = np.ones((9, 9, 3), np.uint8), np.ones((9, 9), np.uint8)
    assert padded(pixels, labels, 9) == (pixels, labels)
