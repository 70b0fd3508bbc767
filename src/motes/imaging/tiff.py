"""TIFF pages: by tifffile, or by `tiff_segments` and Pillow for compressions that it cannot decode alone."""

from __future__ import annotations

import importlib.util
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from motes.imaging.headers import BadHeaderError, check_size
from motes.imaging.tiff_segments import assemble, can_assemble

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
JPEG, FAX, WEBP = (6, 7), (2, 3, 4), 50001


def read_tiff(path: Path, page: int, size: int, alpha: bool, labels: bool = False) -> tuple[np.ndarray, int]:
    """([H, W] or [H, W, C] pixels of one page, number of pages); ``labels``: palette indices instead of colours."""
    with open_tiff(path) as file:
        pages = len(file.pages)
        ifd = tiff_page(file, page, pages)
        check_whole(ifd, size)
        pixels = _decode(path, ifd, page)
        photometric = _number(ifd.photometric)
        axes = ifd.axes
        bits = int(np.max(ifd.bitspersample))
        palette = _palette(ifd) if photometric == PALETTE else None
        extra = tuple(_number(e) for e in (ifd.extrasamples or ()))
    if pixels.dtype.kind not in "buif":
        raise BadHeaderError(f"is a TIFF with values of type {pixels.dtype}, expected integers or floats")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim not in (2, 3) or axes.startswith("Z"):
        raise BadHeaderError(f"is a TIFF with axes {axes}, expected one plane of pixels a page")
    if palette is not None:
        return (pixels if labels else _colours(pixels, palette)), pages
    pixels = _spread(pixels, bits)
    if photometric == MIN_IS_WHITE and pixels.dtype.kind == "u":
        top = (1 << bits) - 1 if bits > 8 else 255
        pixels = np.subtract(top, pixels, dtype=pixels.dtype)
    if pixels.ndim == 3 and not alpha and extra and extra[-1] in (1, 2) and pixels.shape[2] > 1:
        pixels = pixels[:, :, :-1]
    return pixels, pages


def tiff_size(path: Path, page: int) -> tuple[int, int]:
    """(height, width) of a page, px."""
    with open_tiff(path) as file:
        ifd = tiff_page(file, page, len(file.pages))
        return int(ifd.imagelength), int(ifd.imagewidth)


def tiff_palette(path: Path, page: int) -> tuple[np.ndarray, np.ndarray] | None:
    """([H, W] indices, [n, 3] colours) of a palette page; None for any other."""
    with open_tiff(path) as file:
        ifd = tiff_page(file, page, len(file.pages))
        if _number(ifd.photometric) != PALETTE:
            return None
        colours = _palette(ifd)
    return read_tiff(path, page, path.stat().st_size, alpha=False, labels=True)[0], colours


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """The file of tifffile; everything that goes wrong inside becomes a BadHeaderError."""
    import tifffile

    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # its warnings reach a program that set up logging, and not the stderr of one that did not
        logger.addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except (BadHeaderError, OSError, MemoryError):
        raise
    except (ValueError, RuntimeError) as e:  # among them tifffile's own
        raise BadHeaderError(f"is a damaged TIFF: {_short(e)}") from None
    except Exception:  # struct.error, KeyError, TypeError, ...: a damaged header ends in any of them
        raise BadHeaderError("is a damaged TIFF: its header contradicts itself") from None


def tiff_page(file: Any, page: int, pages: int) -> Any:
    """The directory of a page; BadHeaderError where there is none, or one too large to read."""
    if pages == 0:
        raise BadHeaderError("is a TIFF cut short or damaged: it has no page")
    if _next_page(file, file.pages[pages - 1]) != 0:
        raise BadHeaderError(f"is a TIFF cut short or damaged after its page {pages - 1}")
    if not 0 <= page < pages:
        raise BadHeaderError(f"has {pages} page{'s' * (pages > 1)}, there is no page {page} (pages count from 0)")
    ifd = file.pages[page]
    pixel_bytes = int(ifd.samplesperpixel) * max(1, int(np.max(ifd.bitspersample)) // 8)
    check_size(int(ifd.imagelength), int(ifd.imagewidth), pixel_bytes)
    return ifd


def _next_page(file: Any, ifd: Any) -> int:
    """Byte at which the file says that the next page's directory is; 0 after the last page."""
    layout, handle = file.tiff, file.filehandle
    handle.seek(ifd.offset)
    (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(ifd.offset + layout.tagnosize + tags * layout.tagsize)
    return int(struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))[0])


