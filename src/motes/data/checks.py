"""What is wrong with a data set, before a network learns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motes.data.boxes import Convention, annotation, decide_convention, read_boxes, read_points, unmatched
from motes.data.dataset import Dataset
from motes.data.near import check_threshold, correlated
from motes.data.roles import disjoint_pairs, foreign_pairs
from motes.data.scan import Facts, scan
from motes.data.summary import box_convention
from motes.errors import DataError

KINDS: dict[str, tuple[str, str]] = {
    "unreadable-image": ("error", "the image cannot be read"),
    "unreadable-mask": ("error", "the mask cannot be read"),
    "image-without-mask": ("error", "the image has no mask"),
    "size-mismatch": ("error", "image and mask differ in size"),
    "missing-id": ("error", "a list names an image that is not there"),
    "overlap": ("error", "splits that must be disjoint share images, by id or by content"),
    "mask-without-image": ("warning", "the mask belongs to no image"),
    "hidden-image": ("warning", "another image of the same folder has the same stem and is the one used"),
    "mask-values": ("warning", "the mask has more than two values, so its edge is a matter of the threshold"),
    "mask-mostly-target": ("warning", "more than half of the mask is target: inverted?"),
    "duplicate-content": ("warning", "different images with equal pixels"),
    "repeated-id": ("warning", "a list names an image more than once"),
    "near-twins": ("warning", "splits that must be disjoint hold frames of one scene"),
    "box-mismatch": ("warning", "box and mask disagree"),
    "box-convention": ("warning", "the boxes of this image follow another corner convention than the set's"),
    "point-mismatch": ("warning", "the number of points is not the number of targets"),
    "unreadable-annotation": ("warning", "a box or point file cannot be read"),
    "empty-mask": ("note", "the mask has no target"),
    "one-pixel-target": ("note", "a target of a single pixel: labelled so, or left over from resizing?"),
    "overlap-elsewhere": ("note", "a training list holds images of another family's test list"),
}
"""Finding -> severity and meaning. An error makes training or scoring fail or lie; a warning needs a look; a note is
normal in some sets and good to know."""

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of :data:`KINDS`.
        subject: the sample, file, list or pair of lists it is about.
        message: what was found, in one clause.
        names: the samples concerned.
    """

    kind: str
    subject: str
    message: str
    names: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        return KINDS[self.kind][0]


def check(dataset: Dataset, twins: float = 0.9, advance: Callable[[], object] | None = None) -> list[Finding]:
    """Everything wrong with ``dataset``, errors first; an empty list for a clean one.

    Args:
        dataset: what :func:`motes.data.open_dataset` returned.
        twins: thumbnails that correlate by more than this are near-twins (see :mod:`motes.data.near`).
        advance: called once a sample read, for a progress bar.
    """
    check_threshold(twins)
    facts = {f.name: f for f in scan(dataset.samples.values(), advance)}
    found = [
        *_files(dataset),
        *(finding for f in facts.values() for finding in _sample(f)),
        *_duplicates(facts),
        *_lists(dataset),
        *_overlaps(dataset, facts),
        *_twins(dataset, facts, twins),
        *_annotations(dataset, facts),
    ]
    return sorted(found, key=lambda f: SEVERITIES.index(f.severity))


def _files(dataset: Dataset) -> Iterator[Finding]:
    for sample in dataset.samples.values():
        if sample.mask is None:
            yield Finding("image-without-mask", sample.name, f"no mask for {sample.image}", (sample.name,))
    for mask in dataset.orphan_masks:
        yield Finding("mask-without-image", mask.name, f"no image for {mask}")
    for image in dataset.hidden:
        yield Finding("hidden-image", image.name, f"{image} has the stem of another image", (image.stem,))


def _sample(f: Facts) -> Iterator[Finding]:
    def finding(kind: str, message: str) -> Finding:
        return Finding(kind, f.name, message, (f.name,))

    if f.image_error:
        yield finding("unreadable-image", f.image_error)
    if f.mask_error:
        yield finding("unreadable-mask", f.mask_error)
    if f.mask_size is None:
        return
    if f.size and f.size != f.mask_size:
        image, mask = (f"{w}x{h}" for h, w in (f.size, f.mask_size))
        yield finding("size-mismatch", f"image {image}, mask {mask} (width x height)")
    if f.mask_values > 2:
        yield finding("mask-values", f"{f.mask_values} different values")
    if not f.areas:
        yield finding("empty-mask", "no target")
    elif f.coverage > 0.5:
        yield finding("mask-mostly-target", f"{f.coverage:.0%} of the pixels are target")
    if single := f.areas.count(1):
        yield finding("one-pixel-target", f"{single} of {len(f.areas)} targets have one pixel")


def _duplicates(facts: dict[str, Facts]) -> Iterator[Finding]:
    for names in _by_digest(facts.values()).values():
        if len(names) > 1:
            yield Finding("duplicate-content", names[0], f"the same pixels as {', '.join(names[1:])}", tuple(names))


