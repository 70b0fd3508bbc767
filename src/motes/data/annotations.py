"""Boxes and sky of a sample, whatever its files look like."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motes.data.box_files import Objects, read_coco, read_labelme, read_voc, read_yolo
from motes.data.boxes import CONVENTIONS, decide_convention
from motes.data.dataset import MASK_ENDINGS, Sample
from motes.data.scan import targets
from motes.errors import DataError
from motes.imaging import image_size, read_image, read_mask
from motes.imaging.masks import palette_indices
from motes.imaging.reading import file_kind, reporting
from motes.naming import look_up, nearest

DEFAULT_CONVENTION = "1-based, end inclusive"
"""Of VOC files where no mask tells: Pascal's own."""

READERS = ("exact", "deepir", *CONVENTIONS)
"""How the corners of VOC files are read. ``exact``: under the convention that the masks show. ``deepir``: 1 is
subtracted from all four, whatever the convention, as mmdetection's reader does, and so BAFE-Net's code (``deepir``): on
DenseSIRST nearly every box then lies one pixel to the upper left of its target."""

_DECIDE_BY = 64  # masks that are looked at


class Truth(NamedTuple):
    """What an image holds.

    Attributes:
        boxes: [N, 4] float32 xyxy px, half-open.
        labels: [N] int64, index into the classes.
        ignored: [N] bool: there, but neither to be found nor to be counted as a false alarm.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def read_boxes(sample: Sample, classes: Sequence[str] | None = None, reader: str = "exact") -> Truth:
    """The boxes of an image: of its annotation, or of its mask's targets where it has no annotation.

    Boxes that reach over the edge of the image are cut there (not by the reader ``deepir``, which leaves them).
    Objects without a box are left out with a warning.

    Args:
        sample: the image.
        classes: names; objects are labelled by their place in it, in any case of letters. None: all objects are 0.
        reader: one of `READERS`; of masks and other formats than VOC's there is nothing to choose.

    Raises:
        DataError: an unreadable file, a class that is none of ``classes``, a box without area or outside of the image,
            or neither annotation nor mask.
    """
    look_up("reader", reader, READERS, DataError)
    if sample.boxes is None:
        return boxes_of_mask(_mask(sample))
    found = read_objects(sample)
    if found.bare:
        what = "an object" if found.bare == 1 else f"{found.bare} objects"
        warnings.warn(f"{sample.boxes}: {what} without a box left out ('{sample.name}')", stacklevel=2)
    boxes = found.boxes - np.array(corner_shift(sample, reader)) if found.stored else found.boxes
    _check(sample, found, boxes)
    if reader != "deepir":
        height, width = found.size or image_size(sample.image)
        boxes = boxes.clip(0, [width, height, width, height])
    labels = np.array([_label(sample, name, classes) for name in found.names], np.int64)
    return Truth(boxes.astype(np.float32), labels, found.difficult)


def read_sky(sample: Sample) -> NDArray[np.uint8]:
    """The sky map of an image, [H, W]: 1 sky, 0 other, 255 not known.

    Palette files hold these numbers; of other files, 255 is sky where no pixel is 1.

    Raises:
        DataError: there is none, or it is not of the image's size.
        ImageError: it cannot be read.
    """
    if sample.sky is None:
        raise DataError(
            f"{sample.image} has no sky map", "SkySeg/BinaryMask or SkySeg/PaletteMask of the devkit layout holds them"
        )
    check_sky(sample)
    with reporting(sample.sky):
        found = palette_indices(sample.sky, file_kind(sample.sky), 0)
    values = read_image(sample.sky).pixels.max(axis=2) if found is None else found[0]
    numbered = found is not None or bool((values == 1).any())
    sky = np.where(values == 1, 1, np.where(values == 255, 255, 0)) if numbered else values > 127
    return sky.astype(np.uint8)


def check_sky(sample: Sample) -> None:
    """Reads the header of the sky map, if there is one; DataError where it is not of the image's size."""
    if sample.sky is None:
        return
    size, there = image_size(sample.image), image_size(sample.sky)
    if there != size:
        raise DataError(
            f"{sample.sky} is {there[0]}x{there[1]} px, its image {size[0]}x{size[1]}",
            "`motes data check` lists all such pairs",
        )


def boxes_of_mask(mask: NDArray[np.bool_]) -> Truth:
    """A box around each 8-connected target of a mask [H, W], all of class 0."""
    boxes, _ = targets(mask)
    return Truth(boxes.astype(np.float32), np.zeros(len(boxes), np.int64), np.zeros(len(boxes), bool))


