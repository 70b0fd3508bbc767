"""Class maps of many images in a folder, as they come; the same command goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from motes import __version__
from motes.data.classes import ClassTable
from motes.errors import ImageError, MotesError
from motes.imaging import Image, atomic_path, image_size, read_image, write_image
from motes.inference.class_statistics import class_statistics
from motes.inference.class_writers import MASKS, plain, table_for, write_statistics
from motes.inference.records import fingerprint
from motes.inference.segmenter import Segmenter
from motes.inference.sources import Frame
from motes.interrupts import raise_swallowed_interrupt

RECORDS = ".motes"
"""Folder inside the output folder with one record an image."""

BY_ROWS = 1 << 26
"""TIFFs of more pixels than that are read by rows instead of whole."""

FORMAT = 1


@dataclass(frozen=True)
class ClassRecord:
    """One finished image (or page): its names, what decided its pixels, and what is in its map."""

    stem: str
    image: str
    source: dict[str, Any]
    settings: dict[str, Any]
    pages: int
    size: tuple[int, int]
    pixels: np.ndarray
    objects: np.ndarray

    def write(self, folder: Path) -> None:
        """Into ``folder/<stem>.json``, whole or not at all."""
        content = {"format": FORMAT, "task": "aerial", **dataclasses.asdict(self)}
        content |= {"pixels": self.pixels.tolist(), "objects": self.objects.tolist()}
        with atomic_path(folder / f"{self.stem}.json") as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


def read_class_record(folder: Path, stem: str) -> ClassRecord | None:
    """None where there is none, or none that this version can read."""
    try:
        content = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT or content.pop("task") != "aerial":
            return None
        content |= {key: np.array(content[key], np.int64) for key in ("pixels", "objects")}
        content["size"] = tuple(content["size"])
        return ClassRecord(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass
class ClassSummary:
    """What a run did: a record an image, in the order of the frames, also of those finished before; one sentence for
    every file that could not be read; how many were finished before; seconds and pixels of the others."""

    records: list[ClassRecord] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0
    pixels: int = 0


@dataclass
class ClassFolderRun:
    """Class maps into a folder: ``id/``, ``palette/``, ``colour/``, ``overlays/``, ``classes.csv``, ``run.json``.

    Args:
        segmenter: what makes the maps.
        out: the folder; made where missing.
        table: names and colours, in the order of the ids that are written; None = those that fit the card. Where it
            has the card's names in another order, ids are turned into the table's.
        masks: names of `class_writers.MASKS`.
        overlay: write ``overlays/<stem>.png``.
        overwrite: do images again that are finished, and take over the names of other images.
        say: called with sentences worth reading once.
    """

    segmenter: Segmenter
    out: Path
    table: ClassTable | None = None
    masks: Sequence[str] = ("id", "colour")
    overlay: bool = True
    overwrite: bool = False
    say: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        names = self.segmenter.names
        self.classes = self.table or table_for(names)
        self._order = id_order(names, self.classes)
        self.background = background_of(self.classes.names)
        self.settings = class_settings(self.segmenter)
        self.settings["classes"] = list(self.classes.names)
        self._records = self.out / RECORDS
        self._said = False

    def run(self, frames: Sequence[Frame], advance: Callable[[float], object] = lambda part: None) -> ClassSummary:
        """Does what is not done yet, in order, and writes the tables; also when it is interrupted.

        Args:
            frames: from `sources.frames_of`.
            advance: called with the part of an image that is done since the last call; 1 an image in sum.

        Raises:
            MotesError: the folder holds results of other images under the same names.
            OSError: a result cannot be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        before = [self._plan(frame) for frame in frames]
        done = sum(records is not None for records in before)
        if done:
            what = f"{done} of {len(frames)} images are" if len(frames) > 1 else f"{frames[0].image} is"
            self.say(f"{what} finished already; --overwrite does it again")
        summary = ClassSummary()
        start = time.perf_counter()
        try:
            for frame, records in zip(frames, before, strict=True):
                raise_swallowed_interrupt()
                if records is not None:
                    summary.skipped += 1
                    summary.records += records
                    advance(1.0)
                    continue
                try:
                    for record in self._do(frame, advance):
                        summary.records.append(record)
                        summary.pixels += record.size[0] * record.size[1]
                except ImageError as e:
                    summary.failed.append(str(e))
        finally:
            summary.seconds = time.perf_counter() - start
            if summary.records or not summary.failed:
                self._write_tables(summary)
        return summary

    def _plan(self, frame: Frame) -> list[ClassRecord] | None:
        """The records of a file that is finished, None for one to do."""
        if self.overwrite:
            return None
        records = self._finished(frame)
        if not records:
            return None
        now = fingerprint(frame.path)
        same = all(records[0].source[k] == now[k] for k in ("size", "mtime_ns"))
        if not same and records[0].source["path"] != now["path"]:
            raise MotesError(
                f"{self.out} already holds results of {records[0].source['path']} under the name '{records[0].stem}' "
                f"of {frame.path}",
                "choose another folder with -o, or --overwrite",
            )
        whole = len(records) == records[0].pages and all(r.settings == self.settings for r in records)
        there = all(path.is_file() for r in records for path in self._files(r.stem))
        return records if whole and there and same else None

    def _finished(self, frame: Frame) -> list[ClassRecord]:
        first = read_class_record(self._records, frame.stem)
        if first is not None and first.pages == 1:
            return [first]
        records: list[ClassRecord] = []
        while record := read_class_record(self._records, frame.page_stem(len(records), 2)):
            records.append(record)
            if len(records) == record.pages:
                break
        return records

    def _files(self, stem: str) -> list[Path]:
        folders = [*self.masks, *(["overlays"] if self.overlay else [])]
        return [self.out / folder / f"{stem}.png" for folder in folders]

    def _do(self, frame: Frame, advance: Callable[[float], object]) -> Iterator[ClassRecord]:
        source = fingerprint(frame.path)  # before reading: a file that changes meanwhile is done again
        page, pages = 0, 1
        while page < pages:
            image = open_image(frame.path, page)
            pages = image.pages
            stem, name = frame.page_stem(page, pages), frame.page_image(page, pages)
            self._say_scaling(image, name)
            part = 1.0 / (self.segmenter.steps(image) * pages)
            ids = self.segmenter.labels(image, partial(advance, part))
            if self._order is not None:
                ids = self._order[ids]
            if self.overlay:
                from motes.inference.class_overlay import draw_classes

                caption = f"{name}  {image.size[1]}x{image.size[0]} {image.pixels.dtype}  {self.segmenter.card.name}"
                picture = draw_classes(
                    image.pixels, ids, self.classes.names, background=self.background, caption=caption
                )
                write_image(self.out / "overlays" / f"{stem}.png", picture)
            size = image.size
            del image  # before the masks, which may take as much again
            for kind in self.masks:
                MASKS[kind](self.out / kind / f"{stem}.png", ids, self.classes)
            counts = class_statistics(ids, len(self.classes.names))
            record = ClassRecord(stem, name, source, self.settings, pages, size, *counts)
            record.write(self._records)  # last: it says that the files above are there
            yield record
            page += 1

    def _say_scaling(self, image: Image, name: str) -> None:
        method = self.segmenter.card.input.scaling_deep.method
        if self._said or image.pixels.dtype == np.uint8 or method == "fixed":
            return
        self._said = True
        self.say(
            f"{name} holds {image.pixels.dtype} counts; the network learned from 8-bit images, so each deeper image is "
            f"scaled by its own statistics ({method})"
        )

    def _write_tables(self, summary: ClassSummary) -> None:
        write_statistics(
            self.out / "classes.csv", ((r.image, r.pixels, r.objects) for r in summary.records), self.classes
        )
        colours = {n: list(c) for n, c in zip(self.classes.names, self.classes.colours, strict=True)}
        with atomic_path(self.out / "run.json") as temporary:
            temporary.write_text(json.dumps({**self.settings, "colours": colours}, indent=1) + "\n", encoding="utf-8")


