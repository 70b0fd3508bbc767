"""TIFF in its many forms, with the package imagecodecs and without."""

from __future__ import annotations

import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from motes.errors import ImageError
from motes.imaging import image_size, read_image, read_mask

RNG = np.random.default_rng(3)
GREY16 = RNG.integers(0, 1 << 14, (20, 27), dtype=np.uint16)
LZW, DEFLATE = 5, 8
ZSTD = ["zstd"] if int(PillowImage.__version__.split(".")[0]) >= 12 else []  # older wheels cannot write it


@pytest.fixture(params=[True, False], ids=["with-tifffile", "assembled"])
def decoder(request, monkeypatch):
    """Once as installed, once as where tifffile can decode nothing and imagecodecs is absent."""
    if not request.param:

        def refuse(*args, **kwargs):
            raise ValueError("<COMPRESSION> requires the 'imagecodecs' package")

        monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
        monkeypatch.setattr("motes.imaging.tiff._has_imagecodecs", lambda: False)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("compression", [LZW, DEFLATE])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "predictor"),
    [(t, p) for t in ("uint8", "uint16", "int16", "float32") for p in (1, 2)] + [("float32", 3)],
)
def test_lossless_compressions(tmp_path, dtype, channels, compression, predictor):
    pixels = (RNG.random((20, 27, channels)) * 250).astype(dtype)
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    ok, data = cv2.imencode(".tif", pixels[:, :, ::-1] if channels == 3 else pixels, flags)
    assert ok
    path = tmp_path / "packed.tif"
    path.write_bytes(data.tobytes())
    found = read_image(path).pixels
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big"])
def test_layouts(tmp_path, layout, byteorder):
    pixels = RNG.integers(0, 60000, (40, 50, 5), dtype=np.uint16)
    path = tmp_path / "layout.tif"
    options = {
        "strips": {"rowsperstrip": 7, "planarconfig": "contig"},
        "tiles": {"tile": (16, 32), "planarconfig": "contig"},
        "planes": {"tile": (16, 16), "planarconfig": "separate"},
        "big": {"bigtiff": True, "planarconfig": "contig"},
    }[layout]
    stored = np.moveaxis(pixels, 2, 0) if layout == "planes" else pixels
    tifffile.imwrite(path, stored, photometric="minisblack", byteorder=byteorder, **options)
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    assert image_size(path) == (40, 50)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "group4", "tiff_adobe_deflate", *ZSTD])
@pytest.mark.parametrize("inverted", [False, True])
def test_single_bits(tmp_path, compression, inverted):
    bits = GREY16 > 8000
    path = tmp_path / "bits.tif"
    PillowImage.fromarray(bits).save(path, compression=compression, tiffinfo={262: 0} if inverted else {})
    np.testing.assert_array_equal(read_image(path).pixels[:, :, 0], bits * np.uint8(255))
    np.testing.assert_array_equal(read_mask(path), bits)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("compression", [None, "tiff_lzw", *ZSTD])
def test_palette_pages(tmp_path, compression):
    labels = (GREY16 % 3).astype(np.uint8)
    image = PillowImage.frombytes("P", (27, 20), labels.tobytes())
    image.putpalette([0, 0, 0, 200, 10, 20, 7, 8, 9])
    path = tmp_path / "palette.tif"
    image.save(path, compression=compression)
    colours = np.array([[0, 0, 0], [200, 10, 20], [7, 8, 9]], np.uint8)
    np.testing.assert_array_equal(read_image(path).pixels, colours[labels])
    np.testing.assert_array_equal(read_mask(path), labels > 0)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_packed_bits_keep_their_counts(tmp_path, bits, monkeypatch):
    monkeypatch.setattr("motes.imaging.tiff._has_imagecodecs", lambda: False)
    counts = GREY16 % (1 << bits)
    single = (counts[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(single.reshape(20, -1).astype(np.uint8), axis=1).tobytes()
    path = tmp_path / "packed.tif"
    path.write_bytes(tiff({258: bits}, data))
    pixels = read_image(path).pixels[:, :, 0]
    assert pixels.dtype == (np.uint16 if bits > 8 else np.uint8)
    np.testing.assert_array_equal(pixels, counts if bits > 8 else counts * (255 // ((1 << bits) - 1)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_where_zero_is_white_larger_becomes_brighter(tmp_path, dtype):
    pixels = GREY16.astype(dtype)
    tifffile.imwrite(tmp_path / "w.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "w.tif").pixels[:, :, 0], np.iinfo(dtype).max - pixels)


def test_pages_of_different_size(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as file:
        for page in (GREY16, GREY16[:10, :11] + 1):
            file.write(page, photometric="minisblack", metadata=None)
    image = read_image(path, page=1)
    assert (image.page, image.pages, image.size) == (1, 2, (10, 11))
    np.testing.assert_array_equal(image.pixels[:, :, 0], GREY16[:10, :11] + 1)
    assert image_size(path, page=1) == (10, 11)
    for page in (2, -1):
        with pytest.raises(ImageError, match=rf"has 2 pages, there is no page {page}"):
            read_image(path, page=page)


def test_lost_pages_are_noticed(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as file:
        for page in range(3):
            file.write(GREY16 + page, photometric="minisblack", metadata=None)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut short"):
        read_image(path)


def test_a_compression_that_nothing_here_decodes_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("motes.imaging.tiff._has_imagecodecs", lambda: False)
    path = tmp_path / "jxl.tif"
    path.write_bytes(tiff({258: 8, 259: 50002}, b"no JPEG XL"))
    with pytest.raises(ImageError, match=r"compressed with JPEGXL.*pip install imagecodecs"):
        read_image(path)


def test_nothing_is_printed_about_odd_tags(tmp_path):
    path = tmp_path / "odd.tif"
    path.write_bytes(tiff({258: 8, 65000: 3, 34665: 123456}, bytes(540)))
    code = f"from motes.imaging import read_image; print(read_image({str(path)!r}).pixels.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("(20, 27, 1)", "")


def tiff(tags: dict[int, int], data: bytes) -> bytes:
    """A one-strip grey TIFF of 27x20 px made by hand."""
    tags = {256: 27, 257: 20, 259: 1, 262: 1, 273: 0, 277: 1, 278: 20, 279: len(data)} | tags
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + data
