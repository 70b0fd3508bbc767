"""Splitting a set so that what looks alike stays together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from motes.data.dataset import Dataset, Sample
from motes.data.lists import read_list, write_list
from motes.data.near import groups, near_twins
from motes.errors import DataError

GROUPINGS = ("near-twins", "image")
LIST_FOLDERS = {"sirstdevkit": "Splits", "open-sirst-v2": "splits", "basicirstd": "img_idx"}
"""Where a layout keeps its lists; the others keep them in folders of the root."""


def split(
    dataset: Dataset,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    by: str = "near-twins",
    threshold: float = 0.9,
    of: str | None = None,
    advance: Callable[[], object] | None = None,
) -> dict[str, list[str]]:
    """Deterministic lists of names: ``train`` and ``val``; with ``test`` also ``trainval`` and ``test``.

    Args:
        dataset: the set.
        val, test: shares of all images. A group never straddles, so a list can come out shorter.
        seed: another seed, another split.
        by: "near-twins" keeps frames of one scene together, "image" splits images one by one.
        threshold: what counts as near-twin, see :func:`motes.data.near_twins`.
        of: only the images of this split; None takes all.
        advance: called once an image read.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise DataError(f"val {val:g} and test {test:g} leave nothing to train on", "give shares that sum to below 1")
    samples = dataset.split(of)
    names = [s.name for s in samples]
    together = alike(samples, threshold, advance) if by == "near-twins" else [[n] for n in names]
    rest, tested = hold_out(together, test, seed)
    left = [g for g in together if g[0] in set(rest)]
    train, valued = hold_out(left, val * len(names) / max(len(rest), 1), seed + 1)
    lists = {"train": train, "val": valued} | ({"trainval": rest, "test": tested} if test else {})
    order = {name: i for i, name in enumerate(names)}
    return {name: sorted(ids, key=order.__getitem__) for name, ids in lists.items()}


def alike(samples: Sequence[Sample], threshold: float, advance: Callable[[], object] | None = None) -> list[list[str]]:
    """Names in groups of near-twins, linked over any number of steps."""
    row = {s.name: i for i, s in enumerate(samples)}
    pairs = [(row[a], row[b]) for a, b, _ in near_twins(samples, None, threshold, advance)]
    return [[samples[i].name for i in group] for group in groups(len(samples), pairs)]


def hold_out(groups: Sequence[Sequence[str]], fraction: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split groups of names into (kept, held out).

    The groups are put into the order of a hash of seed and first name, which no library version changes, and taken as
    long as they fit into the held-out share. A group never straddles, so one larger than the share is always kept.

    Args:
        groups: names that must stay together.
        fraction: the share of names to hold out, in [0, 1).
        seed: another seed, another split.

    Returns:
        Kept and held-out names, each in the order of ``groups``.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"a share of {fraction:g} cannot be held out", "give a fraction from 0 to below 1")
    room = round(fraction * sum(len(g) for g in groups))
    held: set[str] = set()
    for group in sorted(groups, key=lambda g: hashlib.sha256(f"{seed}/{g[0]}".encode()).digest()):
        if len(held) + len(group) <= room:
            held.update(group)
    names = [name for group in groups for name in group]
    return [n for n in names if n not in held], [n for n in names if n in held]


def list_folder(dataset: Dataset, name: str) -> Path:
    """The folder ``name`` where this layout looks for lists; the splits are then called ``name/train`` and so on."""
    root = dataset.root
    sub = LIST_FOLDERS.get(dataset.layout)
    if sub is None:
        return root / name
    present = next((d.name for d in root.iterdir() if d.name.lower() == sub.lower()), sub)
    return root / present / name


def write_lists(folder: Path, lists: dict[str, list[str]], overwrite: bool = False) -> list[Path]:
    """Write ``<folder>/<name>.txt`` for every list, each whole or not at all.

    Raises:
        DataError: a file is there with other ids, and ``overwrite`` is not set. Nothing is written then.
    """
    files = {folder / f"{name}.txt": ids for name, ids in lists.items()}
    for file, ids in files.items():
        if file.exists() and not overwrite and read_list(file) != ids:
            raise DataError(f"{file} is there and holds another list", "choose another name or give --overwrite")
    for file, ids in files.items():
        write_list(file, ids)
    return list(files)
