"""Windows read as they are needed hold what patches on disk hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.data import Dataset, open_dataset
from motes.data.aerial_scenes import write_aerial
from motes.data.classes import class_table
from motes.data.cutting import patch_name
from motes.data.prepare import prepare
from motes.data.raw_files import isaid_files
from motes.data.windows import Decoded, Window, cut, read_window
from motes.errors import DataError, ImageError
from motes.imaging import write_image

ISAID = class_table("isaid")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    write_aerial(tmp_path / "iSAID", "isaid", 6, (70, 90))
    return open_dataset(tmp_path / "iSAID")


@pytest.mark.parametrize("rule", ["split", "window", "pad-split"])
@pytest.mark.parametrize("patch", [48, 80])
def test_the_same_as_patches_on_disk(data: Dataset, tmp_path: Path, rule: str, patch: int) -> None:
    prepare(isaid_files(data.root), tmp_path / "out", ISAID, rule, patch, 32)
    patches = open_dataset(tmp_path / "out")
    windows = cut([*data.split("train"), *data.split("val")], rule, patch, 32)
    assert len(windows) == len(patches.samples)
    for window in windows:
        name = patch_name(window.sample.name, window.box)
        sample = patches.samples[name if name in patches.samples else window.sample.name]
        pixels, ids = read_window(window, ISAID)
        (whole,) = cut([sample], "whole")
        expected, labels = read_window(whole, ISAID)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(ids, labels)


def test_images_without_labels_are_ignored_all_over(data: Dataset) -> None:
    (first, *_) = cut(data.split("test"), "pad-split", 100, 100)
    pixels, ids = read_window(first, ISAID)
    assert pixels.shape == (100, 100, 3) and pixels.any() and (ids == 255).all() and ids.shape == (100, 100)


def test_files_are_decoded_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import motes.data.windows as module

    windows = cut(data.split("train"), "window", 48, 32)
    read, names = module.read_image, []
    monkeypatch.setattr(module, "read_image", lambda path: names.append(path.name) or read(path))
    one = 70 * 90 * 4  # bytes of an image and its ids
    for limit, decoded in ((3 * one, 3), (one, 3), (one - 1, 18)):
        names.clear()
        cache = Decoded(limit)
        found = [read_window(w, ISAID, cache) for w in windows]
        assert len(names) == decoded
    for window, (pixels, ids) in zip(windows, found, strict=True):
        again = read_window(window, ISAID)
        np.testing.assert_array_equal(pixels, again[0])
        np.testing.assert_array_equal(ids, again[1])


def test_the_longest_unused_file_is_dropped(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import motes.data.windows as module

    a, b, c = (Window(s, (0, 0, 9, 9)) for s in data.split("train"))
    read, names = module.read_image, []
    monkeypatch.setattr(module, "read_image", lambda path: names.append(path.stem) or read(path))
    cache = Decoded(2 * 70 * 90 * 4)
    for window in (a, b, a, c, a, b):
        read_window(window, ISAID, cache)
    assert names == ["P0000", "P0002", "P0004", "P0002"]


def test_bad_files(data: Dataset) -> None:
    sample = data.split("train")[0]
    (window, *_) = cut([sample], "window", 48, 32)
    assert sample.mask is not None
    write_image(sample.mask, np.zeros((4, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"P0000.png is 90x70 and its mask .* 8x4 \(width x height\)"):
        read_window(window, ISAID)
    sample.image.write_bytes(b"")
    with pytest.raises(ImageError, match="is empty"):
        cut([sample])
