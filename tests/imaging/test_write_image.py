"""Written whole or not at all, and never with fewer bits."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from motes.errors import ImageError
from motes.imaging import atomic_path, read_image, write_image

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", GREY.astype(np.float32)),
        ("a.png", GREY.astype(np.int16)),
        ("a.png", np.dstack([GREY] * 2)),
        ("a.bmp", GREY.astype(np.uint16)),
        ("a.bmp", np.dstack([GREY] * 4)),
        ("a.jpg", GREY.astype(np.uint16)),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, pixels):
    with pytest.raises(ImageError, match=r"cannot hold .* without loss \(write \.tif or \.npy\)"):
        write_image(tmp_path / name, pixels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("a.pmg", GREY, r"cannot write images of type '\.pmg' \(known: \.png\)"),
        ("a", GREY, "cannot write images of type ''"),
        ("a.png", np.zeros((0, 4), np.uint8), "no pixels to write"),
        ("a.png", np.zeros(4, np.uint8), "expected"),
        ("a.npy", np.zeros((2, 2), complex), "expected"),
    ],
)
def test_bad_requests(tmp_path, name, pixels, expected):
    with pytest.raises(ImageError, match=expected):
        write_image(tmp_path / name, pixels)


def test_booleans_become_0_and_255(tmp_path):
    write_image(tmp_path / "m.png", GREY > 5)
    np.testing.assert_array_equal(read_image(tmp_path / "m.png").pixels[:, :, 0], (GREY > 5) * np.uint8(255))


def test_views_and_foreign_byte_orders(tmp_path):
    deep = (GREY.astype(">u2") * 300)[::-1, ::2]
    for name in ("a.png", "a.tif", "a.npy"):
        write_image(tmp_path / name, deep)
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels[:, :, 0], deep)


def test_deflated_tiff_is_smaller_and_the_same(tmp_path):
    pixels = np.zeros((64, 64), np.float32)
    write_image(tmp_path / "a.tif", pixels)
    write_image(tmp_path / "b.tif", pixels, compress=True)
    assert (tmp_path / "b.tif").stat().st_size < (tmp_path / "a.tif").stat().st_size / 4
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels[:, :, 0], pixels)


def test_atomic_path_leaves_the_old_file_when_something_fails(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".csv"
        temporary.write_text("old", encoding="utf-8")
        assert not path.exists()
    for error in (RuntimeError("stop"), KeyboardInterrupt()):
        with pytest.raises(type(error)), atomic_path(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_a_full_disk_is_reported_for_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(OSError) as caught, atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_must_be(tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(OSError) as caught:
        write_image(tmp_path / "out" / "a.png", GREY)
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


def test_a_folder_where_the_file_must_be(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError) as caught:
        write_image(tmp_path / "a.png", GREY)
    assert caught.value.filename == str(tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
