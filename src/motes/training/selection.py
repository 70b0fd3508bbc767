"""Which frames are trained on, and which select the best weights."""

from __future__ import annotations

import importlib
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from motes.cards import model_card
from motes.data import Dataset, Sample, open_dataset
from motes.data.annotations import READERS, read_boxes, read_sky
from motes.data.classes import ClassTable, class_table
from motes.data.copy_paste import MODES
from motes.data.lists import listed, read_ids
from motes.data.parallel import in_threads
from motes.data.scan import digest
from motes.data.windows import Window, cut
from motes.errors import DataError
from motes.imaging import image_size, is_image_path, read_image, read_mask
from motes.metrics import protocol as find_protocol
from motes.naming import look_up
from motes.training.recipe import DataPart, Recipe, WindowsPart


@dataclass(frozen=True)
class BoxRules:
    """How the boxes of a data set are read: their classes' names, the corners (``data.annotations.READERS``), and
    whether every frame must have a sky map."""

    names: tuple[str, ...] = ("Target",)
    reader: str = "exact"
    sky: bool = False


@dataclass(frozen=True)
class Frames:
    """Training frames with how often each counts in an epoch, and validation frames.

    Of the task aerial: the classes of the labels, and the windows that are cut on the fly (empty: frames are taken
    whole); ``repeats`` has a value for each window then. Of the task detection: how boxes are read.
    """

    name: str
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    repeats: tuple[float, ...] = field(repr=False)
    classes: ClassTable | None = None
    windows: tuple[Window, ...] = field(default=(), repr=False)
    boxes: BoxRules | None = None


def select_frames(recipe: Recipe) -> Frames:
    """Opens the recipe's data; DataError where a root, split or id is missing, or training and validation overlap."""
    part = recipe.data
    root = find_root(part.root)
    boxes = box_rules(recipe) if recipe.task == "detection" else None
    table = None if boxes else classes_of(part)
    data = _opened(root, part.layout, table)
    excluded = {name for file in part.exclude for name in read_ids(file)}
    train = [s for s in chosen(data, part.train) if s.name not in excluded]
    if part.val is not None:
        val = chosen(data, part.val)
    else:
        train, val = carve(train, part, recipe.loop.seed)
    shared = {s.name for s in train} & {s.name for s in val}
    if shared and not recipe.validation.selects_on_test:
        raise DataError(
            f"{len(shared)} frames are in both training and validation, for instance {min(shared)}",
            "choose another data.val, or set validation.selects_on_test=true and have it said in the report",
        )
    repeats = [part.repeat] * len(train)
    for extra in part.extra:
        place = find_root(extra.root)
        more = empty_frames(place) if extra.empty else chosen(_opened(place, None, table), extra.split)
        train, repeats = train + more, repeats + [extra.repeat] * len(more)
    if not train:
        raise DataError(f"{root}: no frame is left to train on")
    frames = Frames(part.name or root.name, tuple(train), tuple(val), tuple(repeats), table, boxes=boxes)
    return cut_frames(frames, part.windows) if part.windows and table else frames


def box_rules(recipe: Recipe) -> BoxRules:
    """How the boxes of the recipe's data are read; DataError for an unknown reader or an unreadable list of classes."""
    part, paste = recipe.data, recipe.transform
    names = class_table(part.classes).names if part.classes else model_card(recipe.model.name).classes
    look_up("reader", part.reader, READERS, DataError)
    # A network with a sky branch says so in its file; where it has an option ``sky``, that may be false.
    learned = getattr(importlib.import_module(f"motes.models.{recipe.model.name}"), "NEEDS_SKY", False)
    learned = learned and recipe.model.options.get("sky", True) is not False
    return BoxRules(tuple(names), part.reader, learned or bool(paste.paste and MODES[paste.paste_mode].sky))


def cut_frames(frames: Frames, part: WindowsPart) -> Frames:
    """The training frames in windows, each counting as often as its frame."""
    counts = dict(zip(frames.train, frames.repeats, strict=True))
    windows = cut(frames.train, part.rule, part.patch, part.stride)
    return replace(frames, windows=tuple(windows), repeats=tuple(counts[w.sample] for w in windows))


def classes_of(part: DataPart) -> ClassTable | None:
    """The classes of the labels; None for masks of one class."""
    return None if part.classes is None else class_table(part.classes)


def _opened(root: Path, layout: str | None, table: ClassTable | None) -> Dataset:
    return open_dataset(root, layout, classes=table)


def check_frames(frames: Frames, validation_protocol: str) -> None:
    """Reads every frame once, so that a broken one is found before a run begins, not hours later.

    Of more than 5000 frames, and of aerial images, the headers only.

    Raises:
        DataError: a frame without a mask, or with one of another size (that a protocol which resizes accepts).
        ImageError: an image or mask that cannot be read.
    """
    if frames.boxes is not None:
        check_boxes(frames, frames.boxes)
        return
    aerial = frames.classes is not None
    resized = not aerial and find_protocol(validation_protocol).resolution is not None
    whole = not aerial and len(frames.train) + len(frames.val) <= 5000
    pairs = [(s, True) for s in frames.train] + [(s, not resized) for s in frames.val]
    in_threads(lambda pair: check_pair(*pair, whole=whole), pairs)


