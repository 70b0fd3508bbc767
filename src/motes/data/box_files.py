"""Files of boxes as they are stored: Pascal VOC, LabelMe, YOLO, COCO; one image's objects from each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from motes.errors import DataError


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        boxes: float64 [N, 4] xyxy px. Of VOC as stored, for its corner convention is a matter of the whole set (see
            `motes.data.boxes`); of all others half-open.
        names: the class of each.
        difficult: bool [N]: present, but not to be counted (VOC's ``difficult``, COCO's ``iscrowd``).
        size: (height, width) as the file says, or None.
        bare: objects that have no box and were left out.
        stored: whether the boxes are as stored (VOC).
    """

    boxes: NDArray[np.float64]
    names: tuple[str, ...]
    difficult: NDArray[np.bool_]
    size: tuple[int, int] | None = None
    bare: int = 0
    stored: bool = False


def read_voc(path: Path) -> Objects:
    """The ``object`` elements of a VOC file.

    Raises:
        DataError: not XML, not of VOC's form, or a corner that is missing or no number.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as e:
        raise DataError(f"{path} is not readable as XML: {e}") from None
    if root.tag != "annotation" and root.find("object") is None:
        raise DataError(f"{path} is not a Pascal VOC file: it holds <{root.tag}>, expected <annotation>")
    rows, names, difficult, bare = [], [], [], 0
    for item in root.iter("object"):
        box = item.find("bndbox")
        if box is None:
            bare += 1
            continue
        rows.append([_number(path, box, tag) for tag in ("xmin", "ymin", "xmax", "ymax")])
        names.append((item.findtext("name") or "").strip())
        difficult.append((item.findtext("difficult") or "0").strip() not in ("0", ""))
    size = tuple(_side(root.findtext(f"size/{tag}")) for tag in ("height", "width"))
    return _objects(path, rows, names, difficult, (size[0], size[1]) if all(size) else None, bare, stored=True)


def read_labelme(path: Path) -> Objects:
    """The shapes of a LabelMe file: rectangles, and the bounding boxes of polygons and circles; points have no box.

    LabelMe's coordinates are continuous, with 0 at the upper left corner of the first pixel, so they are half-open.

    Raises:
        DataError: not JSON, or not of LabelMe's form.
    """
    content = read_json(path)
    rows, names, difficult, bare = [], [], [], 0
    try:
        for shape in content["shapes"]:
            points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
            kind = shape.get("shape_type") or "polygon"
            if len(points) < 2 or kind in ("point", "points", "line", "linestrip"):
                bare += 1
                continue
            if kind == "circle":
                reach = float(np.hypot(*(points[1] - points[0])))
                points = np.stack([points[0] - reach, points[0] + reach])
            rows.append([*points.min(0), *points.max(0)])
            names.append(str(shape["label"]))
            difficult.append(bool((shape.get("flags") or {}).get("difficult")))
        size = (int(content["imageHeight"]), int(content["imageWidth"])) if content.get("imageHeight") else None
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise DataError(f"{path} is not a LabelMe file: {type(e).__name__} {e}") from None
    return _objects(path, rows, names, difficult, size, bare)


def read_yolo(path: Path, size: tuple[int, int], classes: Sequence[str]) -> Objects:
    """The lines ``class x_centre y_centre width height [score]`` of a YOLO file, fractions of the image.

    Lines with more numbers are polygons, of which the bounding box is taken.

    Args:
        path: the label file.
        size: (height, width) of the image, px.
        classes: names by number; a number beyond them is an error. Without any, names are the numbers.

    Raises:
        DataError: a line that is no such line.
    """
    height, width = size
    rows, names = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path} is not readable as text: {e}") from None
    for n, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            number, values = int(words[0]), [float(w) for w in words[1:]]
            if len(values) > 5:
                points = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
                (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
            else:
                x, y, w, h = values[:4]
                x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        except ValueError:
            raise DataError(
                f"{path}: line {n} is '{line.strip()[:60]}', expected 'class x_centre y_centre width height'"
            ) from None
        if classes and not 0 <= number < len(classes):
            raise DataError(f"{path}: line {n} is of class {number}, and the set names {len(classes)} classes")
        rows.append([x1 * width, y1 * height, x2 * width, y2 * height])
        names.append(classes[number] if classes else str(number))
    # Fractions are written with some seven digits: what is that close to a whole pixel was one.
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    near = np.abs(boxes - np.round(boxes)) < 2e-6 * max(size) + 1e-4
    return _objects(path, np.where(near, np.round(boxes), boxes), names, [False] * len(names), size)


@dataclass(frozen=True)
class Coco:
    """A COCO file.

    Attributes:
        path: of the file.
        classes: names of its categories, by their id.
        images: stem of ``file_name`` -> its entry.
        annotations: id of an image -> its annotations.
    """

    path: Path
    classes: dict[int, str]
    images: dict[str, dict[str, Any]]
    annotations: dict[Any, list[dict[str, Any]]] = field(repr=False)

    def objects(self, stem: str) -> Objects:
        """The objects of an image; DataError where an annotation is malformed."""
        entry = self.images[stem]
        rows, names, difficult, bare = [], [], [], 0
        for item in self.annotations.get(entry["id"], ()):
            if not item.get("bbox"):
                bare += 1
                continue
            try:
                x, y, w, h = (float(v) for v in item["bbox"])
                names.append(self.classes[item["category_id"]])
            except (TypeError, ValueError, KeyError) as e:
                raise DataError(
                    f"{self.path}: annotation {item.get('id')} of '{stem}' is malformed: {type(e).__name__} {e}",
                    "bbox is [x, y, width, height], category_id one of the categories",
                ) from None
            rows.append([x, y, x + w, y + h])
            difficult.append(bool(item.get("iscrowd") or item.get("ignore") or item.get("difficult")))
        try:
            size = (int(entry["height"]), int(entry["width"])) if entry.get("height") and entry.get("width") else None
        except (TypeError, ValueError):
            sides = f"{entry['height']!r} x {entry['width']!r}"
            raise DataError(f"{self.path}: image '{stem}' has height x width {sides}, numbers were expected") from None
        return _objects(self.path, rows, names, difficult, size, bare)


def read_coco(path: Path) -> Coco:
    """A COCO data set; read once for all its images.

    Raises:
        DataError: not JSON, or without images and annotations.
    """
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from None
    return _coco(path, stamp)


@lru_cache(maxsize=8)
def _coco(path: Path, _stamp: int) -> Coco:
    content = read_json(path)
    if not isinstance(content, Mapping) or "images" not in content or "annotations" not in content:
        raise DataError(f"{path} is not a COCO data set: it has no 'images' and 'annotations'")
    annotations: dict[Any, list[dict[str, Any]]] = {}
    try:
        classes = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
        images = {Path(str(i["file_name"]).replace("\\", "/")).stem: dict(i) for i in content["images"]}
        for item in content["annotations"]:
            annotations.setdefault(item["image_id"], []).append(item)
        known = {i["id"] for i in content["images"]}
    except (KeyError, TypeError, AttributeError) as e:
        raise DataError(f"{path} is not a COCO data set: {type(e).__name__} {e}") from None
    if lost := [i for i in annotations if i not in known]:
        raise DataError(f"{path}: annotations of image {lost[0]}, which is not among its images")
    return Coco(path, classes, images, annotations)


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from None
    except ValueError as e:
        raise DataError(f"{path} is not readable as JSON: {e}") from None


def _objects(
    path: Path,
    rows: Any,
    names: Sequence[str],
    difficult: Sequence[bool],
    size: tuple[int, int] | None,
    bare: int = 0,
    stored: bool = False,
) -> Objects:
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    if wrong := [i for i, box in enumerate(boxes) if not np.isfinite(box).all()]:
        corners = ", ".join(f"{v:g}" for v in boxes[wrong[0]])
        raise DataError(f"{path}: box {wrong[0] + 1} has corners ({corners}), finite numbers were expected")
    return Objects(boxes, tuple(names), np.array(difficult, bool), size, bare, stored)


def _number(path: Path, element: ElementTree.Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text or "")
        if np.isfinite(value):
            return value
    except ValueError:
        pass
    raise DataError(f"{path}: <{element.tag}> has <{tag}> {text!r}, a number was expected")


def _side(text: str | None) -> int:
    try:
        return max(0, int(float(text or 0)))
    except ValueError:
        return 0
