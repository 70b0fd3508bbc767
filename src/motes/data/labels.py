"""Label files: colours, palettes and grey values into ids, and ids back into files that keep them.

Ids are [H, W] uint8; 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from motes.data.classes import ClassTable, Colour
from motes.errors import ImageError
from motes.imaging import atomic_path, read_image
from motes.imaging.headers import BadHeaderError, png_header
from motes.imaging.masks import palette_indices
from motes.imaging.paths import check_file
from motes.imaging.reading import file_kind, reporting

Unknown = dict[Colour, int]
"""(R, G, B) that is no class's -> how many pixels have it. Grey values are given as three equal numbers."""

_BLOCK = 1 << 20  # px converted at a time: an index takes 8 bytes


@dataclass(frozen=True, eq=False)
class Labels:
    """One label file.

    Attributes:
        ids: [H, W] uint8; what is unknown became 0.
        unknown: colours or values that are no class's, the most frequent first.
        form: what the file holds: "colours", "palette" or "grey".
        collapsed: the ids were lost when the file was written, see `read_counted`.
    """

    ids: np.ndarray
    unknown: Unknown
    form: str
    collapsed: bool = False


def read_labels(path: str | Path, table: ClassTable) -> np.ndarray:
    """The ids of a label file, [H, W] uint8, by the rules of `read_counted`.

    Single foreign colours become background (id 0), as in all published code; `motes data check` counts them.

    Raises:
        ImageError: the file cannot be read; it is no label file of this table: grey values that are no ids, or more
            than half of its pixels in foreign colours; or its ids were lost.
    """
    found = read_counted(path, table)
    if found.collapsed:
        raise ImageError(f"{path}: its ids are lost, only 0 and 1 are left", COLLAPSED)
    foreign = sum(found.unknown.values())
    if foreign and (found.form != "colours" or 2 * foreign > found.ids.size):
        hint = f"class table '{table.name}' has {table.num_classes} classes"
        raise ImageError(f"{path}: {described(found.unknown, found.form)}", hint)
    return found.ids


COLLAPSED = "Pillow does that to a palette image without a palette: make the masks again, as grey images (mode L)"


def read_counted(path: str | Path, table: ClassTable) -> Labels:
    """A label file as ids, with what is unknown in it counted instead of refused. What the file holds decides:

    - one channel: ``table.values``, or the ids themselves; 16-bit files too, if no value passes 255;
    - three channels: the colours of the table, exactly; where they are equal everywhere and no colours of the table,
      they are one channel stored three times. Transparency is left out;
    - palette: by its colours where those in use are the table's, else the indices are the ids.

    A palette file written by Pillow without a palette has lost its ids: it has one bit a pixel and, for index 1, no
    colour. It is marked as ``collapsed``.

    Raises:
        ImageError: as `read_image`; or a JPEG, floats, or values above 255.
    """
    path = Path(path)
    check_file(path)
    with reporting(path):
        kind = file_kind(path)
        if kind == "JPEG":
            raise BadHeaderError("is a JPEG, whose colours are not exact; expected a label file without losses")
        found = palette_indices(path, kind, 0)
    if found is not None:
        return _from_palette(*found, table)
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        top = pixels.max(initial=0)
        if pixels.dtype.kind not in "ui" or top > 255 or pixels.min(initial=0) < 0:
            raise ImageError(f"{path}: holds {pixels.dtype} values up to {top:g}, expected ids or colours of 8 bits")
        pixels = pixels.astype(np.uint8)
    bands = pixels.shape[2]
    if bands == 1:
        if kind == "PNG" and (step := _grey_step(path)) > 1:
            pixels = pixels // np.uint8(step)
        return Labels(*grey_to_ids(pixels[:, :, 0], table), "grey")
    if bands != 3:
        raise ImageError(f"{path}: has {bands} bands, expected ids (1 band) or colours (3 bands)")
    ids, unknown = to_ids(pixels, table)
    if unknown and (pixels == pixels[:, :, :1]).all():
        return Labels(*grey_to_ids(pixels[:, :, 0], table), "grey")
    return Labels(ids, unknown, "colours")


