"""What a layout says about a folder, and looking into folders by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from motes.data.lists import looks_like_list


@dataclass(frozen=True)
class Pair:
    """A folder of images with the folders of masks that belong to it, best first.

    ``split`` is set where the layout stores each split in its own folders. ``repeats``: what lies here under the same
    name as in another pair's folder is the same image once more. ``boxes``: folders with one file of boxes an image, or
    COCO files.
    """

    images: Path
    masks: tuple[Path, ...] = ()
    split: str | None = None
    repeats: bool = False
    boxes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Where everything of one data set lies."""

    layout: str
    pairs: tuple[Pair, ...]
    lists: dict[str, Path] = field(default_factory=dict)
    """Split name -> text file with one id a line."""
    boxes: Path | None = None
    """The folder of VOC files beside masks; where boxes are all there is, see :class:`Pair`."""
    points: Path | None = None
    sky: Path | None = None
    classes: str | None = None
    """The class table of the data set, where the layout has one."""
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Split name -> stems, where the publication fixes the split and no list is stored."""
    box_classes: tuple[str, ...] = ()
    """Names by number, where boxes are stored with numbers (YOLO)."""
    manifest: Path | None = None
    """What ``motes data prepare`` noted about its patches."""


SPLIT_FOLDERS = ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")


def pair_in(root: Path) -> Pair | None:
    images, masks = folder_in(root, "images"), folder_in(root, "masks")
    return Pair(images, (masks,)) if images and masks else None


def split_folders(root: Path) -> list[Path]:
    found = {d.name.lower(): d for d in children(root) if d.is_dir()}
    return [found[name] for name in SPLIT_FOLDERS if name in found]


def lists_in(folder: Path) -> dict[str, Path]:
    """``name`` -> file for the lists in ``folder``, ``sub/name`` for those one folder deeper."""
    lists = {f.stem: f for f in _text_files(folder)}
    for sub in children(folder):
        if sub.is_dir():
            lists |= {f"{sub.name}/{f.stem}": f for f in _text_files(sub)}
    return lists


def other_lists(root: Path, *known: Path) -> dict[str, Path]:
    """Lists in the root itself, and as ``folder/name`` in its folders other than the ``known`` ones."""
    lists = {f.stem: f for f in _text_files(root)}
    for folder in children(root):
        if folder.is_dir() and folder not in known:
            lists |= {f"{folder.name}/{f.stem}": f for f in _text_files(folder)}
    return lists


def _text_files(folder: Path) -> Iterator[Path]:
    for file in children(folder):
        if file.suffix.lower() == ".txt" and file.is_file() and looks_like_list(file):
            yield file


def folder_in(root: Path, name: str) -> Path | None:
    """The folder ``name`` (may hold slashes) under ``root``, whatever its case; the exact name wins."""
    for part in name.split("/"):
        if (root / part).is_dir():
            names = {d.name for d in children(root)}
            # On a file system without case the spelling on disk is the one to report.
            root = root / (part if part in names else next(n for n in names if n.lower() == part.lower()))
            continue
        found = [d for d in children(root) if d.name.lower() == part.lower() and d.is_dir()]
        if not found:
            return None
        root = found[0]
    return root


def children(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)
