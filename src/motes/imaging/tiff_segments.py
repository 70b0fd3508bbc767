"""TIFF pages put together here, where tifffile needs the package imagecodecs: LZW, Zstandard, float predictors.

Each strip or tile is decompressed to plain bytes, by zlib, by lzma or by the libtiff inside Pillow, which is given the
segment as a one-strip 8-bit grey file of its own. What the bytes mean (type, byte order, predictor, planes, tiles) is
done here. Pillow's own reading of whole files is no substitute: it drops bands, has no 16-bit RGB, and undoes
predictors of big-endian floats wrongly.
"""

from __future__ import annotations

import io
import lzma
import struct
import threading
import zlib
from typing import Any

import numpy as np

from motes.imaging.headers import BadHeaderError

NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD = 1, 5, 8, 32773, 32946, 34925, 50000
SUPPORTED = (NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD)
HORIZONTAL, FLOATING_POINT = 2, 3

_LIMIT = threading.Lock()


def can_assemble(ifd: Any) -> bool:
    """Whether `assemble` can: a lossless byte compression; samples of one type, or of 1 to 15 packed bits."""
    return (
        int(ifd.compression) in SUPPORTED
        and int(ifd.predictor) in (1, HORIZONTAL, FLOATING_POINT)
        and int(ifd.fillorder) == 1
        and ifd.dtype is not None
        and (ifd.bitspersample in (8, 16, 32, 64) or (ifd.bitspersample in range(1, 16) and int(ifd.predictor) == 1))
    )


def assemble(ifd: Any, first: int = 0, last: int | None = None) -> np.ndarray:
    """[H, W, C] pixels of a page for which `can_assemble` holds, as counts; or only its rows [first, last).

    Raises:
        BadHeaderError: a strip or tile does not decompress to the bytes that it must hold.
    """
    height, width, samples = int(ifd.imagelength), int(ifd.imagewidth), int(ifd.samplesperpixel)
    planar = int(ifd.planarconfig or 1) == 2 and samples > 1
    rows, columns = (int(ifd.tilelength), int(ifd.tilewidth)) if ifd.is_tiled else (int(ifd.rowsperstrip), width)
    rows = rows if ifd.is_tiled else min(rows, height)
    bands = 1 if planar else samples
    stored = np.dtype(ifd.dtype).newbyteorder(ifd.parent.byteorder)
    bits = int(ifd.bitspersample)
    row_bytes = -(-columns * bands * bits // 8)
    down, across = -(-height // rows), -(-width // columns)
    last = height if last is None else last
    pixels = np.zeros((last - first, width, samples), stored.newbyteorder("="))

    for index, (offset, count) in enumerate(zip(ifd.dataoffsets, ifd.databytecounts, strict=False)):
        plane, place = divmod(index, down * across)
        if plane >= (samples if planar else 1):
            break
        if count == 0:  # sparse files leave empty tiles out
            continue
        top, left = place // across * rows, place % across * columns
        here = rows if ifd.is_tiled else min(rows, height - top)
        if top >= last or top + here <= first:
            continue
        ifd.parent.filehandle.seek(offset)
        packed = ifd.parent.filehandle.read(count)
        data = np.frombuffer(_decompress(packed, int(ifd.compression), row_bytes, here), np.uint8)
        if data.size < row_bytes * here:
            raise BadHeaderError(f"is a damaged TIFF: segment {index} has {data.size} of {row_bytes * here} bytes")
        data = data[: row_bytes * here]
        if bits not in (8, 16, 32, 64):
            segment = _unpack(data.reshape(here, row_bytes), bits, columns * bands).reshape(here, columns, bands)
        else:
            segment = _unpredict(data, int(ifd.predictor), stored, (here, columns, bands))
        part = segment[max(first - top, 0) : last - top, : width - left]
        at = max(top - first, 0)
        pixels[at : at + len(part), left : left + columns, plane : plane + bands] = part
    return pixels


def _decompress(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    try:
        if compression == NONE:
            return packed
        if compression in (DEFLATE, OLD_DEFLATE):
            return zlib.decompressobj().decompress(packed, row_bytes * rows)
        if compression == LZMA:
            return lzma.LZMADecompressor().decompress(packed, row_bytes * rows)
        return _by_libtiff(_one_strip(packed, compression, row_bytes, rows), row_bytes * rows)
    except Exception as e:  # zlib.error, LZMAError, OSError, SyntaxError, ... from damaged data
        if compression == ZSTD:  # which the libtiff of older Pillows does not know
            raise BadHeaderError(f"is a damaged TIFF, or one that needs imagecodecs: {e}") from None
        raise BadHeaderError(f"is a damaged TIFF: {' '.join(str(e).split())}") from None


def _by_libtiff(file: bytes, size: int) -> bytes:
    from PIL import Image, TiffImagePlugin

    if size < 80_000_000:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
            return image.tobytes()
    with _LIMIT:  # Pillow's limit is there for files of unknown size; this one's was checked
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
                return image.tobytes()
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _one_strip(packed: bytes, compression: int, width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 0, 277: 1, 278: height, 279: len(packed)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + packed


def _unpack(rows: np.ndarray, bits: int, values: int) -> np.ndarray:
    """[H, bytes] -> [H, values] of 1 to 15 bits each, most significant bit first in files of either byte order."""
    single = np.unpackbits(rows, axis=1)[:, : values * bits].reshape(len(rows), values, bits)
    unpacked = np.zeros((len(rows), values), np.uint16)
    for bit in range(bits):
        unpacked += single[:, :, bit].astype(np.uint16) << np.uint16(bits - 1 - bit)
    return unpacked


def _unpredict(data: np.ndarray, predictor: int, stored: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    """Bytes -> samples in native byte order; both predictors store differences along the row, band by band."""
    height, width, bands = shape
    if predictor == FLOATING_POINT:  # differences of bytes, the most significant bytes of the whole row first
        steps = data.reshape(height, -1, bands)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(height, stored.itemsize, width * bands)
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(stored.newbyteorder(">"))
        return values.reshape(shape).astype(stored.newbyteorder("="))
    native = data.view(stored).reshape(shape).astype(stored.newbyteorder("="))
    if predictor == HORIZONTAL:
        whole = native.view(f"u{stored.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(native.dtype)
    return native
