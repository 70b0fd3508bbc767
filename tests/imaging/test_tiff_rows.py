"""TIFF read by rows: the same counts as reading it whole, whatever its strips, tiles and compression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from motes.errors import ImageError
from motes.imaging import read_image, write_image
from motes.imaging.tiff_rows import tiff_rows

SHAPE = (70, 53)
FORMS = {
    "one strip": {},
    "strips": {"rowsperstrip": 9},
    "deflate strips": {"rowsperstrip": 16, "compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 32)},
    "deflate tiles": {"tile": (32, 16), "compression": "zlib"},
    "big-endian": {"byteorder": ">", "rowsperstrip": 7},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3, 4, "planes"])
def test_as_reading_it_whole(tmp_path: Path, form: str, dtype: type, bands: int | str) -> None:
    options: dict = dict(FORMS[form])
    rng = np.random.default_rng(0)
    count = 3 if bands == "planes" else int(bands)
    pixels = rng.integers(0, np.iinfo(dtype).max, (*SHAPE, count)).astype(dtype)
    stored = pixels[:, :, 0] if count == 1 else np.moveaxis(pixels, -1, 0) if bands == "planes" else pixels
    options |= {"photometric": "minisblack" if count == 1 else "rgb", "metadata": None}
    options |= {"planarconfig": "separate" if bands == "planes" else "contig"} if count > 1 else {}
    options |= {"extrasamples": ["unassalpha"]} if count == 4 else {}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **options)
    rows, whole = tiff_rows(path), read_image(path).pixels
    assert rows is not None and rows.shape == whole.shape and rows.dtype == whole.dtype and rows.pages == 1
    np.testing.assert_array_equal(np.asarray(rows), whole)
    for first, last in ((0, 20), (12, 32), (30, 40), (60, 70), (5, 6)):  # overlapping, jumping ahead and back
        np.testing.assert_array_equal(rows[first:last, 4:30], whole[first:last, 4:30])
    rows.close()


def test_what_is_read_whole_instead(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    assert tiff_rows(tmp_path / "a.png") is None
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
    assert tiff_rows(tmp_path / "f.tif") is None
    tifffile.imwrite(tmp_path / "w.tif", np.zeros((4, 4), np.uint8), photometric="miniswhite")
    assert tiff_rows(tmp_path / "w.tif") is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), compression="zlib")
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ImageError, match=r"cut\.tif: is a"):
        tiff_rows(path)
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    rows = tiff_rows(path)
    assert rows is not None
    with pytest.raises(ImageError, match=r"damaged\.tif: is a damaged TIFF"):
        rows[0:4]
