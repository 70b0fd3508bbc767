"""The layouts of aerial data sets: iSAID in its forms, the GaoFen contest, Potsdam and Vaihingen.

Files are told apart by their names; no image is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from motes.data.plans import Pair, Plan, children, folder_in, other_lists, pair_in, split_folders

MANIFEST = "prepared.jsonl"
"""What ``motes data prepare`` writes beside its patches."""

COLOURS, INSTANCES = "_instance_color_RGB", "_instance_id_RGB"
"""iSAID: what stands behind an image's stem in the name of its class mask and of its instances."""

PATCH = re.compile(r"_\d+_\d+_\d+_\d+$")


def _patches(root: Path) -> Plan | None:
    """``{train,val,test}/{images,masks}`` of patches: as ``motes data prepare`` and PFNet's scripts leave them."""
    pairs = _masked_splits(root)
    if (root / MANIFEST).is_file() and (pairs := pairs or _image_splits(root)):
        name = "isaid" if any(_holds(p.masks, COLOURS) for p in pairs) else None
        return Plan("patches", tuple(pairs), _lists(root), classes=name, manifest=root / MANIFEST)
    if any(_holds(p.masks, COLOURS) and _first_is_patch(p.images) for p in pairs):
        return Plan("patches", tuple(pairs), _lists(root), classes="isaid")
    return None


def _isaid(root: Path) -> Plan | None:
    """The official one: ``{train,val}/images/`` with images, class and instance masks together; ``test/images/``."""
    pairs = []
    for folder in split_folders(root):
        images = folder_in(folder, "images")
        if images is not None:
            pairs.append(Pair(images, (images,) if _holds((images,), COLOURS) else (), folder.name))
    if not any(p.masks for p in pairs):
        return None
    return Plan("isaid", tuple(pairs), _lists(root), classes="isaid")


def _isaid_masks(root: Path) -> Plan | None:
    """FarSeg's and FactSeg's: ``{train,val}/images/``, ``{train,val}/masks/*_instance_color_RGB.png``."""
    pairs = _masked_splits(root)
    if not any(_holds(p.masks, COLOURS) for p in pairs):
        return None
    return Plan("isaid-masks", tuple(pairs), _lists(root), classes="isaid")


def _gaofen(root: Path) -> Plan | None:
    """One track of the contest: ``{all,train,val}/{image,gt}``. ``all`` holds what is in the other two once more."""
    pairs = []
    for name in ("train", "val", "test", "all"):
        images = folder_in(root, f"{name}/image")
        if images is not None:
            masks = folder_in(root, f"{name}/gt")
            pairs.append(Pair(images, (masks,) if masks else (), name, repeats=name == "all"))
    if not any(p.masks for p in pairs):
        return None
    track = root.resolve().name.lower()
    if track not in ("img", "sar"):
        track = "img" if _holds(tuple(p.images for p in pairs), "", (".tif", ".tiff")) else "sar"
    known = [folder for p in pairs for folder in (p.images.parent,)]
    return Plan("gaofen", tuple(pairs), other_lists(root, *known), classes=f"gaofen-{track}")


POTSDAM_TEST = ("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15",
                "7_13")  # fmt: skip
VAIHINGEN_TEST = ("2", "4", "6", "8", "10", "12", "14", "16", "20", "22", "24", "27", "29", "31", "33", "35", "38")
"""The tiles whose masks were withheld during the benchmark."""


def _potsdam(root: Path) -> Plan | None:
    """``2_Ortho_RGB/*_RGB.tif`` (or IRRG, RGBIR), ``5_Labels_all/*_label.tif`` (or ``5_Labels_for_participants``)."""
    images = next((f for n in ("2_Ortho_RGB", "3_Ortho_IRRG", "4_Ortho_RGBIR") if (f := folder_in(root, n))), None)
    names = ("5_Labels_all", "5_Labels_for_participants", "5_Labels_all_noBoundary")
    return _isprs(root, "potsdam", images, names, r"potsdam_0?(\d+_\d+)", POTSDAM_TEST)


def _vaihingen(root: Path) -> Plan | None:
    """``top/top_mosaic_09cm_area*.tif``, ``gts_for_participants/`` (or the complete or eroded ground truth)."""
    truth = "ISPRS_semantic_labeling_Vaihingen_ground_truth"
    names = (f"{truth}_COMPLETE", "gts_for_participants", "gts", f"{truth}_eroded_COMPLETE", f"{truth}_eroded")
    return _isprs(root, "vaihingen", folder_in(root, "top"), names, r"area(\d+)", VAIHINGEN_TEST)


def _isprs(
    root: Path, name: str, images: Path | None, labels: tuple[str, ...], tile: str, test: tuple[str, ...]
) -> Plan | None:
    masks = tuple(f for n in labels if (f := folder_in(root, n)))
    if images is None or not masks:
        return None
    members: dict[str, tuple[str, ...]] = {"train": (), "test": ()}
    for file in children(images):
        if found := re.search(tile, file.stem):
            split = "test" if found[1] in test else "train"
            members[split] += (file.stem,)
    known = {k: v for k, v in members.items() if v}
    return Plan(name, (Pair(images, masks),), other_lists(root, images, *masks), classes=name, members=known)


AERIAL: dict[str, Callable[[Path], Plan | None]] = {
    "patches": _patches,
    "isaid": _isaid,
    "isaid-masks": _isaid_masks,
    "gaofen": _gaofen,
    "potsdam": _potsdam,
    "vaihingen": _vaihingen,
}
"""In the order in which they are tried."""


def _masked_splits(root: Path) -> list[Pair]:
    """``{train,val,test}/{images,masks}``; masks in ``masks_new`` (the Jittor PFNet's ids) come first."""
    pairs = []
    for folder in split_folders(root):
        ids, pair = folder_in(folder, "masks_new"), pair_in(folder)
        images = folder_in(folder, "images")
        if images is not None and (ids or pair):
            masks = (*((ids,) if ids else ()), *(pair.masks if pair else ()))
            pairs.append(Pair(images, masks, folder.name))
        elif images is not None and folder.name.lower().startswith("test"):
            pairs.append(Pair(images, (), folder.name))
    return pairs if any(p.masks for p in pairs) else []


def _image_splits(root: Path) -> list[Pair]:
    return [Pair(images, (), f.name) for f in split_folders(root) if (images := folder_in(f, "images"))]


def _lists(root: Path) -> dict[str, Path]:
    return other_lists(root, *split_folders(root))


def _holds(folders: tuple[Path, ...], ending: str, suffixes: tuple[str, ...] = (".png",)) -> bool:
    """Whether one of the folders holds a file of this ending; stops at the first."""
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, suffix = entry.name.rpartition(".")
                if stem.endswith(ending) and dot + suffix.lower() in suffixes and not stem.startswith("."):
                    return True
    return False


def _first_is_patch(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = (e.name.rpartition(".")[0] for e in entries if not e.name.startswith("."))
        return any(PATCH.search(name) for name, _ in zip(names, range(100), strict=False))
