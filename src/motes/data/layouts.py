"""The folder layouts in which data sets are published, recognised by looking.

Aerial ones are in `aerial_layouts`, those of boxes without masks in `box_layouts`.

Nothing is configured: :func:`recognise` looks at the names of the folders under a root, never into an image.
Folder names are compared without case.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from motes.data.aerial_layouts import AERIAL
from motes.data.box_layouts import BOXES
from motes.data.plans import Pair, Plan, children, folder_in, lists_in, other_lists, pair_in, split_folders
from motes.errors import DataError
from motes.naming import look_up, nearest


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
    images, labels = folder_in(root, "PNGImages"), folder_in(root, "SIRST")
    if images is None or labels is None:
        return None
    masks = [m for m in (folder_in(labels, "BinaryMask"), folder_in(labels, "PaletteMask")) if m]
    splits = folder_in(root, "Splits")
    return Plan(
        "sirstdevkit",
        (Pair(images, tuple(masks)),),
        lists_in(splits) if splits else {},
        boxes=folder_in(labels, "BBox"),
        points=folder_in(labels, "Point_label"),
        sky=folder_in(root, "SkySeg/BinaryMask") or folder_in(root, "SkySeg/PaletteMask"),
    )


def _open_sirst_v2(root: Path) -> Plan | None:
    """``mixed``, ``annotations/{masks,bboxes,centroids}``, ``splits``."""
    images, masks = folder_in(root, "mixed"), folder_in(root, "annotations/masks")
    if images is None or masks is None:
        return None
    splits = folder_in(root, "splits")
    return Plan(
        "open-sirst-v2",
        (Pair(images, (masks,)),),
        lists_in(splits) if splits else {},
        boxes=folder_in(root, "annotations/bboxes"),
        points=folder_in(root, "annotations/centroids"),
    )


def _basicirstd(root: Path) -> Plan | None:
    """``images``, ``masks``, ``img_idx/{train,test}_NAME.txt``."""
    pair, lists = pair_in(root), folder_in(root, "img_idx")
    if pair is None or lists is None:
        return None
    return Plan("basicirstd", (pair,), lists_in(lists) | other_lists(root, pair.images, *pair.masks, lists))


def _dnanet(root: Path) -> Plan | None:
    """``images``, ``masks``, ``<folder>/*.txt`` (DNANet: ``50_50/train.txt``, RepISD-Net: ``idx_427/trainval.txt``)."""
    pair = pair_in(root)
    if pair is None:
        return None
    lists = other_lists(root, pair.images, *pair.masks)
    return Plan("dnanet", (pair,), lists) if any("/" in name for name in lists) else None


def _serankdet(root: Path) -> Plan | None:
    """``{trainval,test}/{images,masks}``, the list being what lies there."""
    pairs = [Pair(p.images, p.masks, d.name) for d in split_folders(root) if (p := pair_in(d))]
    return Plan("serankdet", tuple(pairs), other_lists(root, *split_folders(root))) if pairs else None


def _factseg(root: Path) -> Plan | None:
    """``{train,test}/{images,masks}/images``."""
    pairs = []
    for folder in split_folders(root):
        images, masks = folder_in(folder, "images/images"), folder_in(folder, "masks/images")
        if images and masks:
            pairs.append(Pair(images, (masks,), folder.name))
    return Plan("factseg", tuple(pairs), other_lists(root, *split_folders(root))) if pairs else None


def _irstd1k(root: Path) -> Plan | None:
    """``IRSTD1k_Img``, ``IRSTD1k_Label``, lists beside them where there are any."""
    images, masks = folder_in(root, "IRSTD1k_Img"), folder_in(root, "IRSTD1k_Label")
    if images is None or masks is None:
        return None
    pair = Pair(images, (masks,))
    return Plan("irstd1k", (pair,), other_lists(root, pair.images, *pair.masks))


def _plain(root: Path) -> Plan | None:
    """``images``, ``masks``, lists beside them where there are any."""
    pair = pair_in(root)
    return Plan("plain", (pair,), other_lists(root, pair.images, *pair.masks)) if pair else None


LAYOUTS: dict[str, Callable[[Path], Plan | None]] = {
    "sirstdevkit": _sirstdevkit,
    "open-sirst-v2": _open_sirst_v2,
    "irstd1k": _irstd1k,
    **AERIAL,
    "factseg": _factseg,
    "serankdet": _serankdet,
    "basicirstd": _basicirstd,
    "dnanet": _dnanet,
    "plain": _plain,
    **BOXES,
}
"""In the order in which they are tried: a more specific layout comes before one that would also fit."""


def told(root: Path, images: Path, masks: Path | None) -> Plan:
    """The plan of a data set whose folders the user names; lists are looked for beside them."""
    folders = (masks,) if masks else ()
    lists = other_lists(root, images, *folders) if root.is_dir() else {}
    return Plan("told", (Pair(images, folders),), lists)


def _nested(root: Path) -> str | None:
    """A hint that names the sub-folders, up to two deep, which are data sets."""
    found = []
    for sub in (d for d in children(root) if d.is_dir()):
        with suppress(OSError):  # a folder that may not be read is no candidate
            candidates = [sub, *(d for d in children(sub) if d.is_dir())]
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
    names = [d.name + ("/" if d.is_dir() else "") for d in children(root)]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"found {shown or 'nothing'}; known layouts: {', '.join(LAYOUTS)}; or give image_dir and mask_dir"


def _nearest_sibling(root: Path) -> str | None:
    if not root.parent.is_dir():
        return None
    close = nearest(root.name, (d.name for d in children(root.parent) if d.is_dir()))
    return f"did you mean {root.parent / close}?" if close else None
