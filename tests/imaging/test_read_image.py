"""What is read is what is in the file: dtype, counts, channels, whatever wrote it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from motes.imaging import image_size, is_image_path, read_image, read_mask, write_image

RNG = np.random.default_rng(7)
GREY8 = RNG.integers(0, 256, (20, 27), dtype=np.uint8)
GREY16 = RNG.integers(0, 1 << 14, (20, 27), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (20, 27, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 1 << 16, (20, 27, 3), dtype=np.uint16)


def pillow(path: Path, image: PillowImage.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [(s, p) for s in (".png", ".tif", ".tiff", ".npy") for p in (GREY8, GREY16, RGB8, RGB16)]
    + [(".bmp", GREY8), (".bmp", RGB8), (".PNG", GREY16), (".TIF", RGB16)]
    + [
        (s, (RNG.normal(0, 50, shape)).astype(t))
        for s in (".tif", ".npy")
        for t in ("int8", "int16", "int32", "uint32", "float16", "float32", "float64")
        for shape in ((20, 27), (20, 27, 3), (20, 27, 5))
    ],
    ids=lambda v: v if isinstance(v, str) else f"{v.dtype}-{'x'.join(map(str, v.shape))}",
)
def test_written_is_read(tmp_path, suffix, pixels):
    path = tmp_path / f"frame{suffix}"
    write_image(path, pixels)
    image = read_image(path)
    expected = pixels[:, :, None] if pixels.ndim == 2 else pixels
    assert image.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.path, image.page, image.pages, image.size) == (path, 0, 1, (20, 27))
    assert image_size(path) == (20, 27)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_deep_counts_survive_where_eight_bits_lose_the_target(tmp_path, suffix):
    counts = np.rint(RNG.normal(7400, 25, (64, 64)))
    counts[30:33, 40:43] += 180
    counts = counts.astype(np.uint16)
    path = tmp_path / f"frame{suffix}"
    write_image(path, counts)
    pixels = read_image(path).pixels[:, :, 0]
    np.testing.assert_array_equal(pixels, counts)
    with PillowImage.open(path) as other:
        assert np.unique(np.asarray(other.convert("L"))).tolist() == [255]


@pytest.mark.parametrize(
    ("name", "image", "options", "expected"),
    [
        ("one-bit.png", PillowImage.fromarray(GREY8 > 99), {}, (GREY8 > 99) * np.uint8(255)),
        ("one-bit.bmp", PillowImage.fromarray(GREY8 > 99), {}, (GREY8 > 99) * np.uint8(255)),
        ("one-bit.tif", PillowImage.fromarray(GREY8 > 99), {"compression": "group4"}, (GREY8 > 99) * np.uint8(255)),
        ("grey-alpha.png", PillowImage.fromarray(np.dstack([GREY8, 255 - GREY8])), {}, GREY8),
        ("rgba.png", PillowImage.fromarray(np.dstack([RGB8, GREY8])), {}, RGB8),
        ("rgba.tif", PillowImage.fromarray(np.dstack([RGB8, GREY8])), {}, RGB8),
        ("rgb-grey.png", PillowImage.fromarray(np.dstack([GREY8] * 3)), {}, np.dstack([GREY8] * 3)),
        ("white-is-zero.tif", PillowImage.fromarray(GREY8), {"tiffinfo": {262: 0}}, GREY8),
        ("optimised.png", PillowImage.fromarray(RGB8), {"optimize": True, "icc_profile": b"not a profile"}, RGB8),
        (
            "interlaced.jpg",
            PillowImage.fromarray(np.full((20, 27), 77, np.uint8)),
            {"progressive": True},
            np.full((20, 27), 77),
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_files_of_pillow(tmp_path, name, image, options, expected):
    pixels = read_image(pillow(tmp_path / name, image, **options)).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected[:, :, None] if expected.ndim == 2 else expected)


@pytest.mark.parametrize("name", ["p.png", "p.bmp", "p.tif"])
def test_palette_becomes_colours_and_stays_labels_for_masks(tmp_path, name):
    colours = np.array([[0, 0, 0], [255, 0, 0], [9, 10, 11], [0, 250, 3]], np.uint8)
    image = PillowImage.fromarray(GREY8 % 4, "L")
    image = PillowImage.frombytes("P", image.size, image.tobytes())
    image.putpalette(colours.ravel().tolist())
    path = pillow(tmp_path / name, image)
    np.testing.assert_array_equal(read_image(path).pixels, colours[GREY8 % 4])
    np.testing.assert_array_equal(read_mask(path), GREY8 % 4 > 0)


def test_alpha_is_kept_when_asked_for(tmp_path):
    rgba, grey_alpha = np.dstack([RGB8, GREY8]), np.dstack([GREY8, 255 - GREY8])
    write_image(tmp_path / "a.png", rgba)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", alpha=True).pixels, rgba)
    path = pillow(tmp_path / "la.png", PillowImage.fromarray(grey_alpha))
    np.testing.assert_array_equal(read_image(path, alpha=True).pixels, grey_alpha)


def test_four_bands_that_are_no_transparency_stay(tmp_path):
    bands = np.dstack([RGB16, GREY16])
    write_image(tmp_path / "bands.tif", bands)
    np.testing.assert_array_equal(read_image(tmp_path / "bands.tif").pixels, bands)


def test_content_decides_not_the_suffix(tmp_path):
    write_image(tmp_path / "frame.png", GREY16)
    path = (tmp_path / "frame.png").rename(tmp_path / "frame.jpg")
    np.testing.assert_array_equal(read_image(path).pixels[:, :, 0], GREY16)
    assert image_size(path) == (20, 27)


def test_names_with_spaces_and_letters_of_any_script(tmp_path):
    for suffix in (".png", ".jpg", ".tif", ".npy", ".bmp"):
        path = tmp_path / "кадр 1 赤外 ü" / f"цель 点 #{suffix}"
        write_image(path, np.full((8, 9), 50, np.uint8))
        assert read_image(path).pixels.shape == (8, 9, 1)
        assert read_mask(path).shape == (8, 9)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = pillow(tmp_path / "turned.jpg", PillowImage.fromarray(GREY8), exif=exif)
    assert read_image(path).pixels.shape == (20, 27, 1)
    assert image_size(path) == (20, 27)


def test_size_of_a_jpeg_behind_a_large_profile(tmp_path):
    path = pillow(tmp_path / "p.jpg", PillowImage.fromarray(GREY8), icc_profile=bytes(200_000))
    assert image_size(path) == read_image(path).size == (20, 27)


@pytest.mark.parametrize("kind", ["tiff", "npy"])
def test_big_endian_becomes_native(tmp_path, kind):
    path = tmp_path / "big"
    if kind == "npy":
        np.save(tmp_path / "big.npy", GREY16.astype(">u2"))
        path = tmp_path / "big.npy"
    else:
        import tifffile

        tifffile.imwrite(path, GREY16, byteorder=">")
    pixels = read_image(path).pixels
    assert pixels.dtype == np.uint16 and pixels.dtype.isnative
    np.testing.assert_array_equal(pixels[:, :, 0], GREY16)


def test_npy_of_any_memory_order_and_booleans(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(RGB16))
    np.testing.assert_array_equal(read_image(tmp_path / "f.npy").pixels, RGB16)
    np.save(tmp_path / "b.npy", GREY8 > 99)
    np.testing.assert_array_equal(read_image(tmp_path / "b.npy").pixels[:, :, 0], (GREY8 > 99) * np.uint8(255))
    np.testing.assert_array_equal(read_mask(tmp_path / "b.npy"), GREY8 > 99)


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17)])
def test_png_of_few_bits_is_spread_over_the_range(tmp_path, bits, factor):
    levels = GREY8[:, :24] % (1 << bits)
    path = tmp_path / "few.png"
    path.write_bytes(png(24, 20, bits, 0, packed(levels, bits)))
    np.testing.assert_array_equal(read_image(path).pixels[:, :, 0], levels * factor)


def test_sirst_pixels_are_those_of_pillow(sirst_root):
    for path in sorted((sirst_root / "PNGImages").iterdir())[:20]:
        with PillowImage.open(path) as other:
            expected = np.asarray(other)
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels.squeeze(), expected)
        assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", True), ("a.TIFF", True), ("a.npy", True), ("a.txt", False), ("a", False), ("._a.png", False)],
)
def test_is_image_path(name, expected):
    assert is_image_path(name) is expected


def test_importing_loads_numpy_only():
    heavy = ("cv2", "PIL", "tifffile", "torch", "scipy")
    code = f"import sys, motes.imaging; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def png(width: int, height: int, bits: int, kind: int, rows: bytes, end: bool = True) -> bytes:
    """A PNG made by hand; ``rows`` without filter bytes."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    step = len(rows) // height if height else 0
    lines = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height)) if rows else b""
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(lines)))
    out.write(chunk(b"IEND", b"") if end else b"")
    return out.getvalue()


def packed(levels: np.ndarray, bits: int) -> bytes:
    single = (levels[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.reshape(len(levels), -1).astype(np.uint8), axis=1).tobytes()