def to_ids(rgb: np.ndarray, table: ClassTable) -> tuple[np.ndarray, Unknown]:
    """Colours [H, W, 3] uint8 -> ([H, W] uint8 ids, unknown colours and their pixels).

    A colour must match in all three channels; every other one becomes id 0 and is counted. (FarSeg and FactSeg match
    R + 2G + 3B, under which some foreign colours are ships.)
    """
    import cv2

    lut = _colour_lut(table.colours, table.ignore_colour, table.ignore)
    height, width = rgb.shape[:2]
    ids = np.empty((height, width), np.uint8)
    unknown: Unknown = {}
    step = max(1, _BLOCK // max(1, width))
    for top in range(0, height, step):
        block = np.ascontiguousarray(rgb[top : top + step])
        keys = cv2.cvtColor(block, cv2.COLOR_RGB2BGRA).view("<u4")[:, :, 0] & 0xFFFFFF
        found = ids[top : top + step]
        np.take(lut, keys, out=found, mode="clip")
        if (foreign := found == _UNKNOWN).any():
            values, counts = np.unique(keys[foreign], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                colour = (value >> 16, value >> 8 & 255, value & 255)
                unknown[colour] = unknown.get(colour, 0) + count
            found[foreign] = 0
    return ids, _sorted(unknown)


def grey_to_ids(grey: np.ndarray, table: ClassTable) -> tuple[np.ndarray, Unknown]:
    """Stored grey values [H, W] uint8 -> ([H, W] uint8 ids, unknown values and their pixels); unknown ones become 0."""
    values: Mapping[int, int]
    if table.values is None:
        values = {i: i for i in (*range(table.num_classes), table.ignore)}
    else:
        values = table.values
    counts = np.bincount(grey.ravel(), minlength=256)
    unknown = {(v, v, v): int(counts[v]) for v in np.flatnonzero(counts).tolist() if v not in values}
    lut = np.zeros(256, np.uint8)
    for value, i in values.items():
        lut[value] = i
    return lut[grey], _sorted(unknown)


def to_colours(ids: np.ndarray, table: ClassTable) -> np.ndarray:
    """Ids [H, W] -> colours [H, W, 3] uint8 of the table; ignored pixels and ids without a class take
    ``table.ignore_colour``, or mid grey."""
    palette = np.full((256, 3), table.ignore_colour or (128, 128, 128), np.uint8)
    palette[: table.num_classes] = table.colours
    return palette[ids]


def write_labels(path: str | Path, ids: np.ndarray) -> None:
    """Writes ids [H, W] uint8 as an 8-bit grey PNG (mode "L"), reads it back and compares; whole or not at all.

    Raises:
        ImageError: ``ids`` is something else, the suffix is not ``.png``, or the file does not hold what was written.
        OSError: the disk is full or the folder cannot be written.
    """
    import cv2

    path = Path(path)
    if ids.ndim != 2 or ids.dtype != np.uint8 or ids.size == 0:
        raise ImageError(f"{path}: expected [H, W] uint8 ids, found {list(ids.shape)} of {ids.dtype}")
    if path.suffix.lower() != ".png":
        raise ImageError(f"{path}: ids are written as .png, not as '{path.suffix}'")
    # Runs: an eighth smaller than what Pillow writes, in a fraction of the time.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # newer ones let choose: one filter instead of a trial of all five
        options = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, *options]
    data = cv2.imencode(".png", ids, options)[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
        back = cv2.imdecode(np.fromfile(temporary, np.uint8), cv2.IMREAD_UNCHANGED)
        if back is None or back.shape != ids.shape or not np.array_equal(back, ids):
            raise ImageError(f"{path}: what was written cannot be read back; is the disk sound?")


def described(unknown: Unknown, form: str = "colours", most: int = 4) -> str:
    """The unknown colours or values with their counts, in one clause."""
    what = "colour" if form == "colours" else "value"
    shown = [f"({r}, {g}, {b})" if form == "colours" else str(r) for r, g, b in list(unknown)[:most]]
    counted = [f"{s} x {n} px" for s, n in zip(shown, unknown.values(), strict=False)]
    more = f", and {len(unknown) - most} more" if len(unknown) > most else ""
    plural = "s that are" if len(unknown) > 1 else " that is"
    return f"{len(unknown)} {what}{plural} no class's: {', '.join(counted)}{more}"


def _from_palette(indices: np.ndarray, palette: np.ndarray, table: ClassTable) -> Labels:
    used = np.unique(indices)
    if len(palette) <= 1 and used.size and used[-1] == 1:
        return Labels(indices.astype(np.uint8), {}, "palette", collapsed=table.num_classes > 2)
    colours = {(int(r), int(g), int(b)) for r, g, b in palette[used[used < len(palette)]]}
    # A black background alone says nothing where black is only the colour of what is ignored.
    if used[-1] < len(palette) and colours & {*table.colours} and colours <= {*table.colours, table.ignore_colour}:
        lut = np.zeros((256, 1, 3), np.uint8)
        lut[: len(palette), 0] = palette
        return Labels(to_ids(lut, table)[0][:, 0][indices], {}, "palette")
    return Labels(*grey_to_ids(indices.astype(np.uint8), table), "palette")


def _grey_step(path: Path) -> int:
    """By how much `read_image` spreads grey values: tools that shrink PNGs store a few ids in 1, 2 or 4 bits."""
    with path.open("rb") as file:
        bits = png_header(file.read(33)).bits
    return 255 // ((1 << bits) - 1) if bits < 8 else 1


_UNKNOWN = 254  # never an id: a table has at most 254 classes, 0 to 253


@lru_cache(maxsize=4)
def _colour_lut(colours: tuple[Colour, ...], ignored: Colour | None, ignore: int) -> np.ndarray:
    """[2^24] uint8: id of every colour R << 16 | G << 8 | B."""
    lut = np.full(1 << 24, _UNKNOWN, np.uint8)
    if ignored is not None:
        lut[ignored[0] << 16 | ignored[1] << 8 | ignored[2]] = ignore
    for i, (r, g, b) in enumerate(colours):
        lut[r << 16 | g << 8 | b] = i
    return lut


def _sorted(unknown: Unknown) -> Unknown:
    return dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0])))
