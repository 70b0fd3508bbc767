"""Windows of large images read as they are needed, instead of patches on disk: how FarSeg and FactSeg train."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.data.classes import ClassTable
from motes.data.cutting import PATCH, STRIDE, Box, boxes, crop
from motes.data.dataset import Sample
from motes.data.labels import read_labels
from motes.errors import DataError
from motes.imaging import image_size, read_image


@dataclass(frozen=True)
class Window:
    """A part of a sample: (x0, y0, x1, y1) px, ends exclusive; may pass the right and the bottom border."""

    sample: Sample
    box: Box


def cut(samples: Iterable[Sample], rule: str = "window", patch: int = PATCH, stride: int = STRIDE) -> list[Window]:
    """The windows of all samples, sample by sample, by a rule of `motes.data.cutting.boxes`. Reads headers only.

    Raises:
        ImageError: a header cannot be read.
        DataError: unknown rule, or patch and stride that make no sense.
    """
    return [Window(sample, box) for sample in samples for box in boxes(image_size(sample.image), rule, patch, stride)]


def read_window(window: Window, table: ClassTable, cache: Decoded | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The pixels [h, w, C] of a window, dtype as in the file, and its ids [h, w] uint8.

    Where the box passes the border, pixels are 0 and ids ``table.ignore``; a sample without a mask is ignored all over.

    Args:
        window: of `cut`.
        table: the classes of the mask.
        cache: keeps decoded files; without one the whole image is decoded for every window.

    Raises:
        ImageError: a file cannot be read.
        DataError: image and mask differ in size.
    """
    sample, box = window.sample, window.box
    pixels, ids = (cache or Decoded(0)).read(sample, table)
    if ids is None:
        shape = box[3] - box[1], box[2] - box[0]
        return crop(pixels, box), np.full(shape, table.ignore, np.uint8)
    return crop(pixels, box), crop(ids, box, table.ignore)


class Decoded:
    """Images and their ids as they were read last, up to a number of bytes. Threads may share one.

    Args:
        limit: bytes; what was used longest ago is dropped beyond it.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self._held: OrderedDict[tuple[Path, ClassTable], tuple[np.ndarray, np.ndarray | None]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, sample: Sample, table: ClassTable) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels [H, W, C] and ids [H, W] of a sample; ids None where it has no mask. Not to be written into.

        Raises:
            ImageError, DataError: as `read_window`.
        """
        key = (sample.image, table)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        pair = _read(sample, table)
        size = sum(a.nbytes for a in pair if a is not None)
        if size <= self.limit:
            with self._lock:
                if key not in self._held:
                    self._held[key] = pair
                    self._bytes += size
                while self._bytes > self.limit:
                    _, old = self._held.popitem(last=False)
                    self._bytes -= sum(a.nbytes for a in old if a is not None)
        return pair


def _read(sample: Sample, table: ClassTable) -> tuple[np.ndarray, np.ndarray | None]:
    pixels = read_image(sample.image).pixels
    if sample.mask is None:
        return pixels, None
    ids = read_labels(sample.mask, table)
    if ids.shape != pixels.shape[:2]:
        raise DataError(different_sizes(sample, pixels.shape, ids.shape))
    return pixels, ids


def different_sizes(sample: Sample, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    """The sentence about an image and a mask of other shapes ([H, W, ...])."""
    return f"{sample.image} is {image[1]}x{image[0]} and its mask {sample.mask} {mask[1]}x{mask[0]} (width x height)"
