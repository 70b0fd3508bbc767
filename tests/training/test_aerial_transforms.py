"""Augmentation of labelled images: the published pipelines' numbers, and labels that follow their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.cards import model_card
from motes.imaging import network_input
from motes.training.aerial_transforms import augment_labelled, blurred, corner_on_class, padded, turned
from motes.training.recipe import TransformPart, parse_recipe

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


@pytest.mark.parametrize("size", [(200, 300), (40, 300), (300, 32)])
def test_centred_crops_meet_rare_classes_as_often_as_common_ones(size: tuple[int, int]) -> None:
    """One pixel of class 5, a field of class 2, background: each is drawn in a third of the crops."""
    labels = np.zeros(size, np.uint8)
    labels[:, : size[1] // 4] = 2
    labels[size[0] // 2, size[1] - 2] = 5
    labels[-1, -1] = 255
    pixels = np.stack([labels] * 3, axis=2)
    met = []
    for centred in (1.0, 0.5, 0.0):
        part = TransformPart(name="aerial", crop=32, fit="pad", centred=centred, blur=0)
        crops = [augment_labelled(pixels, labels, part, np.random.default_rng(seed)) for seed in range(300)]
        assert all(np.array_equal(image[..., 0], ids) for image, ids in crops)
        met.append(np.mean([(ids == 5).any() for _, ids in crops]))
    plain = met[2]
    assert met[0] == pytest.approx(1 / 3 + 2 / 3 * plain, abs=0.12) and met[0] > plain + 0.15
    assert plain < met[1] < met[0]


@pytest.mark.parametrize("at", [(0, 0), (0, 79), (59, 0), (59, 79), (30, 40), (3, 50)])
def test_the_drawn_pixel_is_well_inside_the_window_and_the_window_inside_the_image(at: tuple[int, int]) -> None:
    labels = np.full((60, 80), 255, np.uint8)
    labels[at] = 3
    corners = [corner_on_class(labels, 32, np.random.default_rng(seed)) for seed in range(200)]
    for y, x in corners:
        assert 0 <= y <= 60 - 32 and 0 <= x <= 80 - 32
        for place, start, n in zip(at, (y, x), (60, 80), strict=True):
            assert 0 <= place - start < 32
            assert 4 <= place - start < 28 or start in (0, n - 32)
    assert len(set(corners)) > 20 or at[0] in (0, 59)  # not always in the same place of the window


def test_centring_without_any_class_or_any_choice() -> None:
    part = TransformPart(name="aerial", crop=32, fit="pad", centred=1.0, blur=0)
    for size in ((60, 80), (20, 30), (32, 32)):
        labels = np.full(size, 255, np.uint8)
        _, found = augment_labelled(np.zeros((*size, 3), np.uint8), labels, part, np.random.default_rng(0))
        assert found.shape == (32, 32) and (found == 255).all()


def test_published_recipes_cut_at_random() -> None:
    """Centring is the house's; no recipe of aerial data has it unless it says so."""
    values = {"model": {"name": "pfnet"}, "data": {"classes": "isaid"}, "losses": [{"name": "pfnet.joint"}],
              "loop": {"steps": 1}}  # fmt: skip
    assert parse_recipe(values, "here").transform.centred == 0
    assert parse_recipe({**values, "transform": {"centred": 0.3}}, "here").transform.centred == 0.3
