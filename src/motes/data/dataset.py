"""A data set as samples and splits, whatever its folders look like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from motes.data.aerial_layouts import COLOURS, INSTANCES
from motes.data.box_files import read_coco
from motes.data.classes import ClassTable, class_table
from motes.data.layouts import recognise, told
from motes.data.lists import read_list
from motes.data.plans import Pair, Plan
from motes.data.roles import role
from motes.errors import DataError
from motes.imaging import is_image_path
from motes.naming import look_up, nearest

MASK_ENDINGS = ("", "_pixels0", "_mask", "_gt", "_label", COLOURS, "_label_noBoundary", "_noBoundary")
"""What a mask's stem may have after the image's."""

IMAGE_ENDINGS = ("_RGB", "_IRRG", "_RGBIR")
"""What an image's stem may have that its mask's has not."""

CLASS_LISTS = ("classes.yaml", "classes.yml", "classes.txt")
"""A class list in the root of a data set; it counts if it names two classes at least."""


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Attributes:
        name: the id of split lists: the image's stem. Where two split folders hold the same stem, the folder is put in
            front of it (``test_0001``), so that a name is unique in its data set and always a file name.
        image: the image file.
        mask: the mask file, or None where there is none.
        boxes: the file that holds its boxes (VOC, LabelMe, YOLO, COCO), or None; see `motes.data.annotations`.
        sky: the sky map, or None.
        box_classes: names by number, where the boxes are stored with numbers.
        empty: it is known to hold no target, and needs no mask.
    """

    name: str
    image: Path
    mask: Path | None = None
    boxes: Path | None = None
    sky: Path | None = None
    box_classes: tuple[str, ...] = ()
    empty: bool = False


