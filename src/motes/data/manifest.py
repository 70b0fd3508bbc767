"""``prepared.jsonl``: what was made of which file, a line at a time, so that preparing goes on where it stopped."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motes.data.aerial_layouts import MANIFEST
from motes.errors import DataError
from motes.imaging import atomic_path


@dataclass(frozen=True)
class Record:
    """What is made of one image.

    Attributes:
        stamps: of the image and of its mask; other ones mean other contents.
        images: names of its patches in ``<split>/images``.
        masks: names of their masks in ``<split>/masks``.
        unknown: foreign colours of the mask, as a sentence.
    """

    stamps: list[list[int]]
    images: list[str]
    masks: list[str]
    unknown: str = ""


@dataclass
class Manifest:
    """The notes of one prepared folder. Keys are ``<split>/<stem>``; threads may share it.

    Attributes:
        path: the file.
        settings: what the patches depend on beside the files.
        done: finished images.
        begun: images of which some patches may lie there.
    """

    path: Path
    settings: dict[str, Any]
    done: dict[str, Record] = field(default_factory=dict)
    begun: dict[str, Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def begin(self, key: str, record: Record) -> None:
        """To be called before the first patch is written."""
        with self._lock:
            self.done.pop(key, None)
            self.begun[key] = record
            self._append({"begin": key, **vars(record)})

    def finish(self, key: str, record: Record) -> None:
        """To be called after the last one."""
        with self._lock:
            self.begun.pop(key, None)
            self.done[key] = record
            self._append({"done": key, **vars(record)})

    def save(self) -> None:
        """Writes the file anew, each image once."""
        lines: list[dict[str, Any]] = [{"settings": self.settings}]
        lines += [{"begin": k, **vars(r)} for k, r in sorted(self.begun.items())]
        lines += [{"done": k, **vars(r)} for k, r in sorted(self.done.items())]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as e:
            raise OSError(e.errno, e.strerror, str(self.path)) from e


def read_manifest(path: Path) -> Manifest:
    """The notes in a file. The last line may be cut short; it was not finished then.

    Raises:
        DataError: this is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        found = Manifest(path, dict(json.loads(lines[0])["settings"]))
        for line in lines[1:]:
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if key := content.pop("begin", None):
                found.done.pop(key, None)
                found.begun[key] = Record(**content)
            elif key := content.pop("done", None):
                found.begun.pop(key, None)
                found.done[key] = Record(**content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{path} is not a manifest of `motes data prepare`", "choose an empty or a new folder"
        ) from None
    return found


def open_manifest(target: Path, settings: dict[str, Any]) -> Manifest:
    """The notes of ``target``, new ones where it is empty.

    Raises:
        DataError: ``target`` holds something else, or patches made with other settings.
        OSError: it cannot be written to.
    """
    path = target / MANIFEST
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file, expected a folder for the patches")
    if not path.is_file():
        if target.is_dir() and any(not p.name.startswith(".") for p in target.iterdir()):
            raise DataError(f"{target} is not empty and holds no {MANIFEST}", "choose an empty or a new folder")
        found = Manifest(path, settings)
    else:
        found = read_manifest(path)
        for name in sorted(settings.keys() | found.settings.keys()):
            if found.settings.get(name) != settings.get(name):
                raise DataError(
                    f"{target} was prepared with {name} {found.settings.get(name)}, not {settings.get(name)}",
                    "choose a new folder, or the same options to go on",
                )
    found.save()
    return found
