"""What a file says about itself in its first bytes: format, size, and whether all of it is there.

Read before anything is decoded, so that a header that claims twenty gigapixels costs nothing, and so that a file cut
short is refused: decoders fill the missing rows with grey and say so on stderr at most.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "NPY",
}
OTHERS = {
    b"GIF8": "a GIF",
    b"RIFF": "a WebP, AVI or other RIFF file",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000",
    b"v/1\x01": "an OpenEXR",
    b"\x89HDF": "an HDF5 file",
    b"SIMPLE  =": "a FITS file",
    b"version https://git-lfs": "a git LFS pointer (run 'git lfs pull')",
}


MAX_PIXELS = 10**9
"""The largest image that is read in one piece, px; and eight bytes for each of them is the most that it may take."""


class BadHeaderError(ValueError):
    """Says in a few words what is wrong; the reader puts the file's name in front."""


@dataclass(frozen=True)
class Header:
    """``height`` and ``width`` in px; ``kind``: PNG colour type or number of JPEG bands; ``bits`` a sample."""

    height: int
    width: int
    kind: int = -1
    bits: int = 8


def file_format(head: bytes) -> str | None:
    """One of "PNG", "JPEG", "BMP", "TIFF" and "NPY" from the first bytes, whatever the name; None for anything else."""
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            return name
    return None


def describe(head: bytes) -> str:
    """What a file that is no image seems to be, for the error message."""
    for signature, name in OTHERS.items():
        if head.startswith(signature):
            return name
    if not any(head):
        return "nothing but zeros"
    text = all(b >= 32 or b in b"\t\n\r\f" for b in head)
    return "a text file" if text else "an unknown format"


def check_size(height: int, width: int, pixel_bytes: int = 1) -> None:
    """Raises BadHeaderError for a frame without pixels, or with more than are read in one piece."""
    if height <= 0 or width <= 0:
        raise BadHeaderError(f"has no pixels: its header says {width}x{height}")
    if height * width > MAX_PIXELS or height * width * pixel_bytes > 8 * MAX_PIXELS:
        raise BadHeaderError(
            f"its header says {width}x{height} pixels, {height * width * pixel_bytes / 1e9:.1f} GB; at most "
            f"{MAX_PIXELS / 1e9:g} gigapixel and {8 * MAX_PIXELS / 1e9:g} GB are read in one piece, cut it up first"
        )


def png_header(data: bytes) -> Header:
    """From IHDR; ``data`` is the file or its first 33 bytes at least."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise BadHeaderError("is a PNG cut short or damaged: its header is missing")
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    return Header(height, width, kind, bits)


def png_pixels(data: bytes, header: Header) -> bytes:
    """The file without its ancillary chunks, after checking that every chunk is whole.

    Colour profiles, gamma, EXIF and animation chunks say nothing about counts, and libpng writes warnings about them
    to stderr.
    """
    keep, stored, start = [data[:8]], 0, 8
    while True:
        if start + 12 > len(data):
            raise BadHeaderError(f"is a PNG cut short at {len(data)} bytes")
        (length,) = struct.unpack(">I", data[start : start + 4])
        end = start + 12 + length
        name = data[start + 4 : start + 8]
        if end > len(data):
            raise BadHeaderError(f"is a PNG cut short at {len(data)} bytes")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            (crc,) = struct.unpack(">I", data[end - 4 : end])
            if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != crc:
                raise BadHeaderError(f"is a damaged PNG: wrong checksum in chunk {name.decode()} at byte {start}")
            keep.append(data[start:end])
            stored += length if name == b"IDAT" else 0
        start = end
        if name == b"IEND":
            break
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.kind, 1)
    needed = header.height * header.width * bands * header.bits / 8
    if needed > 1100 * (stored + 64):  # deflate cannot pack more than 1032 to 1
        raise BadHeaderError(f"is a PNG whose {stored} bytes cannot hold its {header.width}x{header.height} pixels")
    whole = sum(map(len, keep))
    return data if whole == len(data) else b"".join(keep)


def jpeg_header(data: bytes, whole: bool = True) -> Header:
    """From the frame header; with ``whole``, also checks that the end-of-image marker is there."""
    start, header = 2, None
    while start + 4 <= len(data):
        if data[start] != 0xFF:
            raise BadHeaderError("is a damaged JPEG: no marker where one must be")
        marker = data[start + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill bytes and markers without a length
            start += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[start + 2 : start + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if start + 10 > len(data):
                break
            bits, height, width, bands = struct.unpack(">BHHB", data[start + 4 : start + 10])
            header = Header(height, width, bands, bits)
            if not whole:
                return header
        if marker == 0xDA and header:
            if data.rfind(b"\xff\xd9", start) < 0:  # entropy-coded data never holds this pair
                raise BadHeaderError(f"is a JPEG cut short at {len(data)} bytes: its end marker is missing")
            return header
        if marker in (0xD9, 0xDA):
            break
        start += 2 + length
    raise BadHeaderError("is a JPEG cut short or damaged: its frame header is missing")


def bmp_header(data: bytes, size: int) -> Header:
    """From the info header; uncompressed files must be as long as their pixels (``size``: the file's, in bytes)."""
    if len(data) < 30:
        raise BadHeaderError("is a BMP cut short: its header is missing")
    offset, info = struct.unpack("<II", data[10:18])
    compression = 0
    if info == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
    elif info >= 40 and len(data) >= 34:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
        height = abs(height)
    else:
        raise BadHeaderError("is a BMP with a damaged header")
    if bits not in (1, 2, 4, 8, 16, 24, 32):
        raise BadHeaderError(f"is a BMP with a damaged header: {bits} bits a pixel")
    if width > 0 and compression in (0, 3) and offset + (width * bits + 31) // 32 * 4 * height > size:
        raise BadHeaderError(f"is a BMP cut short at {size} bytes")
    return Header(height, width, -1, bits)