def mask_of_boxes(boxes: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask [H, W] in which the boxes [N, 4] are filled: every pixel whose centre lies inside, at least one each."""
    mask = np.zeros(size, bool)
    for x1, y1, x2, y2 in np.asarray(boxes, np.float64).tolist():
        left, top = (int(np.ceil(v - 0.5)) for v in (x1, y1))
        right, bottom = max(int(np.ceil(x2 - 0.5)), left + 1), max(int(np.ceil(y2 - 0.5)), top + 1)
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def read_objects(sample: Sample) -> Objects:
    """The annotation of an image as stored; the format follows from the file.

    Raises:
        DataError: unreadable, or the image is not in it.
    """
    file = sample.boxes
    if file is None:
        raise DataError(f"{sample.image} has no annotation of boxes")
    suffix = file.suffix.lower()
    if suffix == ".xml":
        return read_voc(file)
    if suffix == ".txt":
        return read_yolo(file, image_size(sample.image), sample.box_classes)
    if suffix == ".json":
        if file.stem == sample.image.stem:
            return read_labelme(file)
        found = read_coco(file)
        if sample.image.stem not in found.images:
            raise DataError(f"{file} has no image '{sample.image.stem}'")
        return found.objects(sample.image.stem)
    raise DataError(f"{file}: boxes are read from .xml (VOC), .txt (YOLO) and .json (COCO, LabelMe)")


def box_class_names(samples: Iterable[Sample]) -> list[str]:
    """The classes of the samples' boxes: as the set lists them, else as they occur; ["Target"] of masks."""
    names: dict[str, None] = {}
    for sample in samples:
        if sample.box_classes:
            names |= dict.fromkeys(sample.box_classes)
        elif sample.boxes is not None:
            names |= dict.fromkeys(read_objects(sample).names)
    return list(names) or ["Target"]


def corner_shift(sample: Sample, reader: str = "exact") -> tuple[int, int, int, int]:
    """What ``reader`` subtracts from xmin, ymin, xmax, ymax of a VOC file to get a half-open box."""
    if reader == "deepir":
        return (1, 1, 1, 1)
    low, high = CONVENTIONS[voc_convention(sample) if reader == "exact" else reader]
    return (low, low, high, high)


def reader_shift(sample: Sample, reader: str) -> NDArray[np.float64]:
    """[4] px by which ``reader`` moves the true corners of the set: -1 each for ``deepir`` on DenseSIRST, 0 on SIRST.

    That of the set, not of the image: it is what a network learns that is trained with this reader.
    """
    if reader == "exact" or sample.boxes is None or sample.boxes.suffix.lower() != ".xml":
        return np.zeros(4)
    set_wide = DEFAULT_CONVENTION if sample.mask is None else _convention(sample.boxes.parent, sample.mask.parent)
    low, high = CONVENTIONS[set_wide]
    return np.subtract((low, low, high, high), corner_shift(sample, reader)).astype(np.float64)


def voc_convention(sample: Sample) -> str:
    """The corner convention of a VOC file: that of its set, decided against the masks once a folder.

    Where all boxes of this image are those of its mask's targets under another convention, it is that one: some frames
    of DenseSIRST are stored as SIRST stores them.
    """
    if sample.boxes is None or sample.mask is None:
        return DEFAULT_CONVENTION
    return _own_convention(sample.boxes, sample.mask) or _convention(sample.boxes.parent, sample.mask.parent)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects what is warned of inside, for the run's record; a text that comes again is kept once."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield notes
    notes += dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning)


@lru_cache(maxsize=65536)
def _own_convention(boxes: Path, mask: Path) -> str | None:
    """The convention under which the boxes of one image are exactly its mask's targets."""
    stored, found = read_voc(boxes).boxes, targets(read_mask(mask))[0]
    own = decide_convention([stored], [found])
    return own.name if own and own.matched == len(stored) == len(found) else None


@lru_cache(maxsize=64)
def _convention(boxes: Path, masks: Path) -> str:
    by_stem = {f.stem: f for f in sorted(masks.iterdir())}
    stored, components = [], []
    for file in sorted(boxes.glob("*.xml")):
        mask = next((by_stem[file.stem + e] for e in MASK_ENDINGS if file.stem + e in by_stem), None)
        if mask is None:
            continue
        try:
            stored.append(read_voc(file).boxes)
            components.append(targets(read_mask(mask))[0])
        except (DataError, OSError):
            stored = stored[: len(components)]
            continue  # whoever wants this file hears of it
        if len(stored) == _DECIDE_BY:
            break
    decided = decide_convention(stored, components) if stored else None
    return decided.name if decided else DEFAULT_CONVENTION


def _check(sample: Sample, found: Objects, boxes: NDArray[np.float64]) -> None:
    """Refuses boxes without area, and such that no pixel of the image lies in."""
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    height, width = found.size or image_size(sample.image)
    away = (boxes[:, 2:] <= 0).any(axis=1) | (boxes[:, :2] >= [width, height]).any(axis=1)
    for wrong, what in ((empty, "has no area"), (away, f"lies outside of the image of {width}x{height} px")):
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            corners = ", ".join(f"{v:g}" for v in found.boxes[i])
            raise DataError(
                f"{sample.boxes}: box {i + 1} of '{sample.name}' ({corners}) {what}",
                "`motes data check` lists all such boxes",
            )


def _label(sample: Sample, name: str, classes: Sequence[str] | None) -> int:
    if classes is None:
        return 0
    lowered = [c.lower() for c in classes]
    if name.lower() in lowered:
        return lowered.index(name.lower())
    close = nearest(name, classes)
    raise DataError(
        f"{sample.boxes}: an object of '{sample.name}' is named '{name}', expected {' or '.join(classes)}",
        f"did you mean '{close}'?" if close else None,
    )


def _mask(sample: Sample) -> NDArray[np.bool_]:
    if sample.mask is None:
        raise DataError(f"{sample.image} has neither an annotation of boxes nor a mask")
    mask: NDArray[np.bool_] = read_mask(sample.mask)
    return mask
