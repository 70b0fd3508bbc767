"""A run over many images: results on disk as they come, and the same command goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from motes.errors import ImageError, MotesError
from motes.imaging import Image, atomic_path, write_image
from motes.inference.box_detector import SKY, BoxDetector
from motes.inference.detections import Detections
from motes.inference.detector import Detector
from motes.inference.records import Record, fingerprint, finished, settings_of
from motes.inference.sources import Frame, pages_of
from motes.inference.writers import PER_IMAGE, WRITERS
from motes.interrupts import raise_swallowed_interrupt

RECORDS = ".motes"
"""Folder inside the output folder with one record an image."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        results: one entry an image (or page), in the order of the frames, also of those finished before.
        stems: their names in ``masks/`` and ``overlays/``.
        failed: one sentence for every file that could not be read.
        skipped: files that were finished before.
        seconds: time spent on the others.
    """

    results: list[Detections] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: int = 0
    seconds: float = 0.0

    @property
    def targets(self) -> int:
        """Targets in all images."""
        return sum(len(found) for found in self.results)


@dataclass
class FolderRun:
    """Detects into a folder: ``targets.csv``, ``overlays/``, ``masks/`` and what else is asked for.

    A network that answers with boxes has no masks, but ``sky/`` where it knows the sky.

    Args:
        detector: what finds targets.
        out: the folder; made where missing.
        formats: names of `writers.WRITERS`.
        overlay: write ``overlays/<stem>.png``.
        save_probability: write ``probability/<stem>.tif``, float32.
        overwrite: do images again that are finished, and take over the names of other images.
        say: called with sentences worth reading once, such as how deep counts are scaled.
    """

    detector: Detector | BoxDetector
    out: Path
    formats: Sequence[str] = ("csv",)
    overlay: bool = True
    save_probability: bool = False
    overwrite: bool = False
    say: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        if self.save_probability and isinstance(self.detector, BoxDetector):
            raise MotesError(f"'{self.detector.card.name}' answers with boxes, so there is no probability map to write")
        self.settings = settings_of(self.detector)
        self._records = self.out / RECORDS
        self._said_scaling = False

    def run(self, frames: Sequence[Frame], progress: Callable[[Sequence], Iterable] = iter) -> Summary:
        """Does what is not done yet, in order, and writes the tables; also when it is interrupted.

        Args:
            frames: from `sources.frames_of`.
            progress: wraps the sequence that is worked through, for a bar.

        Raises:
            MotesError: the folder holds results of other images under the same names.
            OSError: a result cannot be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        before = [self._plan(frame) for frame in frames]
        self._announce(frames, before)
        summary = Summary()
        start = time.perf_counter()
        try:
            for frame, done in progress(list(zip(frames, before, strict=True))):
                raise_swallowed_interrupt()
                if done is not None:
                    summary.skipped += 1
                    records = done
                else:
                    records = []
                    try:
                        for record in self._do(frame):
                            records.append(record)
                    except ImageError as e:
                        summary.failed.append(str(e))
                summary.results += [r.found for r in records]
                summary.stems += [r.stem for r in records]
        finally:
            summary.seconds = time.perf_counter() - start
            if summary.results or not summary.failed:
                self._write_tables(summary)
        return summary

    def _plan(self, frame: Frame) -> list[Record] | None:
        """The records of a file that is finished, None for one to do."""
        if self.overwrite:
            return None
        records = finished(self._records, frame)
        if not records:
            return None
        if records[0].is_foreign(frame):
            raise MotesError(
                f"{self.out} already holds results of {records[0].source['path']} under the name '{records[0].stem}' "
                f"of {frame.path}",
                "choose another folder with -o, or --overwrite",
            )
        whole = len(records) == records[0].pages and all(r.settings == self.settings for r in records)
        files_there = all(path.is_file() for r in records for path in self._files(r.stem))
        return records if whole and files_there and records[0].is_of(frame) else None

    def _announce(self, frames: Sequence[Frame], before: Sequence[list[Record] | None]) -> None:
        done = sum(records is not None for records in before)
        if done:
            what = f"{done} of {len(frames)} images are" if len(frames) > 1 else f"{frames[0].image} is"
            self.say(f"{what} finished already; --overwrite does it again")
        for frame, records in zip(frames, before, strict=True):
            old = [] if records is not None or self.overwrite else finished(self._records, frame)
            if old and old[0].settings != self.settings:
                changed = [
                    f"{key} {old[0].settings.get(key)} -> {value}"
                    for key, value in self.settings.items()
                    if old[0].settings.get(key) != value and key != "model_sha256"
                ] or ["the weights are other ones"]
                self.say(f"settings changed ({', '.join(changed)}): images done with the old ones are done again")
                return

    def _files(self, stem: str) -> list[Path]:
        files = [] if isinstance(self.detector, BoxDetector) else [self.out / "masks" / f"{stem}.png"]
        if self.overlay:
            files.append(self.out / "overlays" / f"{stem}.png")
        if self.save_probability:
            files.append(self.out / "probability" / f"{stem}.tif")
        return files

    def _do(self, frame: Frame) -> Iterator[Record]:
        source = fingerprint(frame.path)  # before reading: a file that changes meanwhile is done again
        for image, stem, name in pages_of(frame):
            self._say_scaling(image, name)
            found = self._look(image, stem, name)
            record = Record(stem, source, self.settings, image.pages, found)
            record.write(self._records)  # last: it says that the files above are there
            yield record

    def _look(self, image: Image, stem: str, name: str) -> Detections:
        """The targets of one image; writes its pictures."""
        if isinstance(self.detector, BoxDetector):
            said = self.detector.boxes(image)
            found, mask = self.detector.find(said, image, name), None
            if said.sky is not None:
                write_image(self.out / "sky" / f"{stem}.png", said.sky > SKY)
        else:
            probability = self.detector.probability(image)
            found = self.detector.find(probability, image.pixels, image, name)
            mask = probability > self.detector.threshold
            write_image(self.out / "masks" / f"{stem}.png", mask)
            if self.save_probability:
                write_image(self.out / "probability" / f"{stem}.tif", probability, compress=True)
        if self.overlay:
            from motes.inference.overlay import draw_overlay

            write_image(self.out / "overlays" / f"{stem}.png", draw_overlay(image.pixels, found, mask))
        return found

    def _say_scaling(self, image: Image, name: str) -> None:
        card = self.detector.card
        if self._said_scaling or image.pixels.dtype == np.uint8 or card.input.scaling_deep.method == "fixed":
            return
        method = card.form == "classical"
        why = "the constants of this method are grey levels" if method else "the network learned from 8-bit images"
        self._said_scaling = True
        self.say(
            f"{name} holds {image.pixels.dtype} counts ({image.pixels.min():g} to {image.pixels.max():g}); "
            f"{why}, so each deeper frame is scaled {describe_scaling(self.detector)}"
        )

    def _write_tables(self, summary: Summary) -> None:
        for name in self.formats:
            if name in PER_IMAGE:
                WRITERS[name](self.out, summary.results, summary.stems)
            else:
                WRITERS[name](self.out, summary.results)
        with atomic_path(self.out / "run.json") as temporary:
            temporary.write_text(json.dumps(self.settings, indent=1) + "\n", encoding="utf-8")


def describe_scaling(detector: Detector | BoxDetector) -> str:
    """In words, how frames deeper than 8 bits become the network's input."""
    scaling = detector.card.input.scaling_deep
    low, high = scaling.low, scaling.high
    words = {
        "range": "by the range of its dtype",
        "bits": f"by the range of {scaling.bits} bits",
        "minmax": "between its own extremes",
        "maximum": "between 0 and its own maximum",
        "percentile": f"between its percentiles {low} and {high}",
        "fixed": f"between {low} and {high} counts",
        "robust": f"from {low} sigma below to {high} sigma above its median",
    }
    return words[scaling.method] + (", clipped" if scaling.clip else "")
