"""Targets in the files that other tools read: CSV, JSON, COCO, YOLO, Pascal VOC."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from motes.errors import MotesError
from motes.imaging import atomic_path
from motes.inference.detections import COLUMNS, Detections
from motes.naming import look_up


def parse_formats(text: str) -> list[str]:
    """``"csv,coco"`` -> names of `WRITERS`; csv is always one of them. Raises MotesError with the nearest name."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in names:
        look_up("format", name, WRITERS, MotesError)
    return list(dict.fromkeys(["csv", *names]))


def write_csv(folder: Path, results: Sequence[Detections]) -> Path:
    """``targets.csv``: one line a target, columns `COLUMNS`; SCR empty where it is undefined."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for found in results:
        table.writerows(found.to_rows())
    return _write(folder / "targets.csv", text.getvalue())


def write_json(folder: Path, results: Sequence[Detections]) -> Path:
    """``targets.json``: a list with one entry an image (also those without targets), each with its targets."""
    entries = [
        {
            "image": found.name,
            "source": found.path.as_posix() if found.path else None,
            "page": found.page,
            "height": found.size[0],
            "width": found.size[1],
            "targets": [
                {
                    **{k: v for k, v in row.items() if k != "image"},
                    "center": [round(float(v), 3) for v in found.centers[i]],
                }
                for i, row in enumerate(found.to_rows())
            ],
        }
        for found in results
    ]
    return _write(folder / "targets.json", json.dumps(entries, indent=1) + "\n")


def write_coco(folder: Path, results: Sequence[Detections]) -> Path:
    """``coco.json``: a COCO data set with images, categories (from 1) and annotations.

    ``bbox`` is [x, y, width, height], ``score`` the probability, ``area`` the pixels of the mask, not of the box.
    """
    classes = _classes(results)
    images: list[dict] = []
    annotations: list[dict] = []
    for number, found in enumerate(results, start=1):
        height, width = found.size
        images.append({"id": number, "file_name": found.name, "height": height, "width": width})
        for i, row in enumerate(found.to_rows()):
            x1, y1, x2, y2 = (row[k] for k in ("x1", "y1", "x2", "y2"))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(found.classes[found.labels[i]]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": row["area"],
                    "iscrowd": 0,
                    "score": row["score"],
                    "centroid": [row["x"], row["y"]],
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return _write(folder / "coco.json", json.dumps(content) + "\n")


def write_yolo(folder: Path, results: Sequence[Detections], stems: Sequence[str] | None = None) -> Path:
    """``yolo/labels/<stem>.txt``: ``class x_centre y_centre width height score``, as fractions of the frame.

    Images without targets get an empty file, which is how YOLO says "looked, nothing there". ``yolo/classes.txt`` names
    the classes from 0. Seven digits: a box of two pixels in a frame of 20,000 survives.
    """
    classes = _classes(results)
    for stem, found in zip(_stems(results, stems), results, strict=True):
        height, width = found.size
        lines = []
        for (x1, y1, x2, y2), score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            index = classes.index(found.classes[label])
            lines.append(f"{index} " + " ".join(f"{n:.7f}" for n in numbers) + f" {score:.5f}\n")
        _write(folder / "yolo" / "labels" / f"{stem}.txt", "".join(lines))
    return _write(folder / "yolo" / "classes.txt", "".join(f"{name}\n" for name in classes))


def write_voc(folder: Path, results: Sequence[Detections], stems: Sequence[str] | None = None) -> Path:
    """``voc/<stem>.xml``: Pascal VOC, whose boxes are 1-based and inclusive, so xmin = x1 + 1 and xmax = x2."""
    for stem, found in zip(_stems(results, stems), results, strict=True):
        height, width = found.size
        parts = [
            "<annotation>",
            f"  <filename>{_xml(found.name)}</filename>",
            f"  <size><width>{width}</width><height>{height}</height><depth>1</depth></size>",
        ]
        for row in found.to_rows():
            box = {"xmin": row["x1"] + 1, "ymin": row["y1"] + 1, "xmax": row["x2"], "ymax": row["y2"]}
            inner = "".join(f"<{k}>{v}</{k}>" for k, v in box.items())
            parts.append(
                f"  <object><name>{_xml(row['label'])}</name><difficult>0</difficult><truncated>0</truncated>"
                f"<bndbox>{inner}</bndbox><score>{row['score']}</score></object>"
            )
        parts.append("</annotation>")
        _write(folder / "voc" / f"{stem}.xml", "\n".join(parts) + "\n")
    return folder / "voc"


WRITERS: dict[str, Callable[..., Path]] = {
    "csv": write_csv,
    "json": write_json,
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}
"""Format -> function(folder, results) that returns the file or folder it wrote."""

PER_IMAGE = ("yolo", "voc")
"""Formats with one file an image, which take the stems as third argument."""


def plain_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Text columns, numbers to the right: for terminals and logs, without the import of a table package."""
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]
    numeric = [bool(rows) and all(_is_number(r[i]) for r in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(r, widths, numeric, strict=True)).rstrip()
        for r in (header, *rows)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("-", "")
    return math.isfinite(float(text))


def _classes(results: Sequence[Detections]) -> list[str]:
    return list(dict.fromkeys(name for found in results for name in found.classes)) or ["target"]


def _stems(results: Sequence[Detections], stems: Sequence[str] | None) -> list[str]:
    return list(stems) if stems is not None else [Path(found.name).stem for found in results]


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _write(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
