"""Images from files, with the dtype and the counts that are in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.errors import ImageError
from motes.imaging import headers
from motes.imaging.headers import BadHeaderError, Header, check_size
from motes.imaging.paths import check_file


@dataclass(frozen=True, eq=False)
class Image:
    """One image (or one page of a file) in sensor counts.

    Attributes:
        pixels: [H, W, C], dtype and counts as in the file: uint8, uint16, other integers, float.
        path: where it came from; None for an array made in memory.
        page: which page of the file, from 0.
        pages: how many pages the file has.
    """

    pixels: np.ndarray
    path: Path | None = None
    page: int = 0
    pages: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def read_image(path: str | Path, page: int = 0, *, alpha: bool = False, finite: bool = True) -> Image:
    """Reads PNG, BMP, JPEG, TIFF or ``.npy`` without changing a count.

    What is in the file decides, not its suffix. Grey stays one channel and RGB three, even where the three are equal;
    palettes become their colours (`read_mask` reads the indices); 1-, 2- and 4-bit grey is spread over 0..255; packed
    10-, 12- and 14-bit TIFF keeps its counts in uint16; a TIFF that calls 0 white is inverted, so that larger is always
    brighter; big-endian becomes native. EXIF orientation and colour profiles are not applied.

    Args:
        path: the file.
        page: which page of a TIFF, from 0.
        alpha: keep the transparency channel of PNG and TIFF files as the last one; otherwise it is left out.
        finite: refuse floats that are NaN or infinite.

    Raises:
        ImageError: the file is missing, unreadable, not an image, cut short, empty, larger than `MAX_PIXELS`, has no
            such page, or (``finite``) holds NaN or infinite values.
    """
    path = Path(path)
    size = check_file(path)
    with reporting(path):
        kind = file_kind(path)
        pages = 1
        if kind == "TIFF":
            from motes.imaging.tiff import read_tiff

            pixels, pages = read_tiff(path, page, size, alpha)
        elif page != 0:
            raise BadHeaderError(f"has 1 page, there is no page {page} (pages count from 0)")
        elif kind == "NPY":
            pixels = _read_npy(path, size)
        else:
            pixels = _decode(path, kind, alpha)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if finite:
        check_finite(pixels, str(path))
    return Image(np.ascontiguousarray(pixels), path, page, pages)


def image_size(path: str | Path, page: int = 0) -> tuple[int, int]:
    """(height, width) in px from the header alone; the pixels are not read.

    Raises:
        ImageError: as `read_image`, as far as the header shows it.
    """
    path = Path(path)
    size = check_file(path)
    with reporting(path):
        kind = file_kind(path)
        if kind == "TIFF":
            from motes.imaging.tiff import tiff_size

            return tiff_size(path, page)
        if kind == "NPY":
            shape, _, _ = _npy_header(path)
            return shape[0], shape[1]
        with path.open("rb") as file:
            data = file.read(1 << 14)
            try:
                header = _header(data, kind, size, whole=False)
            except BadHeaderError:  # large EXIF and profile segments may come before a JPEG's frame header
                header = _header(data + file.read(), kind, size, whole=False)
        check_size(header.height, header.width)
    return header.height, header.width


def check_finite(pixels: np.ndarray, where: str) -> None:
    """Raises ImageError if a float array holds NaN or infinite values."""
    if pixels.dtype.kind != "f":
        return
    bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
    if bad:
        raise ImageError(
            f"{where}: {bad} of {pixels.size} values are NaN or infinite",
            "replace them first, for instance by the median of the frame",
        )


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turns what goes wrong while ``path`` is read into one sentence that starts with its name."""
    try:
        yield
    except BadHeaderError as e:
        raise ImageError(f"{path}: {e}") from None
    except MemoryError:
        raise ImageError(f"{path}: does not fit into memory") from None
    except OSError as e:
        raise ImageError(f"{path}: cannot be read: {e.strerror or e}") from None


def read_bytes(path: Path, kind: str) -> tuple[bytes, Header]:
    """The whole of a PNG, JPEG or BMP after its header was checked, PNGs without their ancillary chunks."""
    with path.open("rb") as file:
        head = file.read(64)
        if kind != "JPEG":
            check = _header(head, kind, path.stat().st_size, whole=False)
            check_size(check.height, check.width)
        data = head + file.read()
    header = _header(data, kind, len(data), whole=True)
    check_size(header.height, header.width)
    if kind == "PNG":
        data = headers.png_pixels(data, header)
    return data, header


def file_kind(path: Path) -> str:
    """One of "PNG", "JPEG", "BMP", "TIFF" and "NPY", by content; BadHeaderError for anything else."""
    with path.open("rb") as file:
        head = file.read(64)
    kind = headers.file_format(head)
    if kind is None:
        raise BadHeaderError(f"is not an image but {headers.describe(head)}, expected PNG, BMP, JPEG, TIFF or .npy")
    return kind


def _header(data: bytes, kind: str, size: int, whole: bool) -> Header:
    if kind == "PNG":
        return headers.png_header(data)
    if kind == "JPEG":
        return headers.jpeg_header(data, whole)
    return headers.bmp_header(data, size)


def _decode(path: Path, kind: str, alpha: bool) -> np.ndarray:
    import cv2

    data, header = read_bytes(path, kind)
    with quiet_opencv():
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise BadHeaderError(f"is a damaged {kind}, its pixels cannot be decoded")
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4 and kind == "PNG" and header.kind == 4:  # grey with alpha comes back as BGRA
        return pixels[:, :, 2:] if alpha else pixels[:, :, :1]
    if pixels.shape[2] == 4:
        keep = alpha and kind == "PNG"
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if keep else cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV's messages on stderr say less than ours, and come even where all is well."""
    import cv2

    # where it is: OpenCV 4, else OpenCV 5
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    level = set_level(0)
    try:
        yield
    finally:
        set_level(level)


def _npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    from numpy.lib import format as npy

    with path.open("rb") as file:
        try:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except Exception as e:  # numpy parses it as Python: ValueError, SyntaxError, TokenError, MemoryError, ...
            raise BadHeaderError(f"is a .npy file with a damaged header: {' '.join(str(e).split())[:100]}") from None
    if dtype.kind not in "buif":
        raise BadHeaderError(f"holds values of type {dtype}, expected integers or floats")
    if len(shape) not in (2, 3):
        raise BadHeaderError(f"has shape {list(shape)}, expected [H, W] or [H, W, C]")
    check_size(shape[0], shape[1], int(np.prod(shape[2:], dtype=np.int64)) * dtype.itemsize)
    if len(shape) == 3 and (shape[2] == 0 or shape[0] <= 4 < shape[2]):
        raise BadHeaderError(f"has shape {list(shape)}, expected [H, W] or [H, W, C]; channels come last")
    return shape, fortran, dtype


def _read_npy(path: Path, size: int) -> np.ndarray:
    shape, _, dtype = _npy_header(path)
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > size:
        raise BadHeaderError(f"is a .npy file cut short at {size} bytes")
    try:
        pixels = np.load(path, allow_pickle=False)
    except ValueError as e:
        raise BadHeaderError(f"is a damaged .npy file: {e}") from None
    if dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    return pixels.astype(dtype.newbyteorder("="), copy=False)
