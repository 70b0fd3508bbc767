"""The one resize of this package: Pillow's, number for number.

Published protocols resize with Pillow's bilinear filter, which widens with the reduction (it averages). OpenCV's
INTER_LINEAR does not, and differs from it by tens of grey levels on real frames.
"""

from __future__ import annotations

import numpy as np

from motes.errors import ImageError
from motes.naming import look_up

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "area")
"""Pillow's names; "area" is its BOX."""


def resize(pixels: np.ndarray, size: tuple[int, int], filter: str = "bilinear") -> np.ndarray:
    """[H, W] or [H, W, C] of any dtype -> ``size`` = (height, width), same dtype; always a new array.

    uint8 gives what ``PIL.Image.resize`` gives in modes L and RGB. Other types go through Pillow's 32-bit float mode
    channel by channel and are rounded to the nearest integer and limited to the dtype's range: exact for 16-bit counts
    and float32; int32 and float64 keep 24 bits. Channels never mix (no premultiplied alpha). "nearest" copies values of
    any dtype and is the only filter for booleans: masks are resized by it.

    Raises:
        ImageError: unknown filter, a size below 1, an empty array, or booleans with another filter than "nearest".
    """
    look_up("filter", filter, FILTERS, ImageError)
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1 or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ImageError(f"cannot resize shape {list(pixels.shape)} to height {height}, width {width}")
    if pixels.dtype == bool and filter != "nearest":
        raise ImageError(f"cannot resize a mask with filter '{filter}'", "use 'nearest'")
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    if filter == "nearest":
        rows, columns = _nearest(pixels.shape[0], height), _nearest(pixels.shape[1], width)
        return pixels.take(columns, axis=1).take(rows, axis=0)  # several times faster than indexing by both at once
    if pixels.ndim == 2:
        return _plane(pixels, height, width, filter)
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return _plane(pixels, height, width, filter)
    return np.stack([_plane(pixels[:, :, c], height, width, filter) for c in range(pixels.shape[2])], axis=2)


def _plane(pixels: np.ndarray, height: int, width: int, filter: str) -> np.ndarray:
    from PIL import Image

    method = Image.Resampling["BOX" if filter == "area" else filter.upper()]
    dtype = pixels.dtype
    source = np.ascontiguousarray(pixels, dtype=np.uint8 if dtype == np.uint8 else np.float32)
    resized = np.array(Image.fromarray(source).resize((width, height), method))
    if dtype.kind not in "iu" or dtype == np.uint8:
        return resized.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(resized.astype(np.float64)), limits.min, limits.max).astype(dtype)


def _nearest(old: int, new: int) -> np.ndarray:
    """Which of ``old`` rows Pillow copies to each of ``new``: asked from Pillow, whose rounding accumulates."""
    from PIL import Image

    return np.array(Image.fromarray(np.arange(old, dtype=np.int32)[None]).resize((new, 1), Image.Resampling.NEAREST))[0]
