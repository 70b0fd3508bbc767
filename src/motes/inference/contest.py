"""The GaoFen contest of 2021: a folder of images in, a folder of masks out, as its judge runs an entry.

Two tracks, sea ice in optical images (.tif) and fish farms in SAR (.png), each with background and one class; they
differ in their weights only. The masks are those of the protocol `gaofen` (metrics/class_protocols.py).

Source: run.py of the PFNet entry (Jittor). Unlike it, a mask is named after the image without its suffix (there, every
".tif" and ".png" anywhere in the name is cut out), and weights that do not fit are refused instead of skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from motes.errors import CardError, CheckpointError, DataError, ImageError
from motes.imaging import read_image, write_image
from motes.inference.backend import Backend
from motes.inference.segmenter import Segmenter
from motes.interrupts import raise_swallowed_interrupt

WEIGHT_SUFFIXES = (".onnx", ".safetensors", ".pkl", ".pdparams", ".pth", ".pt", ".tar")


@dataclass
class Outcome:
    """How a run ended: masks written, and one sentence for every entry of the folder that gave none."""

    written: int = 0
    failed: list[str] = field(default_factory=list)


def run_gaofen(
    backend: Backend,
    images: Path,
    out: Path,
    advance: Callable[[], object] | None = None,
) -> Outcome:
    """Writes ``out/<stem>.png``, 8-bit grey, 0 or 255, of the image's size, for every entry of the folder ``images``.

    Hidden files are left out. What is no image gets a sentence, and all others are still done.

    Args:
        backend: runs the network of two classes.
        images: the folder to read; nothing in it is changed.
        out: the folder to write; made where missing.
        advance: called after every entry.

    Raises:
        CardError: a network for another task, or not of two classes.
        DataError: ``images`` is not a folder or holds nothing, or both folders are the same.
        OSError: a mask cannot be written.
    """
    segmenter = contest_segmenter(backend)
    outcome, owners = Outcome(), dict[str, Path]()
    for path in entries(images, out):
        raise_swallowed_interrupt()
        try:
            owner = owners.setdefault(path.stem.casefold(), path)
            if owner != path:
                raise ImageError(f"{path}: its mask would have the name of that of {owner.name}, '{path.stem}.png'")
            write_image(out / f"{path.stem}.png", segmenter.labels(read_image(path)) > 0)
            outcome.written += 1
        except ImageError as e:
            outcome.failed.append(str(e))
        if advance:
            advance()
    return outcome


def contest_segmenter(backend: Backend) -> Segmenter:
    """What makes the masks; raises CardError unless the network tells background from one class."""
    card = backend.card
    if card.task != "aerial" or len(card.classes) > 2:
        raise CardError(
            f"'{card.name}' is a network for {card.task} with {len(card.classes)} classes, "
            "the contest takes one for aerial with 2: background and target"
        )
    return Segmenter(backend=backend, protocol="gaofen")


def entries(images: Path, out: Path) -> list[Path]:
    """What lies in the folder, by name, but for hidden files and the output folder."""
    if not images.is_dir():
        raise DataError(
            f"{images}: {'is a file' if images.exists() else 'no such folder'}, expected a folder of images"
        )
    if images.resolve() == out.resolve():
        raise DataError(f"{images} is both input and output: masks would overwrite images")
    found = [p for p in sorted(images.iterdir()) if not p.name.startswith(".") and p.resolve() != out.resolve()]
    if not found:
        raise DataError(f"{images}: the folder is empty, expected images")
    return found


def find_contest_weights(place: Path) -> Path:
    """``place`` itself, or the one weight file in the folder ``place``.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    if not place.is_dir():
        if not place.exists():
            raise CheckpointError(f"{place}: no such weight file")
        return place
    found = sorted(p for p in place.iterdir() if p.suffix.lower() in WEIGHT_SUFFIXES and not p.name.startswith("."))
    if not found:
        raise CheckpointError(
            f"{place}: there is no weight file in this folder ({', '.join(WEIGHT_SUFFIXES)})",
            "put one there, give --weights FILE, or set MOTES_WEIGHTS",
        )
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise CheckpointError(f"{place}: there are {len(found)} weight files in this folder ({names})", "leave one")
    return found[0]
