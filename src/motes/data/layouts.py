"""The folder layouts in which infrared small-target sets are published, recognised by looking.

Nothing is configured: :func:`recognise` looks at the names of the folders under a root, never into an image.
Folder names are compared without case.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from motes.data.lists import looks_like_list
from motes.errors import DataError
from motes.naming import look_up, nearest


@dataclass(frozen=True)
class Pair:
    """A folder of images with the folders of masks that belong to it, best first.

    ``split`` is set where the layout stores each split in its own folders.
    """

    images: Path
    masks: tuple[Path, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class Plan:
    """Where everything of one data set lies."""

    layout: str
    pairs: tuple[Pair, ...]
    lists: dict[str, Path] = field(default_factory=dict)
    """Split name -> text file with one id a line."""
    boxes: Path | None = None
    points: Path | None = None
    sky: Path | None = None


def recognise(root: Path, layout: str | None = None) -> Plan:
    """The layout of ``root``; with ``layout`` only that one is tried.

    Raises:
        DataError: ``root`` is no folder, no layout fits, or ``layout`` is unknown or does not fit. Where a sub-folder
            looks like a data set, the message names it.
    """
    if not root.exists():
        raise DataError(f"no such folder: {root}", _nearest_sibling(root))
    if not root.is_dir():
        raise DataError(f"{root} is a file, but a data set is a folder")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root} cannot be read: no permission")
    if layout is not None:
        plan = LAYOUTS[look_up("layout", layout, LAYOUTS, DataError)](root)
        if plan is None:
            raise DataError(f"{root} is not in the layout '{layout}'", _found(root))
        return plan
    for look in LAYOUTS.values():
        plan = look(root)
        if plan is not None:
            return plan
    raise DataError(f"{root} is in no known data set layout", _nested(root) or _above(root) or _found(root))


def _sirstdevkit(root: Path) -> Plan | None:
    """``PNGImages``, ``SIRST/{BinaryMask,PaletteMask,BBox,Point_label}``, ``SkySeg``, ``Splits``."""
    images, labels = _folder(root, "PNGImages"), _folder(root, "SIRST")
    if images is None or labels is None:
        return None
    masks = [m for m in (_folder(labels, "BinaryMask"), _folder(labels, "PaletteMask")) if m]
    splits = _folder(root, "Splits")
    return Plan(
        "sirstdevkit",
        (Pair(images, tuple(masks)),),
        _lists_in(splits) if splits else {},
        boxes=_folder(labels, "BBox"),
        points=_folder(labels, "Point_label"),
        sky=_folder(root, "SkySeg/BinaryMask") or _folder(root, "SkySeg/PaletteMask"),
    )


def _open_sirst_v2(root: Path) -> Plan | None:
    """``mixed``, ``annotations/{masks,bboxes,centroids}``, ``splits``."""
    images, masks = _folder(root, "mixed"), _folder(root, "annotations/masks")
    if images is None or masks is None:
        return None
    splits = _folder(root, "splits")
    return Plan(
        "open-sirst-v2",
        (Pair(images, (masks,)),),
        _lists_in(splits) if splits else {},
        boxes=_folder(root, "annotations/bboxes"),
        points=_folder(root, "annotations/centroids"),
    )


def _basicirstd(root: Path) -> Plan | None:
    """``images``, ``masks``, ``img_idx/{train,test}_NAME.txt``."""
    pair, lists = _pair(root), _folder(root, "img_idx")
    if pair is None or lists is None:
        return None
    return Plan("basicirstd", (pair,), _lists_in(lists) | _other_lists(root, pair.images, *pair.masks, lists))


def _dnanet(root: Path) -> Plan | None:
    """``images``, ``masks``, ``<folder>/*.txt`` (DNANet: ``50_50/train.txt``, RepISD-Net: ``idx_427/trainval.txt``)."""
    pair = _pair(root)
    if pair is None:
        return None
    lists = _other_lists(root, pair.images, *pair.masks)
    return Plan("dnanet", (pair,), lists) if any("/" in name for name in lists) else None


def _serankdet(root: Path) -> Plan | None:
    """``{trainval,test}/{images,masks}``, the list being what lies there."""
    pairs = [Pair(p.images, p.masks, d.name) for d in _split_folders(root) if (p := _pair(d))]
    return Plan("serankdet", tuple(pairs), _other_lists(root, *_split_folders(root))) if pairs else None


def _factseg(root: Path) -> Plan | None:
    """``{train,test}/{images,masks}/images``."""
    pairs = []
    for folder in _split_folders(root):
        images, masks = _folder(folder, "images/images"), _folder(folder, "masks/images")
        if images and masks:
            pairs.append(Pair(images, (masks,), folder.name))
    return Plan("factseg", tuple(pairs), _other_lists(root, *_split_folders(root))) if pairs else None


def _irstd1k(root: Path) -> Plan | None:
    """``IRSTD1k_Img``, ``IRSTD1k_Label``, lists beside them where there are any."""
    images, masks = _folder(root, "IRSTD1k_Img"), _folder(root, "IRSTD1k_Label")
    if images is None or masks is None:
        return None
    pair = Pair(images, (masks,))
    return Plan("irstd1k", (pair,), _other_lists(root, pair.images, *pair.masks))


def _plain(root: Path) -> Plan | None:
    """``images``, ``masks``, lists beside them where there are any."""
    pair = _pair(root)
    return Plan("plain", (pair,), _other_lists(root, pair.images, *pair.masks)) if pair else None


LAYOUTS: dict[str, Callable[[Path], Plan | None]] = {
    "sirstdevkit": _sirstdevkit,
    "open-sirst-v2": _open_sirst_v2,
    "irstd1k": _irstd1k,
    "factseg": _factseg,
    "serankdet": _serankdet,
    "basicirstd": _basicirstd,
    "dnanet": _dnanet,
    "plain": _plain,
}
"""In the order in which they are tried: a more specific layout comes before one that would also fit."""

SPLIT_FOLDERS = ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")


def _pair(root: Path) -> Pair | None:
    images, masks = _folder(root, "images"), _folder(root, "masks")
    return Pair(images, (masks,)) if images and masks else None


def _split_folders(root: Path) -> list[Path]:
    found = {d.name.lower(): d for d in _children(root) if d.is_dir()}
    return [found[name] for name in SPLIT_FOLDERS if name in found]


def _lists_in(folder: Path) -> dict[str, Path]:
    """``name`` -> file for the lists in ``folder``, ``sub/name`` for those one folder deeper."""
    lists = {f.stem: f for f in _text_files(folder)}
    for sub in _children(folder):
        if sub.is_dir():
            lists |= {f"{sub.name}/{f.stem}": f for f in _text_files(sub)}
    return lists


def _other_lists(root: Path, *known: Path) -> dict[str, Path]:
    """Lists in the root itself, and as ``folder/name`` in its folders other than the ``known`` ones."""
    lists = {f.stem: f for f in _text_files(root)}
    for folder in _children(root):
        if folder.is_dir() and folder not in known:
            lists |= {f"{folder.name}/{f.stem}": f for f in _text_files(folder)}
    return lists


def told(root: Path, images: Path, masks: Path | None) -> Plan:
    """The plan of a data set whose folders the user names; lists are looked for beside them."""
    folders = (masks,) if masks else ()
    lists = _other_lists(root, images, *folders) if root.is_dir() else {}
    return Plan("told", (Pair(images, folders),), lists)


def _text_files(folder: Path) -> Iterator[Path]:
    for file in _children(folder):
        if file.suffix.lower() == ".txt" and file.is_file() and looks_like_list(file):
            yield file


def _folder(root: Path, name: str) -> Path | None:
    """The folder ``name`` (may hold slashes) under ``root``, whatever its case; the exact name wins."""
    for part in name.split("/"):
        if (root / part).is_dir():
            names = {d.name for d in _children(root)}
            # On a file system without case the spelling on disk is the one to report.
            root = root / (part if part in names else next(n for n in names if n.lower() == part.lower()))
            continue
        found = [d for d in _children(root) if d.name.lower() == part.lower() and d.is_dir()]
        if not found:
            return None
        root = found[0]
    return root


def _children(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)


def _nested(root: Path) -> str | None:
    """A hint that names the sub-folders, up to two deep, which are data sets."""
    found = []
    for sub in (d for d in _children(root) if d.is_dir()):
        with suppress(OSError):  # a folder that may not be read is no candidate
            candidates = [sub, *(d for d in _children(sub) if d.is_dir())]
            found += [c for c in candidates if _known(c)][:1]
    if not found:
        return None
    if len(found) == 1:
        return f"its sub-folder looks like one: {found[0]}"
    return f"its sub-folders look like data sets: {', '.join(str(f) for f in found[:4])}"


def _above(root: Path) -> str | None:
    """A hint that names the folder above, where ``root`` is part of a data set."""
    parent = root.resolve().parent
    with suppress(OSError):
        if _known(parent):
            return f"the folder above it looks like one: {parent}"
    return None


def _known(root: Path) -> bool:
    return any(look(root) for look in LAYOUTS.values())


def _found(root: Path) -> str:
    names = [d.name + ("/" if d.is_dir() else "") for d in _children(root)]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"found {shown or 'nothing'}; known layouts: {', '.join(LAYOUTS)}; or give image_dir and mask_dir"


def _nearest_sibling(root: Path) -> str | None:
    if not root.parent.is_dir():
        return None
    close = nearest(root.name, (d.name for d in _children(root.parent) if d.is_dir()))
    return f"did you mean {root.parent / close}?" if close else None