@dataclass(frozen=True)
class Dataset:
    """Samples and splits of one data set. Made by :func:`open_dataset`; opens no image."""

    root: Path
    layout: str
    samples: dict[str, Sample]
    """By name, in natural order (Misc_2 before Misc_10)."""
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids as listed: repeated and missing ones are kept, :func:`motes.data.check` reports them."""
    plan: Plan | None = None
    orphan_masks: tuple[Path, ...] = ()
    """Masks without an image."""
    hidden: tuple[Path, ...] = ()
    """Images that share their stem with another one of the same folder, which is the one used."""
    classes: ClassTable | None = None
    """What the labels of an aerial data set mean; None for binary masks."""

    def split(self, name: str | None = None) -> list[Sample]:
        """The samples of a split in the order of its list, each once; all samples without a name.

        A short name is enough where it is unambiguous: ``train`` finds ``50_50/train`` or ``train_NUAA-SIRST`` if no
        other split of the data set begins or ends like this.

        Raises:
            DataError: unknown split, or a listed id without an image.
        """
        if name is None:
            return list(self.samples.values())
        ids = dict.fromkeys(self.splits[self.split_name(name)])
        missing = [i for i in ids if i not in self.samples]
        if missing:
            close = nearest(missing[0], self.samples)
            raise DataError(
                f"split '{name}' of {self.root} lists {len(missing)} of {len(ids)} ids without an image, "
                f"the first is '{missing[0]}'",
                f"the nearest image is '{close}'" if close else "see motes data check",
            )
        return [self.samples[i] for i in ids]

    def split_name(self, name: str) -> str:
        """The full name of a split from an unambiguous short one."""
        if name not in self.splits:
            short = [s for s in self.splits if s.rpartition("/")[2] == name or s.startswith(f"{name}_")]
            if len(short) == 1:
                return short[0]
            if len(short) > 1:
                raise DataError(f"split '{name}' may be any of {', '.join(short)} in {self.root}", "give the full name")
            if not self.splits:
                raise DataError(
                    f"{self.root} has no split lists, so there is no split '{name}'",
                    "make them with motes data split, or use the whole set",
                )
        return look_up("split", name, self.splits, DataError)


def open_dataset(
    root: Path | str,
    layout: str | None = None,
    *,
    image_dir: Path | str | None = None,
    mask_dir: Path | str | None = None,
    split_file: Path | str | None = None,
    classes: str | Path | ClassTable | None = None,
) -> Dataset:
    """Open a data set by its root folder.

    Args:
        root: the folder; its layout is recognised by looking (see :mod:`motes.data.layouts`).
        layout: a layout's name, where looking finds another one than you mean.
        image_dir: the folder of images, absolute or below ``root``: no layout is looked for then.
        mask_dir: the folder of masks, absolute or below ``root``; goes with ``image_dir``.
        split_file: a list of ids, absolute or below ``root``; becomes the split of the file's stem.
        classes: a class table, its name, or a class list (see :func:`motes.data.classes.class_table`). Without it, a
            class list in the root counts, then the layout's own table.

    Raises:
        DataError: no folder, no known layout, no images, or an unreadable list.
    """
    root = Path(root)
    if mask_dir is not None and image_dir is None:
        raise DataError("mask_dir is given without image_dir", "give both")
    if image_dir is not None:
        masks = _below(root, mask_dir, "mask_dir") if mask_dir is not None else None
        plan = told(root, _below(root, image_dir, "image_dir"), masks)
    else:
        plan = recognise(root, layout)
    lists = dict(plan.lists)
    if split_file is not None:
        file = root / split_file if (root / split_file).is_file() else Path(split_file)
        if not file.is_file():
            raise DataError(f"no such split file: {split_file} (looked in {root} and here)")
        lists[file.stem] = file
    return _index(root, plan, lists, _classes(root, plan, classes))


def _classes(root: Path, plan: Plan, asked: str | Path | ClassTable | None) -> ClassTable | None:
    if asked is not None:
        return class_table(asked)
    for name in CLASS_LISTS if not any(p.boxes for p in plan.pairs) else ():  # a list beside boxes is of the boxes
        if (root / name).is_file():
            table = class_table(root / name)
            if table.num_classes > 1:
                return table
    return class_table(plan.classes) if plan.classes else None


def _index(root: Path, plan: Plan, lists: dict[str, Path], classes: ClassTable | None) -> Dataset:
    found: list[tuple[Pair, str, Sample]] = []
    orphans: list[Path] = []
    hidden: list[Path] = []
    for pair in plan.pairs:
        images, twice = _by_stem(pair.images)
        if pair.images in pair.masks:  # images and masks share a folder and differ by the mask's ending
            images = {s: f for s, f in images.items() if not s.endswith((COLOURS, INSTANCES))}
            images = {s: f for s, f in images.items() if not any(_without(s, e) in images for e in MASK_ENDINGS if e)}
        masks = [_masks_by_image(folder, images, shared=folder == pair.images) for folder in pair.masks]
        orphans += [file for _, left in masks for file in left]
        hidden += twice
        annotations = _box_files(pair.boxes or ((plan.boxes,) if plan.boxes else ()))
        sky = _masks_by_image(plan.sky, images)[0] if plan.sky else {}
        for stem, image in images.items():
            mask = next((m[stem] for m, _ in masks if stem in m), None)
            boxes = annotations.get(stem) or (annotations.get(mask.stem) if mask else None)
            found.append((pair, stem, Sample(stem, image, mask, boxes, sky.get(stem), plan.box_classes)))
    if not found:
        inside = [str(d) for p in plan.pairs for d in sorted(p.images.iterdir()) if d.is_dir()][:3]
        hint = f"it holds folders: {', '.join(inside)}; name one with image_dir" if inside else None
        raise DataError(f"no images in {', '.join(str(p.images) for p in plan.pairs)}", hint)
    again = _repeated(found)
    found = [f for f in found if f[2].image not in again]
    clash = len({stem for _, stem, _ in found}) < len(found)
    samples: dict[str, Sample] = {}
    folders: dict[str, list[str]] = {p.split: [] for p in plan.pairs if p.split}
    for pair, stem, sample in found:
        name = f"{pair.split}_{stem}" if clash else stem
        samples[name] = replace(sample, name=name)
        if pair.split:
            folders[pair.split].append(name)
            if sample.image in again.values():
                folders[next(p.split for p in plan.pairs if p.repeats and p.split)].append(name)
    splits = {name: tuple(ids) for name, ids in folders.items()}
    splits |= {name: tuple(i for i in ids if i in samples) for name, ids in plan.members.items()}
    for name, file in lists.items():
        ids = tuple(_as_named(read_list(file), samples))
        # A text file that names no split and no image is something else (classes.txt).
        if file not in plan.lists.values() or role(name)[0] or any(i in samples for i in ids):
            splits[name] = ids
    ordered = {name: samples[name] for name in sorted(samples, key=natural)}
    return Dataset(root, plan.layout, ordered, splits, plan, tuple(orphans), tuple(hidden), classes)


def _repeated(found: list[tuple[Pair, str, Sample]]) -> dict[Path, Path]:
    """Image of a pair that repeats -> the one of the same name and size in bytes that it repeats."""
    if not any(pair.repeats for pair, _, _ in found):
        return {}
    first = {stem: sample.image for pair, stem, sample in found if not pair.repeats}
    return {
        sample.image: first[stem]
        for pair, stem, sample in found
        if pair.repeats and stem in first and sample.image.stat().st_size == first[stem].stat().st_size
    }


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which Misc_2 comes before Misc_10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def image_files(folder: Path) -> list[Path]:
    """The files of ``folder`` with an image suffix, in natural order; hidden files are left out."""
    return sorted(
        (f for f in folder.iterdir() if is_image_path(f)),
        key=lambda f: natural(f.name),
    )


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Stem -> file; and the files whose stem was taken already."""
    taken: dict[str, Path] = {}
    twice = []
    for file in image_files(folder):
        if file.stem in taken:
            twice.append(file)
        else:
            taken[file.stem] = file
    return taken, twice


