"""Where large images are cut: the three rules under which iSAID results are published.

Patch and stride default to 896 and 512 px as in FarSeg, FactSeg and PFNet. For images larger than a patch in both
directions the three rules give the same windows. Boxes are (x0, y0, x1, y1) px, ends exclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from motes.errors import DataError
from motes.naming import look_up

Box = tuple[int, int, int, int]

PATCH, STRIDE = 896, 512


def boxes(size: tuple[int, int], rule: str, patch: int = PATCH, stride: int = STRIDE) -> list[Box]:
    """The windows of an image of ``size`` (height, width), each once, in the published order.

    - ``split`` (iSAID devkit, PFNet): columns first; an image that is not larger than a patch in BOTH directions stays
      whole, also 896 x 2000.
    - ``window`` (FarSeg, FactSeg): rows first; a side shorter than a patch gives windows as short, never padded.
    - ``pad-split`` (MMSegmentation, PaddleRS): sides shorter than a patch are padded at the right and the bottom, then
      as ``split``; boxes may pass the border of the image. The published script does not pad an image with one side
      shorter than a patch and the other exactly as long, and cuts a sliver with negative coordinates (800 x 896 becomes
      96 rows); here it is padded as all others are.
    - ``whole``: one window.

    A last window that would pass the border is shifted back to end at it.

    Raises:
        DataError: unknown rule, or patch and stride that make no sense.
    """
    rule = look_up("cutting rule", rule, RULES, DataError)
    if patch < 1 or not 1 <= stride <= patch:
        raise DataError(
            f"patch {patch} and stride {stride} px: expected a patch of at least 1 and a stride of 1 to the patch",
            "a stride beyond the patch would leave pixels out",
        )
    return list(dict.fromkeys(RULES[rule](*size, patch, stride)))


def is_whole(box: Box, size: tuple[int, int]) -> bool:
    """Whether ``box`` is all of an image of ``size`` (height, width) and nothing more."""
    return box == (0, 0, size[1], size[0])


def crop(pixels: np.ndarray, box: Box, fill: int = 0) -> np.ndarray:
    """The part of ``pixels`` [H, W] or [H, W, C] in ``box``; what lies beyond the image is ``fill``."""
    x0, y0, x1, y1 = box
    height, width = pixels.shape[:2]
    inside = pixels[y0 : min(y1, height), x0 : min(x1, width)]
    if x1 <= width and y1 <= height:
        return inside
    padded = np.full((y1 - y0, x1 - x0, *pixels.shape[2:]), fill, pixels.dtype)
    padded[: inside.shape[0], : inside.shape[1]] = inside
    return padded


def patch_name(stem: str, box: Box) -> str:
    """The devkit's name of a patch, rows first: ``P0003_0_896_512_1408``."""
    x0, y0, x1, y1 = box
    return f"{stem}_{y0}_{y1}_{x0}_{x1}"


def _whole(height: int, width: int, patch: int, stride: int) -> Iterator[Box]:
    yield 0, 0, width, height


def _split(height: int, width: int, patch: int, stride: int) -> Iterator[Box]:
    if height > patch and width > patch:
        yield from _columns_first(height, width, patch, stride)
    else:
        yield from _whole(height, width, patch, stride)


def _pad_split(height: int, width: int, patch: int, stride: int) -> Iterator[Box]:
    yield from _columns_first(max(height, patch), max(width, patch), patch, stride)


def _columns_first(height: int, width: int, patch: int, stride: int) -> Iterator[Box]:
    """Starts at every multiple of the stride inside, so windows at the border come up more than once."""
    for left in range(0, width, stride):
        for top in range(0, height, stride):
            x1, y1 = min(left + patch, width), min(top + patch, height)
            yield x1 - patch, y1 - patch, x1, y1


def _window(height: int, width: int, patch: int, stride: int) -> Iterator[Box]:
    h, w = min(patch, height), min(patch, width)
    for top in _starts(height, h, stride):
        for left in _starts(width, w, stride):
            yield left, top, left + w, top + h


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = -(-(length - window) // stride) + 1
    return [min(i * stride, length - window) for i in range(count)]


RULES: dict[str, Callable[[int, int, int, int], Iterator[Box]]] = {
    "split": _split,
    "window": _window,
    "pad-split": _pad_split,
    "whole": _whole,
}
