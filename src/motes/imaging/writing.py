"""Images into files, whole or not at all, and never with fewer bits than they had."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motes.errors import ImageError
from motes.imaging.paths import IMAGE_SUFFIXES, atomic_path
from motes.naming import nearest

_HOLDS = {
    ".png": (("uint8", "uint16"), (1, 3, 4)),
    ".bmp": (("uint8",), (1, 3)),
    ".jpg": (("uint8",), (1, 3)),
    ".jpeg": (("uint8",), (1, 3)),
}


def write_image(path: str | Path, pixels: np.ndarray, *, quality: int = 95, compress: bool = False) -> None:
    """Writes [H, W] or [H, W, C] pixels in the format of the suffix; the file is complete or not there.

    PNG takes uint8 and uint16 (grey, RGB, RGBA), BMP uint8 (grey, RGB), JPEG the same at ``quality`` and with its
    losses, TIFF and ``.npy`` any integer or float type and any number of channels. Booleans become 0 and 255.

    Args:
        path: where to; missing folders are made.
        pixels: counts; three channels are RGB.
        quality: of JPEG, 1 to 100.
        compress: deflate TIFF pages (lossless, readable by everything).

    Raises:
        ImageError: the suffix is unknown, the array is not an image, or the format cannot hold it without loss.
        OSError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        close = nearest(suffix, IMAGE_SUFFIXES) or ", ".join(IMAGE_SUFFIXES)
        raise ImageError(f"{path}: cannot write images of type '{suffix}'", f"known: {close}")
    pixels = _checked(path, pixels)
    if suffix in _HOLDS:
        dtypes, bands = _HOLDS[suffix]
        if pixels.dtype.name not in dtypes or pixels.shape[2] not in bands:
            raise ImageError(
                f"{path}: {suffix[1:]} cannot hold {pixels.shape[2]} channels of {pixels.dtype.name} without loss",
                "write .tif or .npy",
            )
    with atomic_path(path) as temporary:
        if suffix == ".npy":
            _write_npy(temporary, pixels)
        elif suffix in (".tif", ".tiff"):
            _write_tiff(temporary, pixels, compress)
        else:
            temporary.write_bytes(_encoded(path, suffix, pixels, quality))


def _checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    pixels = np.asarray(pixels)
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "buif":
        raise ImageError(f"{path}: expected [H, W] or [H, W, C] numbers, found {list(pixels.shape)} of {pixels.dtype}")
    if pixels.size == 0:
        raise ImageError(f"{path}: there are no pixels to write, the array has shape {list(pixels.shape)}")
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _encoded(path: Path, suffix: str, pixels: np.ndarray, quality: int) -> bytes:
    import cv2

    bands = pixels.shape[2]
    if bands == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    elif bands == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    # OpenCV's default for PNG codes runs only: four times the size of level 1, in the same time.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        ok, data = cv2.imencode(suffix, pixels, options)
    except cv2.error:
        ok = False
    if not ok:
        raise ImageError(f"{path}: {suffix[1:]} cannot hold {pixels.shape[1]}x{pixels.shape[0]} pixels", "write .tif")
    return data.tobytes()


def _write_tiff(path: Path, pixels: np.ndarray, compress: bool) -> None:
    import tifffile

    colour = pixels.shape[2] == 3 and pixels.dtype in (np.uint8, np.uint16)
    tifffile.imwrite(
        path,
        pixels[:, :, 0] if pixels.shape[2] == 1 else pixels,
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        compression="zlib" if compress else None,
        metadata=None,
    )


def _write_npy(path: Path, pixels: np.ndarray) -> None:
    from numpy.lib import format as npy

    with path.open("wb") as file:  # not np.save: on a full disk it raises an error without a reason
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(pixels))
        file.write(pixels.data)
