"""Which frames are trained on, which select the best weights, and how those are scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from motes.cards import Card
from motes.data import Dataset, Sample, open_dataset
from motes.data.lists import listed, read_ids
from motes.data.parallel import in_threads
from motes.data.scan import digest
from motes.errors import DataError
from motes.evaluation import score_samples
from motes.imaging import image_size, read_image, read_mask
from motes.metrics import SegmentationScore
from motes.metrics import protocol as find_protocol
from motes.models.backend import TorchBackend
from motes.training.recipe import DataPart, Recipe


@dataclass(frozen=True)
class Frames:
    """Training frames with how often each counts in an epoch, and validation frames."""

    name: str
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    repeats: tuple[float, ...] = field(repr=False)


def select_frames(recipe: Recipe) -> Frames:
    """Opens the recipe's data; DataError where a root, split or id is missing, or training and validation overlap."""
    part = recipe.data
    root = find_root(part.root)
    data = open_dataset(root, part.layout)
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
    repeats = [1.0] * len(train)
    for extra in part.extra:
        more = chosen(open_dataset(find_root(extra.root)), extra.split)
        train, repeats = train + more, repeats + [extra.repeat] * len(more)
    if not train:
        raise DataError(f"{root}: no frame is left to train on")
    return Frames(part.name or root.name, tuple(train), tuple(val), tuple(repeats))


def check_frames(frames: Frames, validation_protocol: str) -> None:
    """Reads every frame once, so that a broken one is found before a run begins, not hours later.

    Of more than 5000 frames the headers only.

    Raises:
        DataError: a frame without a mask, or with one of another size (that a protocol which resizes accepts).
        ImageError: an image or mask that cannot be read.
    """
    resized = find_protocol(validation_protocol).resolution is not None
    whole = len(frames.train) + len(frames.val) <= 5000
    pairs = [(s, True) for s in frames.train] + [(s, not resized) for s in frames.val]
    in_threads(lambda pair: check_pair(*pair, whole=whole), pairs)


def check_pair(sample: Sample, same_size: bool, whole: bool = True) -> None:
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask, so it can be neither trained on nor scored")
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


def _has(data: Dataset, split: str) -> bool:
    try:
        data.split_name(split)
    except DataError:
        return False
    return True


def carve(samples: Sequence[Sample], part: DataPart, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Takes ``val_fraction`` out of the training frames, by chance."""
    count = round(len(samples) * part.val_fraction)
    held = set(np.random.default_rng(seed).permutation(len(samples))[:count].tolist())
    return [s for i, s in enumerate(samples) if i not in held], [s for i, s in enumerate(samples) if i in held]


def fingerprints(samples: Sequence[Sample]) -> list[str]:
    """Short content hashes of the frames, by which ``motes evaluate`` notices what weights were trained on.

    Empty above 5000 frames: a card is no data base.
    """
    if len(samples) > 5000:
        return []
    return sorted({digest(read_image(s.image).pixels)[:12] for s in samples})


def validate(net: nn.Module, samples: Sequence[Sample], card: Card, protocol: str, fabric: Fabric) -> SegmentationScore:
    """The score of all ``samples``, each process having done every world-th; equal to that of one process."""
    backend = TorchBackend(net, card, fabric.device)
    mine = samples[fabric.global_rank :: fabric.world_size]
    score = score_samples(backend, mine, protocol)
    if fabric.world_size == 1:
        return score
    states: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(states, score.state())
    total = SegmentationScore(protocol)
    for state in states:
        total.merge(SegmentationScore.from_state(state))
    return total