def check_boxes(frames: Frames, rules: BoxRules) -> None:
    """As `check_frames`; sky maps must be readable, and be there for every training frame where the rules ask for them.

    Warns of objects without a box, and where there is nothing to train for or to select by.
    """
    whole = len(frames.train) + len(frames.val) <= 5000

    def check(sample: Sample) -> int:
        size = read_image(sample.image).size if whole else image_size(sample.image)
        found = read_boxes(sample, rules.names, rules.reader)
        if sample.mask is not None and image_size(sample.mask) != size:
            check_pair(sample, same_size=True, whole=False)
        return int((~found.ignored).sum())

    counts = in_threads(check, [*frames.train, *frames.val])
    trained, selecting = counts[: len(frames.train)], counts[len(frames.train) :]
    if not any(trained):
        warnings.warn(f"none of the {len(trained)} training frames has a target", stacklevel=2)
    if selecting and not any(selecting):
        what = f"none of the {len(selecting)} validation frames has a target"
        warnings.warn(f"{what}, so best.safetensors will be of the last step", stacklevel=2)
    if rules.sky and (bare := [s for s in frames.train if s.sky is None]):
        raise no_sky(bare[0])
    in_threads(read_sky, [s for s in (*frames.train, *frames.val) if s.sky is not None])


def no_sky(sample: Sample) -> DataError:
    return DataError(
        f"{sample.image} has no sky map, and what is trained needs one",
        "transform.paste_mode=gaussian pastes without; networks with a sky branch cannot do without",
    )


def check_pair(sample: Sample, same_size: bool, whole: bool = True) -> None:
    if sample.empty:
        read_image(sample.image) if whole else image_size(sample.image)
        return
    if sample.mask is None:
        raise DataError(
            f"{sample.image} has no mask, so it can be neither trained on nor scored",
            "frames without targets: data.extra with empty=true",
        )
    if whole:
        image, mask = read_image(sample.image).size, read_mask(sample.mask).shape
    else:
        image, mask = image_size(sample.image), image_size(sample.mask)
    if same_size and image != mask:
        raise DataError(
            f"{sample.mask} is {mask[0]}x{mask[1]} px, its image {image[0]}x{image[1]}",
            "`motes data check` lists all such pairs",
        )


def find_root(text: str | None) -> Path:
    """A folder as given, or below ``MOTES_DATA``."""
    if text is None:
        raise DataError("the recipe names no data", "add data.root=FOLDER")
    places = [Path(text).expanduser()]
    if "MOTES_DATA" in os.environ:
        places.append(Path(os.environ["MOTES_DATA"]) / text)
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"no data set at {places[0]}", "add data.root=FOLDER, or set MOTES_DATA to the folder of data sets")


def chosen(data: Dataset, which: str | None) -> list[Sample]:
    """The samples of a split (of ``a | b`` the first that there is), or of a list file."""
    if which is None:
        return data.split(None)
    if not which.endswith(".txt"):
        names = [name.strip() for name in which.split("|")]
        return data.split(next((n for n in names if _has(data, n)), names[0]))
    return listed(data, which)


def empty_frames(root: Path) -> list[Sample]:
    """All images below a folder, as frames without a target."""
    files = sorted(f for f in root.rglob("*") if f.is_file() and is_image_path(f))
    if not files:
        raise DataError(f"{root}: no image below this folder")
    return [Sample(f.stem, f, empty=True) for f in files]


def _has(data: Dataset, split: str) -> bool:
    try:
        data.split_name(split)
    except DataError:
        return False
    return True


def carve(samples: Sequence[Sample], part: DataPart, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Takes ``val_fraction`` out of the training frames, by chance; patches of one image stay together."""
    groups = list(dict.fromkeys(source_image(s.name) for s in samples)) if part.classes else [s.name for s in samples]
    count = round(len(groups) * part.val_fraction)
    held = {groups[i] for i in np.random.default_rng(seed).permutation(len(groups))[:count].tolist()}
    taken = [(source_image(s.name) if part.classes else s.name) in held for s in samples]
    return (
        [s for s, out in zip(samples, taken, strict=True) if not out],
        [s for s, out in zip(samples, taken, strict=True) if out],
    )


def source_image(name: str) -> str:
    """The image that a patch was cut from: ``P0001_0_896_512_1408`` -> ``P0001``. Patches overlap."""
    return re.sub(r"(_-?\d+){4}$", "", name)


def fingerprints(samples: Sequence[Sample]) -> list[str]:
    """Short content hashes of the frames, by which ``motes evaluate`` notices what weights were trained on.

    Empty above 5000 frames, or two gigapixels in all: a card is no data base.
    """
    if len(samples) > 5000 or sum(math.prod(image_size(s.image)) for s in samples) > 2e9:
        return []
    return sorted({digest(read_image(s.image).pixels)[:12] for s in samples})
