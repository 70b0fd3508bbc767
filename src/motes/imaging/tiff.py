"""TIFF pages: tifffile first, Pillow and OpenCV for compressions that it cannot decode alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from motes.imaging.headers import BadHeaderError

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6


def read_tiff(path: Path, page: int, size: int, alpha: bool, labels: bool = False) -> tuple[np.ndarray, int]:
    """([H, W] or [H, W, C] pixels of one page, number of pages); ``labels``: palette indices instead of colours."""
    with _open(path) as file:
        pages = len(file.pages)
        ifd = _page(file, page, pages)
        _check_whole(ifd, size)
        pixels = _decode(path, ifd, page)
        photometric = _number(ifd.photometric)
        axes = ifd.axes
        bits = int(ifd.bitspersample) if not isinstance(ifd.bitspersample, tuple) else int(ifd.bitspersample[0])
        palette = ifd.colormap if photometric == PALETTE else None
        extra = tuple(_number(e) for e in (ifd.extrasamples or ()))
    if pixels.dtype.kind not in "buif":
        raise BadHeaderError(f"is a TIFF with values of type {pixels.dtype}, expected integers or floats")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if axes.startswith("S") and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3):
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
    with _open(path) as file:
        ifd = _page(file, page, len(file.pages))
        return int(ifd.imagelength), int(ifd.imagewidth)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    import tifffile

    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # its warnings reach a program that set up logging, and not the stderr of one that did not
        logger.addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except (BadHeaderError, OSError, MemoryError):
        raise
    except Exception as e:  # struct.error, KeyError, IndexError, TiffFileError, ...: a damaged file ends in any of them
        raise BadHeaderError(f"is a damaged TIFF: {_short(e)}") from None


def _page(file: Any, page: int, pages: int) -> Any:
    from motes.imaging.reading import check_size

    if pages == 0:
        raise BadHeaderError("is a TIFF cut short or damaged: it has no page")
    if not 0 <= page < pages:
        raise BadHeaderError(f"has {pages} page{'s' * (pages > 1)}, there is no page {page} (pages count from 0)")
    ifd = file.pages[page]
    check_size(int(ifd.imagelength), int(ifd.imagewidth))
    return ifd


def _check_whole(ifd: Any, size: int) -> None:
    offsets, counts = ifd.dataoffsets, ifd.databytecounts
    if not offsets or not counts:
        raise BadHeaderError("is a TIFF cut short or damaged: it says nowhere where its pixels are")
    if max(o + c for o, c in zip(offsets, counts, strict=False)) > size:
        raise BadHeaderError(f"is a TIFF cut short at {size} bytes")


def _decode(path: Path, ifd: Any, page: int) -> np.ndarray:
    photometric, compression = _number(ifd.photometric), _number(ifd.compression)
    plain = photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE) or (
        photometric == YCBCR and compression in (6, 7)
    )
    problem = (
        f"its colours are stored as {getattr(ifd.photometric, 'name', photometric)}, expected grey, RGB or a palette"
    )
    if plain:
        try:
            return ifd.asarray()
        except Exception as e:
            problem = _short(e)
    pixels = _by_pillow(path, ifd, page)
    if pixels is None:
        pixels = _by_opencv(path, ifd, page)
    if pixels is None:
        name = getattr(ifd.compression, "name", compression)
        if plain and "imagecodecs" in problem:
            raise BadHeaderError(
                f"is a TIFF compressed with {name}, which needs one more package: pip install imagecodecs"
            )
        raise BadHeaderError(f"is a TIFF that cannot be decoded: {problem}")
    return pixels


def _by_pillow(path: Path, ifd: Any, page: int) -> np.ndarray | None:
    """Only where Pillow keeps every bit: it has no 16-bit RGB, and would return its upper bytes."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            image.seek(page)
            if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I;16B", "I", "F"):
                return None
            pixels = np.asarray(image)
    except Exception:
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if pixels.dtype == bool:
        return _undo_white(pixels, ifd)
    return _undo_white(pixels, ifd) if pixels.dtype == ifd.dtype else None


def _undo_white(pixels: np.ndarray, ifd: Any) -> np.ndarray:
    """Pillow and OpenCV have inverted files whose 0 is white already; `read_tiff` does it again."""
    if _number(ifd.photometric) != MIN_IS_WHITE or pixels.dtype not in (bool, np.uint8):
        return pixels
    return ~pixels


def _by_opencv(path: Path, ifd: Any, page: int) -> np.ndarray | None:
    import cv2

    from motes.imaging.reading import quiet_opencv

    if _number(ifd.photometric) not in (MIN_IS_BLACK, RGB, YCBCR):
        return None
    with quiet_opencv():
        try:
            data = np.fromfile(path, np.uint8)
            ok, found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page, page + 1))
        except cv2.error:
            return None
    if not ok or not found or found[0].dtype != ifd.dtype:
        return None
    pixels = found[0]
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return pixels


def _colours(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    table = np.asarray(palette).T
    table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)  # some writers put 8 bits into the 16
    if int(indices.max()) >= len(table):
        raise BadHeaderError(f"is a TIFF with colour {int(indices.max())}, but its palette has {len(table)}")
    return table[indices]


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


def tiff_palette(path: Path, page: int) -> tuple[np.ndarray, np.ndarray] | None:
    """([H, W] indices, [n, 3] colours) of a palette page; None for any other."""
    with _open(path) as file:
        ifd = _page(file, page, len(file.pages))
        if _number(ifd.photometric) != PALETTE:
            return None
        colours = np.asarray(ifd.colormap).T
    return read_tiff(path, page, path.stat().st_size, alpha=False, labels=True)[0], colours
