"""Counting over many frames: a small file for each that is done, and the same command goes on where it stopped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from motes.data import Sample
from motes.errors import DataError, ImageError
from motes.imaging import Image, atomic_path, image_size, read_image, read_mask
from motes.inference.box_detector import BoxDetector
from motes.inference.calibration import Curve, blobs_above, detected_above, peaks, scores_above, thresholds_for
from motes.inference.detector import Detector
from motes.inference.records import fingerprint, settings_of
from motes.inference.sources import Frame, pages_of
from motes.interrupts import raise_swallowed_interrupt

RECORDS = ".calibration"
"""Folder inside the output folder with one record an image."""

FORMAT = 1

STRONGEST = 24
"""Strongest answers that are kept of a frame, and shown of all."""

SAME_PLACE = 3
"""Answers of several frames of one size are at one place if they are at most so many px apart."""


@dataclass(frozen=True)
class Count:
    """What one image (or page) gave at every threshold.

    Attributes:
        image: its name in tables.
        path: its file.
        page: of several in the file, from 0.
        size: (height, width) in px.
        blobs: blobs at every threshold.
        strongest: (x, y, probability) of its strongest answers, best first.
        detected: targets found at every threshold, where it is labelled.
        targets: how many it has, where it is labelled.
    """

    image: str
    path: str
    page: int
    size: tuple[int, int]
    blobs: list[int]
    strongest: list[tuple[float, float, float]]
    detected: list[int] | None = None
    targets: int = 0


@dataclass(frozen=True)
class Strong:
    """A strong answer in a frame without targets: where, how probable, and the images with a false alarm there."""

    count: Count
    x: float
    y: float
    score: float
    images: set[tuple[str, int]]


@dataclass
class Counts:
    """Counts of all frames: those without targets, those with, and one sentence for every file that failed."""

    thresholds: np.ndarray
    empty: list[Count] = field(default_factory=list)
    labelled: list[Count] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def curve(self) -> Curve:
        """The sums. There is an empty frame at least."""
        curve = Curve(
            self.thresholds,
            np.array([c.blobs for c in self.empty], np.int64).sum(axis=0),
            len(self.empty),
            sum(c.size[0] * c.size[1] for c in self.empty),
        )
        if not self.labelled:
            return curve
        detected = np.array([c.detected for c in self.labelled], np.int64).sum(axis=0)
        return replace(curve, detected=detected, targets=sum(c.targets for c in self.labelled))

    def strongest(self, threshold: float) -> list[Strong]:
        """The strongest answers in frames without targets, best first, each place once.

        Args:
            threshold: of the answers that are counted as one more at a place.
        """
        best = [(count, *peak) for count in self.empty for peak in count.strongest]
        best.sort(key=lambda f: -f[3])
        listed: list[Strong] = []
        for count, x, y, score in best:
            same = [s for s in listed if s.count.size == count.size and max(abs(s.x - x), abs(s.y - y)) <= SAME_PLACE]
            if same and score > threshold:
                same[0].images.add((count.image, count.page))
            elif not same and len(listed) < STRONGEST:
                listed.append(Strong(count, x, y, score, {(count.image, count.page)}))
        return listed


class CalibrationRun:
    """Counts into a folder.

    Args:
        detector: what finds targets; its own threshold does not matter.
        out: the folder; made where missing.
        overwrite: count images again that are counted.
        say: called with sentences worth reading once.
    """

    def __init__(
        self, detector: Detector | BoxDetector, out: Path, overwrite: bool = False, say: Callable[[str], None] = print
    ) -> None:
        self.detector, self.out, self.overwrite, self.say = detector, out, overwrite, say
        self.thresholds = thresholds_for(detector.card)
        grid = zlib.crc32(self.thresholds.tobytes())
        self.settings = {**settings_of(detector), "threshold": f"{len(self.thresholds)} of {grid}"}
        self._reused = 0

    def run(
        self, frames: Sequence[Frame], labelled: Sequence[Sample] = (), advance: Callable[[], object] = lambda: None
    ) -> Counts:
        """Counts what is not counted yet, in order.

        Args:
            frames: without targets, from `sources.frames_of`.
            labelled: with masks.
            advance: called after every file.

        Raises:
            DataError: a labelled frame without a mask, with one of another size, or for a network of boxes.
            OSError: a record cannot be written.
        """
        counts = Counts(self.thresholds)
        self._check_labelled(labelled)
        for frame in frames:
            raise_swallowed_interrupt()
            try:
                for count in self._pages(frame):
                    counts.empty.append(count)
            except ImageError as e:
                counts.failed.append(str(e))
            advance()
        for sample in labelled:
            raise_swallowed_interrupt()
            counts.labelled.append(self._sample(sample))
            advance()
        total = len(counts.empty) + len(counts.labelled)
        if self._reused:
            self.say(f"{self._reused} of {total} images were counted already; --overwrite counts them again")
        return counts

    def _check_labelled(self, labelled: Sequence[Sample]) -> None:
        if labelled and isinstance(self.detector, BoxDetector):
            raise DataError(
                f"'{self.detector.card.name}' answers with boxes, and labelled frames are for networks that give maps",
                "leave --labelled out",
            )
        without = [s for s in labelled if s.mask is None]
        if without:
            raise DataError(
                f"{without[0].image} has no mask, {len(without)} of {len(labelled)} labelled frames have none",
                "frames without targets need none, but go first: motes calibrate FRAMES",
            )
        for sample in labelled:  # before anything is counted
            sizes = [image_size(path) for path in (sample.mask, sample.image) if path is not None]
            if sizes[0] != sizes[1]:
                raise DataError(
                    f"{sample.mask} is {sizes[0][0]}x{sizes[0][1]} px, its image {sizes[1][0]}x{sizes[1][1]}",
                    "`motes data check` lists all such pairs",
                )

    def _pages(self, frame: Frame) -> Iterator[Count]:
        """The pages of a file without targets."""
        source = fingerprint(frame.path)  # before reading: a file that changes meanwhile is counted again
        facts = {"source": source, "settings": self.settings}
        for image, stem, name in pages_of(frame):
            raise_swallowed_interrupt()
            yield self._counted(self.out / RECORDS / f"{stem}.json", facts, image, name)

    def _sample(self, sample: Sample) -> Count:
        """A frame with a mask; one that cannot be read is an error, for the list promised it."""
        assert sample.mask is not None
        facts = {"source": [fingerprint(sample.image), fingerprint(sample.mask)], "settings": self.settings}
        image, label = read_image(sample.image), read_mask(sample.mask)
        return self._counted(self.out / RECORDS / "labelled" / f"{sample.name}.json", facts, image, sample.name, label)

    def _counted(
        self, record: Path, facts: dict[str, Any], image: Image, name: str, label: np.ndarray | None = None
    ) -> Count:
        """From its record, or counted and recorded now."""
        facts = {"format": FORMAT, **facts}
        if not self.overwrite and (before := _read(record, facts)) is not None:
            self._reused += 1
            return before
        count = self._count(image, name, label)
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps({**facts, "count": asdict(count)}), encoding="utf-8")
        return count

    def _count(self, image: Image, name: str, label: np.ndarray | None) -> Count:
        height, width = image.pixels.shape[:2]
        empty = Count(name, str(image.path), image.page, (height, width), [], [])
        if isinstance(self.detector, BoxDetector):
            said = self.detector.boxes(image)
            x, y = ((said.boxes[:, k] + said.boxes[:, k + 2]) / 2 for k in (0, 1))
            best = np.argsort(-said.scores, kind="stable")[:STRONGEST]
            top = [(float(x[i]), float(y[i]), float(said.scores[i])) for i in best]
            return replace(empty, blobs=scores_above(said.scores, self.thresholds).tolist(), strongest=top)
        probability = self.detector.probability(image)
        if np.isnan(probability).any():
            raise ImageError(f"{image.path}: '{self.detector.card.name}' answers with NaN on it")
        blobs = blobs_above(probability, self.thresholds).tolist()
        if label is None:
            return replace(empty, blobs=blobs, strongest=peaks(probability, float(self.thresholds[0]), STRONGEST))
        detected, targets = detected_above(probability, label, self.thresholds)
        return replace(empty, blobs=blobs, detected=detected.tolist(), targets=targets)


def _read(record: Path, facts: dict[str, Any]) -> Count | None:
    """None where there is no record, or one of another file or of other settings."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        values = content.pop("count")
        if content != json.loads(json.dumps(facts)):
            return None
        values["size"] = tuple(values["size"])
        values["strongest"] = [tuple(peak) for peak in values["strongest"]]
        return Count(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