def open_image(path: Path, page: int = 0) -> Image:
    """The image, or for a large TIFF one whose pixels are read when they are sliced."""
    if path.suffix.lower() in (".tif", ".tiff") and path.is_file() and path.stat().st_size > BY_ROWS // 64:
        height, width = image_size(path, page)
        if height * width > BY_ROWS:
            from motes.imaging.tiff_rows import tiff_rows

            if (rows := tiff_rows(path, page)) is not None:
                return Image(rows, path, page, rows.pages)  # type: ignore[arg-type]
    return read_image(path, page)


def id_order(names: Sequence[str], table: ClassTable) -> np.ndarray | None:
    """[256] uint8 that turns a network's ids into the table's; None where they are the same.

    Raises:
        MotesError: the table does not have the network's classes.
    """
    mine, theirs = [plain(n) for n in names], [plain(n) for n in table.names]
    if mine == theirs:
        return None
    strange = [n for n, short in zip(names, mine, strict=True) if short not in theirs]
    if strange:
        raise MotesError(
            f"class table '{table.name}' has no class '{strange[0]}', which is one of the network's",
            f"the network has {', '.join(names)}",
        )
    order = np.full(256, 255, np.uint8)
    order[: len(mine)] = [theirs.index(n) for n in mine]
    return order


def background_of(names: Sequence[str]) -> int | None:
    """The id of the class called background; None where all classes are alike, as in Potsdam and Vaihingen."""
    short = [plain(n) for n in names]
    return next((short.index(n) for n in ("background", "bg", "unlabelled", "unlabeled") if n in short), None)


def class_settings(segmenter: Segmenter) -> dict[str, Any]:
    """What decides the pixels of a map: version, network (by content), backend, windows."""
    path = getattr(segmenter.backend, "path", None)
    if isinstance(path, Path) and path.is_file():
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    else:
        sha256 = hashlib.sha256(segmenter.card.to_json().encode("utf-8")).hexdigest()
    rule = dataclasses.asdict(segmenter.rule)
    windows = {k: list(v) if isinstance(v, tuple) else v for k, v in rule.items() if k not in ("title", "source")}
    return {
        "motes": __version__,
        "model": segmenter.card.name,
        "model_sha256": sha256,
        "backend": type(segmenter.backend).__name__,
        "protocol": windows,
    }
