"""Near-twins, groups of them, and splits that never separate a group."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from motes.data import Sample, near_twins, open_dataset, split
from motes.data.near import groups, thumbnail
from motes.data.splitting import hold_out, list_folder, write_lists
from motes.errors import DataError
from motes.imaging import write_image


def frames(root: Path, scenes: int, each: int, dtype: type = np.uint8, layout: str = "images") -> Path:
    """``scenes`` unlike pictures in ``each`` copies that differ by a little noise; names say ``<scene>_<copy>``."""
    for s in range(scenes):
        rng = np.random.default_rng(s)
        coarse = rng.integers(50, 200, (8, 8)).repeat(8, 0).repeat(8, 1)
        for c in range(each):
            pixels = (coarse + rng.integers(0, 8, coarse.shape)).astype(dtype)
            write_image(root / layout / f"{s}_{c}.png", pixels[..., None])
            write_image(root / "masks" / f"{s}_{c}.png", np.zeros((64, 64, 1), np.uint8))
    return root


def test_pairs(tmp_path: Path) -> None:
    samples = list(open_dataset(frames(tmp_path, 3, 2)).samples.values())
    found = near_twins(samples)
    assert sorted((a, b) for a, b, _ in found) == [("0_0", "0_1"), ("1_0", "1_1"), ("2_0", "2_1")]
    assert all(0.95 < c < 1 for _, _, c in found)
    assert [c for _, _, c in found] == sorted((c for _, _, c in found), reverse=True)
    across = near_twins(samples[::2], samples[1::2])
    assert sorted((a, b) for a, b, _ in across) == [("0_0", "0_1"), ("1_0", "1_1"), ("2_0", "2_1")]
    assert near_twins(samples[:2], samples[:2], 0.99999) == []  # an image is not its own twin
    assert near_twins([], samples) == []


def test_against_the_correlation_coefficient(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 65536, (2, 32, 32, 1)).astype(np.uint16)
    b = (0.7 * a + 0.3 * b).astype(np.uint16)
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]  # 32x32 already: nothing is resized
    assert thumbnail(a) @ thumbnail(b) == pytest.approx(expected, abs=1e-5)


def test_counts_of_a_deep_frame_are_not_rounded_away() -> None:
    base = np.random.default_rng(0).normal(0, 2, (64, 64))
    deep = np.round(7400 + base).astype(np.uint16)[..., None]
    other = np.round(7400 + base * 3).astype(np.uint16)[..., None]
    assert thumbnail(deep) @ thumbnail(other) > 0.97


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_an_image_without_contrast_is_nobodys_twin(value: int) -> None:
    assert not thumbnail(np.full((40, 50, 1), value, np.uint16)).any()
    assert not thumbnail(np.full((40, 50, 3), value % 256, np.uint8)).any()


def test_grey_and_equal_colours_are_one_thumbnail() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (50, 40, 1), dtype=np.uint8)
    assert np.allclose(thumbnail(grey), thumbnail(np.repeat(grey, 3, axis=2)), atol=1e-4)


def test_threshold_outside(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="near-twin threshold of 90"):
        near_twins([Sample("a", tmp_path / "a.png")], None, 90)


def test_groups() -> None:
    assert groups(6, [(0, 3), (3, 5), (4, 1)]) == [[0, 3, 5], [1, 4], [2]]
    assert groups(0, []) == []


def test_hold_out_is_stable_and_whole() -> None:
    parts = [["a", "b", "c"], ["d"], ["e"], ["f"], ["g", "h"]]
    kept, held = hold_out(parts, 0.25, seed=0)
    assert sorted(kept + held) == list("abcdefgh") and len(held) == 2
    assert hold_out(parts, 0.25, seed=0) == (kept, held)
    assert len({tuple(hold_out(parts, 0.25, seed)[1]) for seed in range(10)}) > 2
    assert all(not {"a", "b", "c"} & set(hold_out(parts, 0.3, seed)[1]) for seed in range(10))  # too large a group
    assert hold_out(parts, 0.0) == (list("abcdefgh"), [])
    with pytest.raises(DataError, match="cannot be held out"):
        hold_out(parts, 1.0)


@pytest.mark.parametrize("test_share", [0.0, 0.25])
def test_split_never_separates_twins(tmp_path: Path, test_share: float) -> None:
    dataset = open_dataset(frames(tmp_path, 12, 2))
    lists = split(dataset, val=0.25, test=test_share, seed=3)
    parts = [lists["train"], lists["val"], lists.get("test", [])]
    assert sorted(name for part in parts for name in part) == sorted(dataset.samples)
    assert [len(p) for p in parts] == [24 - 6 - round(24 * test_share), 6, round(24 * test_share)]
    where = {name: n for n, part in enumerate(parts) for name in part}
    assert all(where[f"{s}_0"] == where[f"{s}_1"] for s in range(12))
    assert ("trainval" in lists) == bool(test_share)
    if test_share:
        assert sorted(lists["trainval"]) == sorted(lists["train"] + lists["val"])
    assert lists == split(dataset, val=0.25, test=test_share, seed=3) != split(dataset, val=0.25, seed=4)


def test_split_by_image_reads_nothing(tmp_path: Path) -> None:
    dataset = open_dataset(frames(tmp_path, 4, 1))
    for sample in dataset.samples.values():
        sample.image.write_bytes(b"")
    assert len(split(dataset, val=0.25, by="image")["val"]) == 1
    with pytest.raises(DataError, match="nothing to train on"):
        split(dataset, val=0.7, test=0.3, by="image")


def test_written_lists_are_found_again(tmp_path: Path) -> None:
    dataset = open_dataset(frames(tmp_path, 4, 1))
    lists = split(dataset, val=0.25)
    assert [f.name for f in write_lists(list_folder(dataset, "seed0"), lists)] == ["train.txt", "val.txt"]
    again = open_dataset(tmp_path)
    assert [s.name for s in again.split("val")] == lists["val"]
    write_lists(list_folder(again, "seed0"), lists)  # the same once more
    other = {**lists, "val": ["0_0"]}
    with pytest.raises(DataError, match="holds another list"):
        write_lists(tmp_path / "seed0", other)
    assert open_dataset(tmp_path).splits == again.splits
    write_lists(tmp_path / "seed0", other, overwrite=True)
    assert open_dataset(tmp_path).splits["seed0/val"] == ("0_0",)
    assert not list(tmp_path.rglob("*motes-*"))


def shipped(name: str) -> list[str]:
    return (files("motes") / "recipes" / "lists" / name).read_text(encoding="utf-8").splitlines()


def test_sirst_lists_follow_from_the_data(sirst_root: Path) -> None:
    """What is left out of training is what looks like a test image; the README of the set says 3 and 24 of 86."""
    dataset = open_dataset(sirst_root)
    training, testing = dataset.split("trainval_v1"), dataset.split("test_v1")
    twins = near_twins(training, testing)
    assert len({b for _, b, _ in twins}) == 24
    assert len({b for _, b, c in twins if c > 0.97}) == 3
    out = {a for a, _, _ in twins}
    assert {line.split()[0] for line in shipped("sirst_near_twins.txt")} == out
    clean = shipped("sirst_trainval_clean.txt")
    assert clean == [s.name for s in training if s.name not in out]
    fit, hold = shipped("sirst_fit.txt"), shipped("sirst_hold.txt")
    assert sorted(fit + hold) == sorted(clean) and len(hold) == 44
    assert near_twins([dataset.samples[n] for n in fit], [dataset.samples[n] for n in hold]) == []