def _lists(dataset: Dataset) -> Iterator[Finding]:
    for split, ids in dataset.splits.items():
        for i, times in Counter(ids).items():
            if i not in dataset.samples:
                yield Finding("missing-id", split, f"'{i}' is listed, but there is no such image", (i,))
            if times > 1:
                yield Finding("repeated-id", split, f"'{i}' is listed {times} times", (i,))


def _overlaps(dataset: Dataset, facts: dict[str, Facts]) -> Iterator[Finding]:
    for a, b in disjoint_pairs(dataset.splits):
        ids, others = _known(dataset, a, facts), _known(dataset, b, facts)
        if both := [i for i in others if i in ids]:
            yield Finding("overlap", f"{a} and {b}", f"{len(both)} of {len(others)} ids are in both", tuple(both))
        pixels = _by_digest(facts[i] for i in ids)
        same = [(pixels[facts[i].digest][0], i) for i in others if i not in ids and facts[i].digest in pixels]
        if same:
            shown = tuple(name for pair in same for name in pair)
            yield Finding("overlap", f"{a} and {b}", f"{len(same)} images with the same pixels under two names", shown)
    for a, b in foreign_pairs(dataset.splits):
        ids, others = _known(dataset, a, facts), _known(dataset, b, facts)
        if both := [i for i in others if i in ids]:
            message = f"{len(both)} of {len(others)} test ids are in this training list"
            yield Finding("overlap-elsewhere", f"{a} and {b}", message, tuple(both))


def _twins(dataset: Dataset, facts: dict[str, Facts], threshold: float) -> Iterator[Finding]:
    for a, b in disjoint_pairs(dataset.splits):
        ids, others = ([f for i in _known(dataset, s, facts) if (f := facts[i]).thumbnail is not None] for s in (a, b))
        if not ids or not others:
            continue
        rows = [np.stack([f.thumbnail for f in part if f.thumbnail is not None]) for part in (ids, others)]
        closest: dict[str, tuple[float, str]] = {}
        for i, j, c in correlated(rows[0], rows[1], threshold):
            if ids[i].digest != others[j].digest:  # equal pixels are an overlap already
                closest[others[j].name] = max(closest.get(others[j].name, (0.0, "")), (c, ids[i].name))
        if closest:
            ordered = sorted(closest.items(), key=lambda item: -item[1][0])
            name, (c, twin) = ordered[0]
            message = (
                f"{len(closest)} of {len(others)} images of {b} look like one of {a} (correlation > {threshold:g}), "
                f"the closest are {name} and {twin} ({c:.3f})"
            )
            yield Finding("near-twins", f"{a} and {b}", message, tuple(name for name, _ in ordered))


def _annotations(dataset: Dataset, facts: dict[str, Facts]) -> Iterator[Finding]:
    plan = dataset.plan
    if plan is None:
        return
    convention = box_convention(dataset, list(facts.values()))
    for f in facts.values():
        mask = dataset.samples[f.name].mask
        if f.mask_size is None:
            continue
        try:
            if plan.boxes and (file := annotation(plan.boxes, f.name, mask)):
                yield from _boxes(f, read_boxes(file), convention)
            if plan.points and (file := annotation(plan.points, f.name, mask)):
                points = len(read_points(file))
                if points != len(f.areas):
                    message = f"{points} points, {len(f.areas)} targets in the mask"
                    yield Finding("point-mismatch", f.name, message, (f.name,))
        except DataError as e:
            yield Finding("unreadable-annotation", f.name, str(e), (f.name,))


def _boxes(f: Facts, stored: NDArray[np.float64], convention: Convention | None) -> Iterator[Finding]:
    targets = f.boxes.astype(float)
    boxes = convention.half_open(stored) if convention else stored
    if len(boxes) and {*map(tuple, boxes.tolist())} == {*map(tuple, targets.tolist())}:
        return
    own = decide_convention([stored], [f.boxes])
    if convention and own and own.name != convention.name and own.matched == len(stored) == len(targets):
        yield Finding("box-convention", f.name, f"{own.name} here, {convention.name} in the set", (f.name,))
        return
    lost, bare = unmatched(boxes, targets), unmatched(targets, boxes)
    if lost or bare:
        message = (
            f"{len(lost)} of {len(boxes)} boxes lie on no target, {len(bare)} of {len(targets)} targets have no box"
        )
        yield Finding("box-mismatch", f.name, message, (f.name,))


def _known(dataset: Dataset, split: str, facts: dict[str, Facts]) -> dict[str, None]:
    """The listed names that exist, each once, in order; a dict for its fast look-up."""
    return {i: None for i in dataset.splits[split] if i in facts}


def _by_digest(facts: Iterable[Facts]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for f in facts:
        if f.digest:
            names.setdefault(f.digest, []).append(f.name)
    return names