def _box_files(places: Iterable[Path]) -> dict[str, Path]:
    """Stem -> file that holds its boxes. A place is a folder with one file an image (XML wins), or a COCO file."""
    found: dict[str, Path] = {}
    for place in places:
        if place.is_file():
            found |= dict.fromkeys(read_coco(place).images, place)
            continue
        for suffix in (".json", ".txt", ".xml"):
            found |= {f.stem: f for f in sorted(place.iterdir()) if f.suffix.lower() == suffix}
    return found


def _masks_by_image(folder: Path, images: dict[str, Path], shared: bool = False) -> tuple[dict[str, Path], list[Path]]:
    """Image stem -> mask; and the masks that belong to no image. An exact stem wins over one with an ending."""
    by_stem, _ = _by_stem(folder)
    masks: dict[str, Path] = {}
    left = {stem: file for stem, file in by_stem.items() if not (shared and stem in images)}
    for stem in [s for s in left if s.endswith(INSTANCES)]:
        del left[stem]  # iSAID's instances are no class masks
    for ending in MASK_ENDINGS:
        for stem in images:
            if stem not in masks and stem + ending in left:
                masks[stem] = left.pop(stem + ending)
    for stem in (s for s in images if s not in masks and s.endswith(IMAGE_ENDINGS)):
        short = stem[: stem.rindex("_")]
        match = next((short + e for e in MASK_ENDINGS if short + e in left), None)
        if match:
            masks[stem] = left.pop(match)
    return masks, list(left.values())


def _as_named(ids: Iterable[str], samples: dict[str, Sample]) -> list[str]:
    """Ids without the mask's ending, where a list names the masks."""
    named = []
    for i in ids:
        short = next((s for e in MASK_ENDINGS if e and (s := _without(i, e)) in samples), i)
        named.append(i if i in samples else short)
    return named


def _without(name: str, ending: str) -> str | None:
    return name[: -len(ending)] if name.endswith(ending) else None


def _below(root: Path, folder: Path | str, option: str) -> Path:
    """``folder`` below ``root`` where it is there, else as given."""
    for path in (root / folder, Path(folder)):
        if path.is_dir():
            return path
    raise DataError(f"{option}: no such folder: {folder} (looked in {root} and here)")