def check_whole(ifd: Any, size: int) -> None:
    """Raises BadHeaderError where strips or tiles lie beyond the end of the file."""
    offsets, counts = ifd.dataoffsets, ifd.databytecounts
    segments = int(np.prod(ifd.chunked)) if ifd.chunks else 0
    if segments == 0 or min(len(offsets), len(counts)) < segments:
        raise BadHeaderError("is a TIFF cut short or damaged: it does not say where all its pixels are")
    if max(o + c for o, c in zip(offsets, counts, strict=False)) > size:
        raise BadHeaderError(f"is a TIFF cut short at {size} bytes")


def _decode(path: Path, ifd: Any, page: int) -> np.ndarray:
    photometric, compression = _number(ifd.photometric), _number(ifd.compression)
    known = photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE)
    if not known and not (photometric == YCBCR and compression in JPEG):
        colours = getattr(ifd.photometric, "name", photometric)
        raise BadHeaderError(f"is a TIFF whose colours are stored as {colours}, expected grey, RGB or a palette")
    try:
        pixels = ifd.asarray()
        return np.moveaxis(pixels, 0, -1) if ifd.axes.startswith("S") and pixels.ndim == 3 else pixels
    except MemoryError:
        raise
    except Exception as e:  # a compression without its package, or any error that damaged data can cause
        problem = _short(e)
    if _has_imagecodecs():  # then nothing was missing but good data
        raise BadHeaderError(f"is a damaged TIFF: {problem}")
    if known and can_assemble(ifd):
        pixels = assemble(ifd)
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    pixels = _by_pillow(path, ifd, page)
    if pixels is not None:
        return pixels
    name = getattr(ifd.compression, "name", compression)
    raise BadHeaderError(f"is a TIFF compressed with {name}, which needs one more package: pip install imagecodecs")


def _has_imagecodecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _by_pillow(path: Path, ifd: Any, page: int) -> np.ndarray | None:
    """JPEG, WebP and fax pages, of 8 bits or one, where Pillow returns every band."""
    from PIL import TiffImagePlugin

    if _number(ifd.compression) not in (*JPEG, *FAX, WEBP) or ifd.dtype not in (np.uint8, np.bool_):
        return None
    try:
        with warnings.catch_warnings(action="ignore"), TiffImagePlugin.TiffImageFile(path) as image:
            image.seek(page)
            pixels = np.array(image)
    except Exception:
        return None
    expected = (int(ifd.imagelength), int(ifd.imagewidth), int(ifd.samplesperpixel))
    if (*pixels.shape, 1)[:3] != expected or pixels.dtype not in (np.uint8, np.bool_):
        return None
    # Pillow has already inverted what `read_tiff` is going to invert
    return ~pixels if _number(ifd.photometric) == MIN_IS_WHITE else pixels


def _palette(ifd: Any) -> np.ndarray:
    """[n, 3] uint8 colours."""
    table = np.asarray(ifd.colormap)
    if table.ndim != 2 or table.shape[0] != 3 or table.size == 0 or table.dtype.kind != "u":
        raise BadHeaderError("is a damaged TIFF: its palette is missing")
    return (table.T >> 8 if table.max() > 255 else table.T).astype(np.uint8)  # some writers put 8 bits into the 16


def _colours(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    if indices.ndim != 2 or indices.dtype.kind not in "bu" or int(indices.max()) >= len(palette):
        raise BadHeaderError(f"is a damaged TIFF: its indices do not fit its palette of {len(palette)} colours")
    return palette[indices.astype(np.intp)]


def _spread(pixels: np.ndarray, bits: int) -> np.ndarray:
    """1-, 2- and 4-bit grey over 0..255, as PNG readers do."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if bits < 8 and pixels.dtype == np.uint8:
        return pixels * np.uint8(255 // ((1 << bits) - 1))
    return pixels


def _number(value: Any) -> int:
    return -1 if value is None else int(value)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 120 else text[:117] + "..."
