"""Augmentation and order are functions of (seed, epoch, index) and of nothing else."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from motes.training.recipe import TransformPart
from motes.training.samples import Order
from motes.training.transforms import augment

PIPELINES = [
    TransformPart(name="serankdet", crop=32),
    TransformPart(name="target", crop=32, rotate=True, gain=0.3, offset=0.1, gamma=0.2, noise=0.05),
]


def frame(height: int, width: int, targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), bool)
    for k in range(targets):
        mask[5 + 7 * k : 8 + 7 * k, 9:12] = True
    return (rng.random((height, width, 1)) * 0.2 + mask[..., None]).astype(np.float32), mask


@pytest.mark.parametrize("part", PIPELINES, ids=lambda p: p.name)
@pytest.mark.parametrize("size", [(20, 30), (64, 48), (33, 200), (2, 9)])
def test_crops_any_frame(part: TransformPart, size: tuple[int, int]) -> None:
    pixels, mask = frame(*size) if min(size) > 12 else (np.zeros((*size, 3), np.float32), np.zeros(size, bool))
    for seed in range(5):
        out, label = augment(pixels, mask, part, np.random.default_rng(seed))
        assert out.shape == (32, 32, pixels.shape[2]) and out.dtype == np.float32
        assert label.shape == (32, 32) and label.dtype == bool
        assert np.isfinite(out).all()


@pytest.mark.parametrize("part", PIPELINES, ids=lambda p: p.name)
def test_same_generator_same_sample(part: TransformPart) -> None:
    first, again, other = (augment(*frame(64, 48), part, np.random.default_rng((1, 2, s))) for s in (3, 3, 4))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_mask_moves_with_the_image() -> None:
    """Targets are brighter than everything else, so whatever the geometry they must stay under the mask."""
    part = TransformPart(name="target", crop=32, rotate=True, blur=0, scale=(1.0, 1.0), centred=1.0)
    for seed in range(20):
        pixels, mask = augment(*frame(64, 48, targets=3), part, np.random.default_rng(seed))
        assert mask.any()
        assert np.array_equal(pixels[..., 0] > 0.6, mask)


def test_centred_crops_hold_a_target_and_small_ones_survive_shrinking() -> None:
    part = TransformPart(name="target", crop=16, centred=1.0, scale=(0.5, 0.5), blur=0)
    pixels = np.zeros((200, 200, 1), np.float32)
    mask = np.zeros((200, 200), bool)
    mask[120, 77] = True
    assert all(augment(pixels, mask, part, np.random.default_rng(s))[1].any() for s in range(20))


def test_enlarging_ends_where_a_target_would_be_longer_than_asked() -> None:
    """A target of 12 px may be doubled, one of 40 px stays as it is; a frame without any follows the scale."""

    def sides(length: int, longest: float | None) -> list[int]:
        part = TransformPart(name="target", crop=160, centred=1.0, scale=(4.0, 4.0), flip=0, blur=0, longest=longest)
        mask = np.zeros((200, 200), bool)
        mask[90:94, 80 : 80 + length] = True
        crops = (augment(mask[..., None] * np.float32(1), mask, part, np.random.default_rng(s))[1] for s in range(8))
        return [int(crop.any(axis=0).sum()) for crop in crops]

    assert max(sides(12, None)) == 48
    assert 23 <= max(sides(12, 24.0)) <= 25
    assert max(sides(40, 24.0)) == 40
    dots = np.zeros((200, 200, 1), np.float32)
    dots[::10] = 1
    part = TransformPart(name="target", crop=160, scale=(4.0, 4.0), blur=0, longest=24.0)
    rows = augment(dots, np.zeros((200, 200), bool), part, np.random.default_rng(0))[0][..., 0].max(axis=1)
    assert 3 <= (np.diff((rows > 0.5).astype(int)) == 1).sum() <= 5  # every 40 px


@pytest.mark.parametrize(("world", "batch"), [(1, 4), (2, 2), (4, 1)])
def test_the_global_batch_does_not_depend_on_the_number_of_processes(world: int, batch: int) -> None:
    def batches(rank: int, start: int = 0) -> list[list[tuple[int, ...]]]:
        return list(islice(Order([1.0] * 11, batch, 2, 5, rank, world, start), 7))

    dealt = [[key for r in range(world) for key in batches(r)[k]] for k in range(7)]
    alone = list(islice(Order([1.0] * 11, 4, 2, 5, 0, 1), 7))
    assert [sorted(d) for d in dealt] == [sorted(a) for a in alone]
    assert batches(0, start=3)[:4] == batches(0)[3:]


def test_an_epoch_is_a_permutation_and_repeats_count() -> None:
    order = Order([1.0, 3.0, 0.0, 0.5], 1, 5, 0, 0, 1)
    drawn = [np.bincount(order.permutation(e), minlength=4) for e in range(40)]
    assert all(d[:3].tolist() == [1, 3, 0] and d[3] in (0, 1) for d in drawn)
    assert 5 < sum(d[3] for d in drawn) < 35


def test_fewer_frames_than_a_batch() -> None:
    batches = list(islice(Order([1.0] * 3, 4, 1, 0, 0, 1), 2))
    assert [len(b) for b in batches] == [4, 4]
    assert {key[1] for key in batches[0]} == {0, 1, 2}


def test_a_frame_that_comes_again_in_an_epoch_has_a_key_of_its_own() -> None:
    for repeats, batch, per_epoch in (([3.0, 1.0, 2.5], 1, 6), ([1.0] * 3, 8, 2)):
        batches = list(islice(Order(repeats, batch, per_epoch, 0, 0, 1), 3 * per_epoch))
        keys = [key for b in batches for key in b]
        assert len(set(keys)) == len(keys) == 3 * per_epoch * batch
        assert {len(k) for k in keys} == {2, 3}
        assert {k[0] for k in keys} == {0, 1, 2} and {k[1] for k in keys} == {0, 1, 2}
        first = [k for k in keys if len(k) == 2]
        assert len(first) == len({(k[0], k[1]) for k in keys})  # the first time is keyed as if it were the only one
