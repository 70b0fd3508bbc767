"""Class maps in files: ids, palette and colour PNGs, and the table of what is in them."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from motes.data.classes import TABLES, ClassTable, distinct_colours
from motes.errors import MotesError
from motes.imaging import atomic_path
from motes.naming import look_up

STATISTICS = ("image", "id", "class", "pixels", "share", "objects")
"""Columns of classes.csv."""

_BAND = 1 << 22  # pixels that are turned into colours at a time


def table_for(names: Sequence[str]) -> ClassTable:
    """Names and colours for the classes of a network: those of the known table whose names they are, in any order or
    a part of them; else colours as distinct as can be. Case, spaces and underscores do not matter."""
    wanted = [plain(name) for name in names]
    for table in TABLES.values():
        if wanted == [plain(name) for name in table.names]:
            return ClassTable(table.name, tuple(names), table.colours, table.ignore)
    for table in TABLES.values():
        colours = dict(zip(map(plain, table.names), table.colours, strict=True))
        if colours.keys() >= set(wanted):
            return ClassTable(table.name, tuple(names), tuple(colours[name] for name in wanted), table.ignore)
    return ClassTable("classes", tuple(names), distinct_colours(len(names)))


def plain(name: str) -> str:
    """A class name without case, spaces, hyphens and underscores."""
    return name.lower().translate({ord(c): None for c in " _-"})


def parse_masks(text: str) -> list[str]:
    """``"id,colour"`` -> names of `MASKS`; ``none`` for none. Raises MotesError with the nearest name."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    if names == ["none"]:
        return []
    for name in names:
        look_up("kind of mask", name, MASKS, MotesError)
    return list(dict.fromkeys(names))


def write_ids(path: Path, ids: np.ndarray, table: ClassTable) -> None:
    """Class ids as grey values, one channel of 8 bits: what programs read."""
    _write_png(path, ids, 0, _bands(ids))


def write_palette(path: Path, ids: np.ndarray, table: ClassTable) -> None:
    """Class ids with the colours of the table as palette: programs read the ids, viewers show the colours."""
    _write_png(path, ids, 3, _bands(ids), palette=np.array(table.colours, np.uint8))


def write_colour(path: Path, ids: np.ndarray, table: ClassTable) -> None:
    """The colours of the table in three channels, as iSAID, Potsdam and Vaihingen publish their labels."""
    colours = np.array(table.colours, np.uint8)
    _write_png(path, ids, 2, (colours[band] for band in _bands(ids)))


MASKS: dict[str, Callable[[Path, np.ndarray, ClassTable], None]] = {
    "id": write_ids,
    "palette": write_palette,
    "colour": write_colour,
}
"""Kind of mask, which is also the name of its folder -> function(path, ids [H, W] uint8, table)."""


def write_statistics(path: Path, rows: Iterable[tuple[str, np.ndarray, np.ndarray]], table: ClassTable) -> None:
    """``classes.csv``: a line for every class of every image, also those that are not in it.

    Args:
        path: of the file.
        rows: (image, pixels [K], objects [K]).
        table: with the names of K classes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STATISTICS)
    for image, pixels, objects in rows:
        for i, name in enumerate(table.names):
            share = int(pixels[i]) / max(int(pixels.sum()), 1)
            writer.writerow([image, i, name, int(pixels[i]), f"{share:.6f}", int(objects[i])])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")


def percent(share: float) -> str:
    """A share of the pixels in print; what is there is never 0."""
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "<0.1%"


def _bands(ids: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _BAND // ids.shape[1])
    return (ids[top : top + step] for top in range(0, len(ids), step))


def _write_png(
    path: Path, ids: np.ndarray, kind: int, bands: Iterable[np.ndarray], palette: np.ndarray | None = None
) -> None:
    """An 8-bit PNG of colour type ``kind`` from [n, W] or [n, W, 3] bands: nothing of full size but ``ids`` is held.

    Rows are not filtered: class maps are runs of equal bytes already.
    """
    height, width = ids.shape
    packer = zlib.compressobj(4)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)))
        if palette is not None:
            file.write(_chunk(b"PLTE", palette.tobytes()))
        for band in bands:
            rows = np.zeros((len(band), 1 + band[0].size), np.uint8)  # the first byte of a row names its filter
            rows[:, 1:] = band.reshape(len(band), -1)
            if packed := packer.compress(rows.data):
                file.write(_chunk(b"IDAT", packed))
        file.write(_chunk(b"IDAT", packer.flush()))
        file.write(_chunk(b"IEND", b""))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
