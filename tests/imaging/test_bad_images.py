"""Files that are no good end in one sentence that starts with their name."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from motes.cards import InputSpec
from motes.errors import ImageError
from motes.imaging import image_size, network_input, read_image, read_mask, write_image

GREY = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
SUFFIXES = (".png", ".bmp", ".jpg", ".tif", ".npy")


def sentence(call, *args) -> str:
    with pytest.raises(ImageError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_short(tmp_path, suffix, share):
    path = tmp_path / f"frame{suffix}"
    write_image(path, GREY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for read in (read_image, read_mask):
        text = sentence(read, path)
        assert text.startswith(str(path)) and re.search("cut short|damaged|not an image", text)


@pytest.mark.parametrize("compress", [False, True])
def test_every_cut_of_a_tiff_is_noticed(tmp_path, compress):
    path = tmp_path / "frame.tif"
    write_image(path, GREY[:8, :9].astype(np.float32), compress=compress)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        sentence(read_image, path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (b"x, y\n1, 2\n", "not an image but a text file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git LFS pointer"),
        (bytes(4096), "nothing but zeros"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"GIF89a....", "a GIF"),
        (b"\x01\x02\x03\x04\x05", "an unknown format"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (b"\xff\xd8\xff", "cut short"),
        (b"BM", "cut short"),
        (b"II*\0", "TIFF"),
        (b"\x93NUMPY\x01\0", "damaged header"),
    ],
)
@pytest.mark.parametrize("name", ["frame.png", "frame.jpg", "frame.tif"])
def test_content_that_is_no_image(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    for call in (read_image, read_mask, image_size):
        text = sentence(call, path)
        assert text.startswith(str(path)) and expected in text


def png_claiming(width: int, height: int) -> bytes:
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = [header, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def bmp_claiming(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 154, 0, 54, 40, width, height, 1, 24, 0, 100, 0, 0, 0, 0) + bytes(100)


def tiff_claiming(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + bytes(300)


def jpeg_claiming(width: int, height: int) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00" + b"\0\xff\xd9"


def npy_claiming(width: int, height: int) -> bytes:
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({height}, {width}), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(50)


@pytest.mark.parametrize("make", [png_claiming, bmp_claiming, tiff_claiming, npy_claiming, jpeg_claiming])
def test_a_header_of_gigapixels_is_refused_before_anything_is_allocated(tmp_path, make):
    path = tmp_path / "huge.img"
    path.write_bytes(make(65000, 65000) if make is jpeg_claiming else make(200_000, 100_000))
    read_image_once(tmp_path)  # the decoders' own imports are not counted
    tracemalloc.start()
    try:
        texts = [sentence(read_image, path), sentence(read_mask, path)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert all("gigapixel" in t or "cut short" in t for t in texts)


def test_pixels_that_cannot_be_in_so_few_bytes(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(20_000, 20_000))
    assert "cannot hold its 20000x20000 pixels" in sentence(read_image, path)


@pytest.mark.parametrize("make", [png_claiming, bmp_claiming, tiff_claiming, npy_claiming, jpeg_claiming])
def test_zero_sized(tmp_path, make):
    path = tmp_path / "none.img"
    path.write_bytes(make(0, 5))
    for call in (read_image, read_mask, image_size):
        assert "has no pixels" in sentence(call, path)


def read_image_once(folder: Path) -> None:
    for suffix in SUFFIXES:
        write_image(folder / f"warm{suffix}", GREY)
        read_image(folder / f"warm{suffix}")


def test_damaged_inside(tmp_path):
    path = tmp_path / "frame.png"
    write_image(path, GREY)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert "wrong checksum in chunk IDAT" in sentence(read_image, path)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path, suffix, value):
    pixels = np.zeros((6, 7), np.float32)
    pixels[2, 3] = pixels[0, 0] = value
    path = tmp_path / f"frame{suffix}"
    write_image(path, pixels)
    assert "2 of 42 values are NaN or infinite" in sentence(read_image, path)
    np.testing.assert_array_equal(read_image(path, finite=False).pixels[:, :, 0], pixels)
    assert "2 of 42" in sentence(network_input, pixels, InputSpec())


def test_missing_names_the_nearest(tmp_path):
    write_image(tmp_path / "frame_0017.png", GREY)
    assert "did you mean 'frame_0017.png'?" in sentence(read_image, tmp_path / "frame_017.png")
    assert "there is no folder" in sentence(read_image, tmp_path / "framse" / "a.png")
    assert "is a folder" in sentence(read_image, tmp_path)
    assert "no such file" in sentence(image_size, tmp_path / "frame_0017.png" / "a.png")


def test_no_permission(tmp_path, monkeypatch):
    path = tmp_path / "frame.png"
    write_image(path, GREY)

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert sentence(read_image, path) == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((3, 20, 30)), "channels come last"),
        (np.zeros(5), "expected [H, W] or [H, W, C]"),
        (np.zeros((4, 5), complex), "expected integers or floats"),
        (np.array([["a", "b"]]), "expected integers or floats"),
    ],
)
def test_npy_that_is_no_image(tmp_path, array, expected):
    np.save(tmp_path / "a.npy", array)
    assert expected in sentence(read_image, tmp_path / "a.npy")


def test_pickles_are_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    assert "expected integers or floats" in sentence(read_image, tmp_path / "trap.npy")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_colours_that_are_neither_grey_nor_rgb(tmp_path, mode):
    PillowImage.new(mode, (8, 8)).save(tmp_path / "c.tif")
    assert "expected grey, RGB or a palette" in sentence(read_image, tmp_path / "c.tif")


def test_only_tiff_has_pages(tmp_path):
    write_image(tmp_path / "a.png", GREY)
    assert "has 1 page, there is no page 2" in sentence(read_image, tmp_path / "a.png", 2)


def test_nothing_on_stderr(tmp_path):
    write_image(tmp_path / "a.png", GREY)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    PillowImage.fromarray(GREY).save(tmp_path / "profile.png", icc_profile=b"no profile at all, but there")
    code = (
        "import sys\nfrom motes.imaging import read_image\nfrom motes.errors import ImageError\n"
        "for name in ('cut.png', 'cut.jpg', 'profile.png'):\n"
        f"    try: print(read_image({str(tmp_path)!r} + '/' + name).pixels.shape)\n"
        "    except ImageError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3
