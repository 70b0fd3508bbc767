"""The layouts of data sets whose truth is boxes, without masks: Pascal VOC, COCO, YOLO, LabelMe."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from motes.data.box_files import read_coco, read_json
from motes.data.plans import Pair, Plan, children, folder_in, lists_in, other_lists, split_folders
from motes.errors import DataError
from motes.imaging import is_image_path


def _voc(root: Path) -> Plan | None:
    """``JPEGImages`` (or ``images``), ``Annotations/*.xml``, ``ImageSets/Main/*.txt``."""
    images = folder_in(root, "JPEGImages") or folder_in(root, "images")
    boxes = folder_in(root, "Annotations")
    if images is None or boxes is None or not _first(boxes, ".xml"):
        return None
    lists = folder_in(root, "ImageSets/Main")
    return Plan("voc", (Pair(images, boxes=(boxes,)),), lists_in(lists) if lists else {})


def _coco(root: Path) -> Plan | None:
    """``annotations/*.json`` (or ``*.json`` in the root); images where their ``file_name`` is found."""
    own = folder_in(root, "annotations")
    every = [f for f in children(own or root) if f.suffix.lower() == ".json"]
    files = [f for f in every if _is_coco(f)]
    if not files:
        for file in every if own and folder_in(root, "images") else ():
            read_json(file)  # a damaged file says so here, not that the layout is unknown
        return None
    pairs: dict[Path, list[Path]] = {}
    members: dict[str, tuple[str, ...]] = {}
    for file in files:
        found = read_coco(file)
        split = re.sub(r"^(instances|annotations)_", "", file.stem)
        if len(files) > 1 or split != file.stem:
            members[split] = tuple(found.images)
        names = [str(entry["file_name"]).replace("\\", "/") for entry in found.images.values()]
        for place in dict.fromkeys(_image_folder(root, split, name) for name in names[:1]):
            for parent in dict.fromkeys((place / name).parent for name in names):
                pairs.setdefault(parent, []).append(file)
    missing = [folder for folder in pairs if not folder.is_dir()]
    if missing or not pairs:
        return None
    several = len(pairs) > 1
    return Plan(
        "coco",
        tuple(Pair(p, split=p.name if several else None, boxes=tuple(f)) for p, f in pairs.items()),
        members=members,
    )


def _yolo(root: Path) -> Plan | None:
    """``images``, ``labels/*.txt``; or ``images/train``, ``labels/train``; ``classes.txt`` or ``data.yaml``."""
    images, labels = folder_in(root, "images"), folder_in(root, "labels")
    if images is None or labels is None or folder_in(root, "masks"):
        return None
    pairs = [
        Pair(folder, split=folder.name, boxes=(place,))
        for folder in split_folders(images)
        if (place := folder_in(labels, folder.name)) and _first(place, ".txt")
    ]
    if not pairs and _first(labels, ".txt"):
        pairs = [Pair(images, boxes=(labels,))]
    if not pairs:
        return None
    lists = {} if len(pairs) > 1 else other_lists(root, images, labels)
    return Plan("yolo", tuple(pairs), lists, box_classes=_names(root))


def _labelme(root: Path) -> Plan | None:
    """Images with a ``.json`` of LabelMe's beside each, in the root or in ``images``."""
    for folder in (root, folder_in(root, "images")):
        if folder is None:
            continue
        stems = {f.stem for f in children(folder) if is_image_path(f)}
        files = [f for f in children(folder) if f.suffix.lower() == ".json" and f.stem in stems]
        if any(_has(f, "shapes") for f in files[:3]):  # the first may be damaged
            return Plan("labelme", (Pair(folder, boxes=(folder,)),), other_lists(root, folder))
    return None


BOXES: dict[str, Callable[[Path], Plan | None]] = {"voc": _voc, "coco": _coco, "yolo": _yolo, "labelme": _labelme}
"""In the order in which they are tried."""


def _image_folder(root: Path, split: str, name: str) -> Path:
    """The folder below which an image of a COCO file is found; ``root`` where it is nowhere."""
    likely = (root / "images" / split, root / split, root / "images", root / "data", root)
    return next((place for place in likely if (place / name).is_file()), root / "images")


def _is_coco(file: Path) -> bool:
    return _has(file, "images", "annotations")


def _has(file: Path, *keys: str) -> bool:
    """Whether a JSON file is an object with these keys."""
    try:
        with file.open("rb") as stream:
            head = stream.read(1)
            if head not in (b"{", b"\xef", b" ", b"\n", b"\r", b"\t"):
                return False
        content: Any = read_json(file)
    except (DataError, OSError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def _first(folder: Path, suffix: str) -> Path | None:
    return next((f for f in children(folder) if f.suffix.lower() == suffix), None)


def _names(root: Path) -> tuple[str, ...]:
    """The classes of a YOLO set by number; () where nothing names them."""
    for file in (root / "classes.txt", root / "labels" / "classes.txt"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    for file in sorted(root.glob("*.y*ml")):
        import yaml

        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise DataError(f"{file} is not readable as YAML: {' '.join(str(e).split())}") from None
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict):
            return tuple(str(names[k]) for k in sorted(names))
        if isinstance(names, list):
            return tuple(map(str, names))
    return ()
