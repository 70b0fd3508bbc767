"""Frames with boxes: every change moves pixels and boxes alike, and an item is a function of (seed, epoch, index)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from box_frames import NO_TARGET, write_boxes

from motes.cards import InputSpec
from motes.data import open_dataset
from motes.errors import DataError, MotesError
from motes.training.box_transforms import Scene, augment_boxes, cropped, mirrored, resized, turned
from motes.training.boxes import BoxSet, LossSum
from motes.training.recipe import TransformPart
from motes.training.samples import Order, loader
from motes.training.selection import BoxRules, Frames, check_frames

PLAIN = TransformPart(name="boxes", scale=(1, 1), blur=0, flip=0)
SPEC = InputSpec(channels=3, mean=(0.5,), std=(0.25,))


def scene() -> Scene:
    """Each box is exactly the bright pixels of its own level."""
    pixels, boxes = np.zeros((40, 60, 1), np.uint8), [[3, 5, 7, 8], [50, 30, 55, 40], [20, 0, 22, 6]]
    for level, (x1, y1, x2, y2) in enumerate(boxes, 1):
        pixels[y1:y2, x1:x2] = 60 * level
    sky = (np.arange(40)[:, None] < 25).repeat(60, axis=1).astype(np.uint8)
    return Scene(pixels, np.array(boxes, np.float32), np.array([0, 1, 2]), sky, pixels[..., 0] > 0)


def fits(changed: Scene) -> bool:
    for (x1, y1, x2, y2), label in zip(changed.boxes.astype(int).tolist(), changed.labels, strict=True):
        level = changed.pixels[..., 0] == 60 * (label + 1)
        rows, columns = np.nonzero(level)
        if (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) != (x1, y1, x2, y2):
            return False
    assert changed.sky is not None and changed.mask is not None
    return changed.sky.shape == changed.mask.shape == changed.size


@pytest.mark.parametrize("turns", range(5))
def test_mirroring_and_turning(turns: int) -> None:
    changed = turned(mirrored(scene()), turns)
    assert fits(changed) and len(changed.boxes) == 3
    assert np.array_equal(changed.mask, changed.pixels[..., 0] > 0)


def test_resizing_scales_boxes() -> None:
    changed = resized(scene(), (80, 180))
    assert changed.size == (80, 180) and changed.sky.sum() == 50 * 180
    assert changed.boxes.tolist() == [[9, 10, 21, 16], [150, 60, 165, 80], [60, 0, 66, 12]]


@pytest.mark.parametrize("seed", range(20))
def test_cropping_keeps_boxes_whose_centre_is_seen(seed: int) -> None:
    changed = cropped(scene(), 24, 1.0, np.random.default_rng(seed))
    assert changed.size == (24, 24) and len(changed.boxes) >= 1 and fits(changed)
    assert (changed.boxes >= 0).all() and (changed.boxes <= 24).all()
    assert cropped(scene(), 100, 0.5, np.random.default_rng(seed)).size == (40, 60)


@pytest.mark.parametrize("seed", range(5))
def test_everything_together(seed: int) -> None:
    part = TransformPart(
        name="boxes", resize=(64, 64), fit="crop", crop=48, scale=(0.7, 1.5), rotate=True, paste=1.0, pasted=99
    )
    changed = augment_boxes(scene(), part, np.random.default_rng(seed), scene)
    again = augment_boxes(scene(), part, np.random.default_rng(seed), scene)
    assert np.array_equal(changed.pixels, again.pixels) and np.array_equal(changed.boxes, again.boxes)
    assert max(changed.size) <= 48 and (changed.boxes[:, 2:] > changed.boxes[:, :2]).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"), 8)


def box_set(data: Path, part: TransformPart = PLAIN, seed: int = 0, rules: BoxRules | None = None) -> BoxSet:
    return BoxSet(open_dataset(data).split(None), rules or BoxRules(), SPEC, part, seed)


PASTING = TransformPart(name="boxes", scale=(0.8, 1.2), blur=0, fit="crop", crop=48, paste=1.0, pasted=99, gain=0.2)


def test_items_are_a_function_of_seed_epoch_and_index(data: Path) -> None:
    first, second, other = (box_set(data, PASTING, seed) for seed in (0, 0, 1))
    second[(3, 1)]  # what was asked for before makes no difference
    for key in ((0, 0), (0, 4), (1, 0)):
        a, b, c = first[key], second[key], other[key]
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1]["boxes"], b[1]["boxes"])
        assert a[0].shape != c[0].shape or not np.array_equal(a[0], c[0])
    assert first[(0, 0)][0].shape != first[(1, 0)][0].shape or not np.array_equal(first[(0, 0)][0], first[(1, 0)][0])
    assert any(len(first[(e, 0)][1]["boxes"]) > len(box_set(data)[(0, 0)][1]["boxes"]) for e in range(6))


def test_untouched_frames_are_what_detection_sees(data: Path) -> None:
    from motes.data.annotations import read_boxes
    from motes.imaging import network_input, read_image

    items = box_set(data)
    sample = items.samples[2]
    image, target, name = items[(0, 2)]
    assert name == sample.name and image.dtype == np.float32
    assert np.allclose(image, network_input(read_image(sample.image), SPEC), atol=1e-6)
    assert np.array_equal(target["boxes"], read_boxes(sample).boxes) and target["sky"].shape == image.shape[1:]


@pytest.mark.parametrize("bits", [8, 14])
def test_batches_with_frames_of_other_sizes_and_without_targets(bits: int, tmp_path: Path) -> None:
    items = box_set(write_boxes(tmp_path, 8, bits=bits), PASTING.model_copy(update={"paste": 0.5}))
    batches = iter(loader(items, Order([1.0] * 8, 4, 2, 0, 0, 1), 0))
    for _ in range(2):
        batch = next(batches)
        assert batch.images.ndim == 4 and torch.isfinite(batch.images).all() and len(batch.truth) == 4
        for target in batch.truth:
            assert target["boxes"].shape == (len(target["labels"]), 4) and target["boxes"].dtype == torch.float32
            assert target["labels"].dtype == torch.int64 and target["sky"].shape == batch.images.shape[-2:]
            assert set(target["sky"].unique().tolist()) <= {0, 1, 255}
    plain = box_set(tmp_path)
    image, target, _ = plain[(0, NO_TARGET)]
    assert target["boxes"].shape == (0, 4)
    assert len(BoxSet.collate([(image, target, "a"), (image[:, :40], target, "b")]).truth) == 2


def test_the_published_reader_moves_boxes(data: Path) -> None:
    exact, shifted = (
        box_set(data, rules=BoxRules(reader=r))[(0, 0)][1]["boxes"] for r in ("exact", "1-based, end inclusive")
    )
    assert not np.array_equal(exact, shifted)


def test_what_is_wrong_is_said(data: Path, tmp_path: Path) -> None:
    bare = write_boxes(tmp_path, 8, sky=False)
    samples = tuple(open_dataset(bare).split(None))
    frames = Frames("x", samples[:6], samples[6:], (1.0,) * 6, boxes=BoxRules(sky=True))
    with pytest.raises(DataError, match="has no sky map"):
        check_frames(frames, "exact")
    named = Frames("x", samples[:6], (), (1.0,) * 6, boxes=BoxRules(names=("Plane",)))
    with pytest.raises(DataError, match="named 'Target', expected Plane"):
        check_frames(named, "exact")
    check_frames(Frames("x", samples[:6], samples[6:], (1.0,) * 6, boxes=BoxRules()), "exact")


def test_losses_are_weighed_by_name() -> None:
    losses = {"loss_cls": torch.tensor(2.0), "loss_bbox": torch.tensor(3.0)}
    total = LossSum({"loss_bbox": 0.5})
    assert float(total(losses)) == 3.5 and total.parts == {"loss_cls": 2.0, "loss_bbox": 1.5}
    with pytest.raises(MotesError, match="loss_bbox"):
        LossSum({"loss_box": 1.0})(losses)
