"""Masks of any origin as one boolean plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motes.imaging.headers import BadHeaderError
from motes.imaging.paths import check_file
from motes.imaging.reading import file_kind, read_bytes, read_image, reporting


def read_mask(path: str | Path, page: int = 0) -> np.ndarray:
    """Target pixels of a mask file, bool [H, W].

    The rule, by what the file holds:

    - palette (PNG, BMP, TIFF): every index but the background's, which is 0, or the black one if index 0 is not black;
    - one channel: values above half of full scale (128 and more of 255, 32768 and more of 65535, 0.5 for floats). Where
      no value reaches that, the values are label numbers, as in 0/1 or 0/1/2 masks, and everything above 0 is target.
      JPEG always takes the half: compression leaves a few counts of noise around its edges;
    - colours: the same rule on the largest of the channels; transparency is left out.

    So 0/255, 0/1 and palette copies of one mask give the same pixels, and anti-aliased borders are cut in the middle.

    Raises:
        ImageError: as `read_image`.
    """
    path = Path(path)
    check_file(path)
    with reporting(path):
        kind = file_kind(path)
        found = palette_indices(path, kind, page)
    if found is not None:
        indices, palette = found
        return indices != _background(indices, palette)
    pixels = read_image(path, page).pixels
    grey = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels.max(axis=2)
    return targets(grey, lossy=kind == "JPEG")


def targets(grey: np.ndarray, lossy: bool = False) -> np.ndarray:
    """The one-channel rule of `read_mask`: [H, W] of any dtype -> bool [H, W]."""
    if grey.dtype == bool:
        return grey
    top = grey.max(initial=0)
    if grey.dtype.kind == "f":
        half = 0.5 if top <= 1 else 127.5 if top <= 255 else 32767.5
    else:
        half = 127.5 if top <= 255 else 32767.5
    if top > half or lossy:
        return grey > half
    return grey > 0


def palette_indices(path: Path, kind: str, page: int) -> tuple[np.ndarray, np.ndarray] | None:
    """([H, W] indices, [n, 3] colours) of a palette file; None for any other."""
    if kind == "TIFF":
        from motes.imaging.tiff import tiff_palette

        return tiff_palette(path, page)
    if kind not in ("PNG", "BMP"):
        return None
    data, header = read_bytes(path, kind)
    if (kind == "PNG" and header.kind != 3) or (kind == "BMP" and header.bits > 8):
        return None
    import io

    from PIL import BmpImagePlugin, PngImagePlugin

    reader = PngImagePlugin.PngImageFile if kind == "PNG" else BmpImagePlugin.BmpImageFile
    try:
        with reader(io.BytesIO(data)) as image:
            if image.mode != "P":  # a BMP whose palette is a grey ramp
                return None
            indices = np.array(image)
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    except Exception as e:  # Pillow raises SyntaxError, ValueError, OSError, ... on damaged files
        raise BadHeaderError(f"is a damaged {kind}: {e}") from None
    return indices, palette


def _background(indices: np.ndarray, palette: np.ndarray) -> int:
    if len(palette) and palette[0].any():
        for index in np.unique(indices):
            if index < len(palette) and not palette[index].any():
                return int(index)
    return 0
