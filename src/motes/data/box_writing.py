"""Boxes for other tools: a data set's boxes (or its masks' targets) as VOC, COCO, YOLO, LabelMe, or as masks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from motes.data.annotations import DEFAULT_CONVENTION, Truth, box_class_names, boxes_of_mask, mask_of_boxes, read_boxes
from motes.data.boxes import CONVENTIONS
from motes.data.dataset import Sample
from motes.data.lists import write_list
from motes.errors import DataError
from motes.imaging import atomic_path, image_size, read_mask, write_image
from motes.interrupts import raise_swallowed_interrupt
from motes.naming import look_up


@dataclass(frozen=True)
class Labelled:
    """One image and what is in it. ``size``: (height, width)."""

    name: str
    image: Path
    size: tuple[int, int]
    truth: Truth

    @property
    def file_name(self) -> str:
        """What its image is called in the set that is written."""
        return f"{self.name}{self.image.suffix}"


@dataclass(frozen=True)
class WrittenBoxes:
    """What was written: images, boxes, boxes marked difficult, images without any, the classes in order."""

    images: int
    boxes: int
    difficult: int
    empty: int
    classes: tuple[str, ...]


def write_boxes(
    samples: Sequence[Sample],
    out: Path,
    to: str,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    source: str = "boxes",
    reader: str = "exact",
    convention: str = DEFAULT_CONVENTION,
    images: bool = False,
    advance: Callable[[], object] | None = None,
) -> WrittenBoxes:
    """Write the boxes of ``samples`` into ``out``; with ``images`` it is a data set that `open_dataset` recognises.

    Every file is written under a temporary name and renamed.

    Args:
        samples: images with boxes, or with masks, whose targets are boxed.
        out: the folder; made where missing.
        to: of `FORMATS`.
        split: name of the list of what was written; None writes all without a list.
        classes: names in the order of their numbers; default: as the set lists them, else as they occur.
        source: ``boxes``, or ``masks`` to box the masks' targets although there are boxes.
        reader: how VOC corners are read, see `motes.data.annotations.READERS`.
        convention: how VOC corners are written, of `motes.data.boxes.CONVENTIONS`.
        images: copy the images as well.
        advance: called after every image.

    Raises:
        DataError: bad boxes, an unknown class or format, nothing to write.
    """
    look_up("format", to, FORMATS, DataError)
    look_up("source of boxes", source, ("boxes", "masks"), DataError)
    look_up("convention", convention, CONVENTIONS, DataError)
    if not samples:
        raise DataError("there are no images to write boxes of")
    names = list(classes) if classes else (["Target"] if source == "masks" else box_class_names(samples))
    done: list[Labelled] = []
    writer = FORMATS[to](out, names, convention)
    for sample in samples:
        raise_swallowed_interrupt()
        truth = boxes_of_mask(_mask(sample)) if source == "masks" else read_boxes(sample, names, reader)
        item = Labelled(sample.name, sample.image, image_size(sample.image), truth)
        writer.add(item)
        if images:
            with atomic_path(out / writer.images / item.file_name) as temporary:
                shutil.copyfile(sample.image, temporary)
        done.append(item)
        if advance is not None:
            advance()
    writer.finish(done, split)
    counts = [len(item.truth.boxes) for item in done]
    difficult = sum(int(item.truth.ignored.sum()) for item in done)
    return WrittenBoxes(len(done), sum(counts), difficult, counts.count(0), tuple(names))


class _Voc:
    """``Annotations/<name>.xml``, ``JPEGImages``, ``ImageSets/Main/<split>.txt``."""

    images = "JPEGImages"

    def __init__(self, out: Path, classes: Sequence[str], convention: str) -> None:
        self.out, self.classes = out, classes
        low, high = CONVENTIONS[convention]
        self.shift = np.array([low, low, high, high])

    def add(self, item: Labelled) -> None:
        height, width = item.size
        parts = [
            "<annotation>",
            f"  <filename>{escape(item.file_name)}</filename>",
            f"  <size><width>{width}</width><height>{height}</height><depth>1</depth></size>",
        ]
        for box, label, aside in zip(*item.truth, strict=True):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (box.astype(float) + self.shift).tolist(), strict=True)
            inner = "".join(f"<{tag}>{_plain(v)}</{tag}>" for tag, v in corners)
            parts.append(
                f"  <object><name>{escape(self.classes[label])}</name><difficult>{int(aside)}</difficult>"
                f"<bndbox>{inner}</bndbox></object>"
            )
        _write(self.out / "Annotations" / f"{item.name}.xml", "\n".join([*parts, "</annotation>", ""]))

    def finish(self, items: Sequence[Labelled], split: str | None) -> None:
        if split:
            write_list(self.out / "ImageSets" / "Main" / f"{_flat(split)}.txt", [i.name for i in items])


class _Coco:
    """``annotations/<split>.json`` and ``images``."""

    images = "images"

    def __init__(self, out: Path, classes: Sequence[str], convention: str) -> None:
        self.out, self.classes = out, classes

    def add(self, item: Labelled) -> None:
        """All at the end: it is one file."""

    def finish(self, items: Sequence[Labelled], split: str | None) -> None:
        annotations: list[dict] = []
        for number, item in enumerate(items, 1):
            for box, label, aside in zip(*item.truth, strict=True):
                x1, y1, x2, y2 = box.astype(float).tolist()
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": int(label) + 1,
                        "bbox": [_plain(v) for v in (x1, y1, x2 - x1, y2 - y1)],
                        "area": _plain((x2 - x1) * (y2 - y1)),
                        "iscrowd": int(aside),
                    }
                )
        content = {
            "images": [
                {"id": n, "file_name": i.file_name, "height": i.size[0], "width": i.size[1]}
                for n, i in enumerate(items, 1)
            ],
            "annotations": annotations,
            "categories": [{"id": n, "name": name} for n, name in enumerate(self.classes, 1)],
        }
        _write(self.out / "annotations" / f"instances_{_flat(split or 'all')}.json", json.dumps(content) + "\n")


class _Yolo:
    """``labels/<name>.txt``, ``classes.txt``, ``images``, ``<split>.txt``; YOLO has no mark for difficult objects."""

    images = "images"

    def __init__(self, out: Path, classes: Sequence[str], convention: str) -> None:
        self.out, self.classes = out, classes

    def add(self, item: Labelled) -> None:
        height, width = item.size
        lines = []
        for (x1, y1, x2, y2), label, aside in zip(*item.truth, strict=True):
            if not aside:
                numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
                lines.append(f"{label} " + " ".join(f"{n:.7f}" for n in numbers) + "\n")
        _write(self.out / "labels" / f"{item.name}.txt", "".join(lines))

    def finish(self, items: Sequence[Labelled], split: str | None) -> None:
        _write(self.out / "classes.txt", "".join(f"{name}\n" for name in self.classes))
        if split:
            write_list(self.out / f"{_flat(split)}.txt", [i.name for i in items])


class _LabelMe:
    """``images/<name>.json`` beside the images."""

    images = "images"

    def __init__(self, out: Path, classes: Sequence[str], convention: str) -> None:
        self.out, self.classes = out, classes

    def add(self, item: Labelled) -> None:
        shapes = [
            {
                "label": self.classes[label],
                "points": [[_plain(v) for v in corner] for corner in box.astype(float).reshape(2, 2).tolist()],
                "group_id": None,
                "shape_type": "rectangle",
                "flags": {"difficult": True} if aside else {},
            }
            for box, label, aside in zip(*item.truth, strict=True)
        ]
        content: dict = {
            "version": "5.0.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": item.file_name,
            "imageData": None,
            "imageHeight": item.size[0],
            "imageWidth": item.size[1],
        }
        _write(self.out / "images" / f"{item.name}.json", json.dumps(content, indent=1) + "\n")

    def finish(self, items: Sequence[Labelled], split: str | None) -> None:
        if split:
            write_list(self.out / f"{_flat(split)}.txt", [i.name for i in items])


class _Masks:
    """``masks/<name>.png`` with the boxes filled (difficult ones left out), ``images``."""

    images = "images"

    def __init__(self, out: Path, classes: Sequence[str], convention: str) -> None:
        self.out = out

    def add(self, item: Labelled) -> None:
        mask = mask_of_boxes(item.truth.boxes[~item.truth.ignored], item.size)
        write_image(self.out / "masks" / f"{item.name}.png", mask)

    def finish(self, items: Sequence[Labelled], split: str | None) -> None:
        if split:
            write_list(self.out / f"{_flat(split)}.txt", [i.name for i in items])


FORMATS: dict[str, Callable[[Path, Sequence[str], str], _Voc | _Coco | _Yolo | _LabelMe | _Masks]] = {
    "voc": _Voc,
    "coco": _Coco,
    "yolo": _Yolo,
    "labelme": _LabelMe,
    "masks": _Masks,
}
"""Format -> what writes it."""


def _mask(sample: Sample) -> np.ndarray:
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask", "leave out --from masks")
    return read_mask(sample.mask)


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else round(float(value), 4)


def _flat(split: str) -> str:
    return split.replace("/", "_")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
