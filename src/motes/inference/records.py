"""What a run has finished: one small file an image, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motes import __version__
from motes.imaging import atomic_path
from motes.inference.box_detector import BoxDetector
from motes.inference.detections import Detections
from motes.inference.detector import Detector
from motes.inference.sources import Frame

FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One finished image (or page).

    Attributes:
        stem: what its files are called.
        source: {"path", "size", "mtime_ns"} of the file when it was read.
        settings: what decided the pixels of the result, see `settings_of`.
        pages: pages of the file.
        found: the targets.
    """

    stem: str
    source: dict[str, Any]
    settings: dict[str, Any]
    pages: int
    found: Detections

    def write(self, folder: Path) -> None:
        """Into ``folder/<stem>.json``, whole or not at all."""
        content = {
            "format": FORMAT,
            "source": self.source,
            "settings": self.settings,
            "pages": self.pages,
            "page": self.found.page,
            "image": self.found.name,
            "height": self.found.size[0],
            "width": self.found.size[1],
            "classes": list(self.found.classes),
            "targets": self.found.columns(),
        }
        with atomic_path(folder / f"{self.stem}.json") as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def is_of(self, frame: Frame) -> bool:
        """Whether it is about this very file, as far as one can tell without reading it."""
        now = fingerprint(frame.path)
        return (self.source["size"], self.source["mtime_ns"]) == (now["size"], now["mtime_ns"])

    def is_foreign(self, frame: Frame) -> bool:
        """Whether it is about another file that happens to have the same name."""
        return not self.is_of(frame) and self.source["path"] != fingerprint(frame.path)["path"]


def read_record(folder: Path, stem: str) -> Record | None:
    """None where there is none, or none that this version can read."""
    try:
        content = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None
        found = Detections.from_columns(
            content["targets"],
            classes=tuple(content["classes"]),
            path=Path(content["source"]["path"]),
            name=content["image"],
            size=(content["height"], content["width"]),
            page=content["page"],
        )
        return Record(stem, content["source"], content["settings"], content["pages"], found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finished(folder: Path, frame: Frame) -> list[Record]:
    """The records of a file, page by page from the first, as far as they go; [] where the first is missing."""
    first = read_record(folder, frame.stem)
    if first is not None and first.pages == 1:
        return [first]
    records: list[Record] = []
    page, pages = 0, 2
    while page < pages:
        record = read_record(folder, frame.page_stem(page, pages))
        if record is None or record.pages < 2 or (records and record.source != records[0].source):
            break
        records.append(record)
        page, pages = page + 1, record.pages
    return records


def fingerprint(path: Path) -> dict[str, Any]:
    """Path, size and time of change of a file; zeros where it cannot be seen."""
    try:
        stat = path.stat()
        size, mtime = stat.st_size, stat.st_mtime_ns
    except OSError:
        size, mtime = 0, 0
    # A path need not be Unicode on Linux; a JSON file is.
    name = os.path.abspath(path).encode("utf-8", "backslashreplace").decode("utf-8")  # noqa: PTH100
    return {"path": name, "size": size, "mtime_ns": mtime}


def settings_of(detector: Detector | BoxDetector) -> dict[str, Any]:
    """What decides a result: version, network (by content), backend, threshold, tiles; of boxes size and sky too."""
    path = getattr(detector.backend, "path", None)
    if isinstance(path, Path) and path.is_file():
        content = path.read_bytes()
    else:
        content = detector.card.to_json().encode("utf-8")
    boxes: dict[str, Any] = {}
    if isinstance(detector, BoxDetector):
        boxes = {"size": detector.size and list(detector.size), "only_sky": detector.only_sky}
    return {
        "motes": __version__,
        "model": detector.card.name,
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "backend": type(detector.backend).__name__,
        "threshold": detector.threshold,
        "tile": detector.tile,
        "overlap": detector.overlap,
        **boxes,
    }
