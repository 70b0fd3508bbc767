"""Boxes that some program found, read from COCO files and CSV tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motes.errors import DataError
from motes.naming import nearest

SUFFIXES = (".json", ".csv")
NEEDED = ("image", "x1", "y1", "x2", "y2", "score")


@dataclass
class Found:
    """The boxes of one image: xyxy px, half-open; scores; class names (None where the file has none)."""

    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def array(self) -> np.ndarray:
        """The boxes, [N, 4]."""
        return np.array(self.boxes, np.float64).reshape(-1, 4)

    def labels(self, classes: Sequence[str], where: str) -> np.ndarray:
        """Class numbers [N]; DataError for a name that is none of ``classes``, in any case of letters."""
        lowered = {c.lower(): k for k, c in enumerate(classes)}
        out = []
        for name in self.names:
            if name is not None and name.lower() not in lowered:
                close = nearest(name, classes)
                raise DataError(
                    f"{where}: a box is of class '{name}', expected {' or '.join(classes)}",
                    f"did you mean '{close}'?" if close else None,
                )
            out.append(0 if name is None else lowered[name.lower()])
        return np.array(out, np.int64)


def read_found(
    path: Path, images: Mapping[Any, str] | None = None, classes: Mapping[int, str] | None = None
) -> dict[str, Found]:
    """Stem of an image -> its boxes.

    Args:
        path: ``targets.csv`` of `motes detect` or any table with the columns image, x1, y1, x2, y2, score (and label);
            a COCO data set whose annotations have scores; or a COCO list of results (``image_id``, ``category_id``,
            ``bbox``, ``score``).
        images: ``image_id`` -> stem, for a list of results; where it does not say, the id itself is the name.
        classes: ``category_id`` -> name, for a list of results.

    Raises:
        DataError: unreadable, a column or key missing, or a value that is no number.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv(path)
    if suffix != ".json":
        raise DataError(f"{path}: boxes are read from {' and '.join(SUFFIXES)}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from None
    except ValueError as e:
        raise DataError(f"{path} is not readable as JSON: {e}") from None
    try:
        if isinstance(content, dict):
            images = {i["id"]: str(i["file_name"]) for i in content["images"]}
            classes = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
            rows, everyone = content["annotations"], [_stem(name) for name in images.values()]
        else:
            rows, everyone = list(content), []
        found = {name: Found() for name in everyone}
        for row in rows:
            key = row["image_id"]
            into = found.setdefault(_stem(str((images or {}).get(key, key))), Found())
            x, y, w, h = (float(v) for v in row["bbox"])
            into.boxes.append([x, y, x + w, y + h])
            into.scores.append(float(row["score"]))
            into.names.append((classes or {}).get(row.get("category_id")))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        what = f"no key {e}" if isinstance(e, KeyError) else str(e)
        raise DataError(
            f"{path} holds no boxes with scores: {what}",
            "expected COCO results: a list of {image_id, category_id, bbox, score}, or a COCO data set with scores",
        ) from None
    return found


def _csv(path: Path) -> dict[str, Found]:
    found: dict[str, Found] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [c for c in NEEDED if c not in (table.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column '{missing[0]}'", f"expected {', '.join(NEEDED)}, and label")
            for row in table:
                into = found.setdefault(_stem(row["image"]), Found())
                into.boxes.append([float(row[c]) for c in NEEDED[1:5]])
                into.scores.append(float(row["score"]))
                into.names.append(row.get("label") or None)
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from None
    except (ValueError, TypeError) as e:
        raise DataError(f"{path}: line {table.line_num}: {e}") from None
    return found


def _stem(name: str) -> str:
    """The name of an image without folders and without an image's suffix."""
    from motes.imaging import is_image_path

    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return Path(name).stem if is_image_path(name) else name
