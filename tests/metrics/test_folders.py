"""Pairing maps with masks, and reading maps of any method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.errors import DataError, ImageError
from motes.imaging import write_image
from motes.metrics.folders import full_scale_of, image_files, pair, read_map, shorter_names


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("Misc_1", ["Misc_1"]),
        ("Misc_1_pixels0", ["Misc_1_pixels0", "Misc_1"]),
        ("000123-mask", ["000123-mask", "000123"]),
        ("a_prob_Pred", ["a_prob_Pred", "a_prob", "a"]),
        ("out", ["out"]),
    ],
)
def test_endings_come_off_one_by_one(stem, names):
    assert shorter_names(stem) == names


def files(*names):
    return {Path(n).stem: Path(n) for n in names}


@pytest.mark.parametrize(
    ("maps", "masks", "expected"),
    [
        (["a.png", "b.png"], ["b.png", "a.png"], {"a": "a", "b": "b"}),
        (["a_Pred.png", "b.tif"], ["a_pixels0.png", "b_mask.png"], {"a_pixels0": "a_Pred", "b_mask": "b"}),
        # Names that themselves end like a suffix: as little as possible is taken off.
        (["empty_label.png", "empty_prediction.png"], ["empty_label.png", "empty_prediction.png"], None),
        (
            ["empty_label_Pred.png", "empty_out_Pred.png"],
            ["empty_label_gt.png", "empty_out_gt.png"],
            {"empty_label_gt": "empty_label_Pred", "empty_out_gt": "empty_out_Pred"},
        ),
        (["a.png", "a_pred.png"], ["a.png"], {"a": "a"}),
        (["a_pred.png"], ["a.png", "a_mask.png"], {"a": "a_pred"}),
    ],
)
def test_pairs(maps, masks, expected):
    found = pair(files(*maps), files(*masks))
    assert {n: m.stem for n, m, _ in found.pairs} == (expected or {Path(m).stem: Path(m).stem for m in masks})
    assert [n for n, _, _ in found.pairs] == [Path(m).stem for m in masks if Path(m).stem not in found.missing]


def test_what_is_left_over():
    found = pair(files("a_Pred.png", "b.png", "x.png"), files("a_pixels0.png", "b.png", "c_mask.png"))
    assert found.missing == ["c_mask"]
    assert [p.name for p in found.extra] == ["x.png"]


def test_two_maps_for_one_mask():
    with pytest.raises(DataError, match=r"mask 'a\.png' fits two maps: a_pred\.png and a_prob\.png"):
        pair(files("a_pred.png", "a_prob.png"), files("a.png"))


def test_nothing_fits():
    with pytest.raises(DataError, match=r"no map of .* has the name of a mask"):
        pair(files("p/x.png"), files("m/y.png"))


def test_folders_that_hold_no_maps(tmp_path):
    (tmp_path / "maps" / "deep").mkdir(parents=True)
    write_image(tmp_path / "maps" / "deep" / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"no such folder.*did you mean 'maps'"):
        image_files(tmp_path / "mapss", "maps")
    with pytest.raises(DataError, match=r"holds no image, expected maps.*did you mean '.*deep'"):
        image_files(tmp_path / "maps", "maps")
    with pytest.raises(DataError, match="is a file, expected a folder"):
        image_files(tmp_path / "maps" / "deep" / "a.png", "maps")
    write_image(tmp_path / "maps" / "deep" / "a.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"two maps of 'a': a\.bmp and a\.png"):
        image_files(tmp_path / "maps" / "deep", "maps")


RAMP = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    ("name", "pixels", "tolerance"),
    [
        ("a.png", np.round(RAMP * 255).astype(np.uint8), 0.5 / 255),
        ("a.png", np.round(RAMP * 65535).astype(np.uint16), 0.5 / 65535),
        ("a.tif", RAMP.astype(np.float32), 1e-7),
        ("a.npy", RAMP, 1e-7),
        ("a.png", np.repeat(np.round(RAMP * 255).astype(np.uint8)[:, :, None], 3, axis=2), 0.5 / 255),
    ],
    ids=["8 bit", "16 bit", "float tiff", "npy", "grey as RGB"],
)
def test_maps_of_every_kind(tmp_path, name, pixels, tolerance):
    write_image(tmp_path / name, pixels)
    probability = read_map(tmp_path / name)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, RAMP, atol=tolerance)


def test_scale_and_logits(tmp_path):
    write_image(tmp_path / "a.npy", np.array([[-2.0, 0.0], [3.0, 100.0]]))
    np.testing.assert_allclose(read_map(tmp_path / "a.npy", logits=True), [[0.119203, 0.5], [0.952574, 1]], atol=1e-6)
    write_image(tmp_path / "b.tif", np.array([[0, 50], [100, 25]], np.uint16))
    np.testing.assert_allclose(read_map(tmp_path / "b.tif", full_scale=100), [[0, 0.5], [1, 0.25]])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4), 3.0), r"values from 0 to 3, expected probabilities from 0 to 1 \(give --scale"),
        (np.arange(48, dtype=np.uint8).reshape(4, 4, 3), "3 different channels"),
        (np.full((4, 4), 7, np.int32), r"int32 counts.*give --scale"),
    ],
)
def test_maps_that_are_none(tmp_path, pixels, message):
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(DataError, match=message):
        read_map(tmp_path / "a.npy")


def test_map_with_nan(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 4), np.nan))
    with pytest.raises(ImageError):
        read_map(tmp_path / "a.npy")


def test_masks_written_as_zero_and_one(tmp_path):
    for name, top in (("a", 0), ("b", 1), ("c", 1)):
        write_image(tmp_path / f"{name}.png", np.full((4, 4), top, np.uint8))
    paths = sorted(tmp_path.iterdir())
    assert full_scale_of(paths) == 1
    assert full_scale_of(paths[:1]) is None
    write_image(tmp_path / "c.png", np.full((4, 4), 255, np.uint8))
    assert full_scale_of(paths) is None
