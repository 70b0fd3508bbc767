"""What is wrong with a data set, before a network learns it; `class_checks` and `box_checks` for labels and boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from motes.data.box_checks import annotation_findings
from motes.data.class_checks import class_findings
from motes.data.class_scan import class_scan
from motes.data.dataset import Dataset
from motes.data.findings import SEVERITIES, Finding
from motes.data.near import check_threshold, correlated
from motes.data.roles import disjoint_pairs, foreign_pairs
from motes.data.scan import Facts, scan


def check(dataset: Dataset, twins: float = 0.9, advance: Callable[[], object] | None = None) -> list[Finding]:
    """Everything wrong with ``dataset``, errors first; an empty list for a clean one.

    Args:
        dataset: what :func:`motes.data.open_dataset` returned.
        twins: thumbnails that correlate by more than this are near-twins (see :mod:`motes.data.near`).
        advance: called once a sample read, for a progress bar.
    """
    check_threshold(twins)
    facts: dict[str, Facts]
    if dataset.classes is None:
        facts = {f.name: f for f in scan(dataset.samples.values(), advance)}
        own = [finding for f in facts.values() for finding in (*_readable(f), *_sample(f))]
    else:
        labelled = class_scan(dataset.samples.values(), dataset.classes, advance)
        facts = {f.name: f for f in labelled}
        own = [*(finding for f in labelled for finding in _readable(f)), *class_findings(dataset, labelled)]
    found = [
        *_files(dataset),
        *own,
        *_duplicates(facts),
        *_lists(dataset),
        *_overlaps(dataset, facts),
        *_twins(dataset, facts, twins),
        *annotation_findings(dataset, facts),
    ]
    return sorted(found, key=lambda f: SEVERITIES.index(f.severity))


def _files(dataset: Dataset) -> Iterator[Finding]:
    pairs = dataset.plan.pairs if dataset.plan else ()
    unlabelled = {p.images: p.split for p in pairs if p.split and not p.masks and not p.boxes}
    boxed = {p.images for p in pairs if p.boxes}
    for folder, split in unlabelled.items():
        yield Finding("unlabelled-split", str(split), f"the images in {folder} have no masks")
    for sample in dataset.samples.values():
        if sample.mask is None and sample.image.parent not in {*unlabelled, *boxed}:
            yield Finding("image-without-mask", sample.name, f"no mask for {sample.image}", (sample.name,))
    for mask in dataset.orphan_masks:
        yield Finding("mask-without-image", mask.name, f"no image for {mask}")
    for image in dataset.hidden:
        yield Finding("hidden-image", image.name, f"{image} has the stem of another image", (image.stem,))


def _readable(f: Facts) -> Iterator[Finding]:
    """What keeps an image and its mask from being read together."""
    if f.image_error:
        yield Finding("unreadable-image", f.name, f.image_error, (f.name,))
    if f.mask_error:
        yield Finding("unreadable-mask", f.name, f.mask_error, (f.name,))
    if f.size and f.mask_size and f.size != f.mask_size:
        image, mask = (f"{w}x{h}" for h, w in (f.size, f.mask_size))
        yield Finding("size-mismatch", f.name, f"image {image}, mask {mask} (width x height)", (f.name,))


def _sample(f: Facts) -> Iterator[Finding]:
    def finding(kind: str, message: str) -> Finding:
        return Finding(kind, f.name, message, (f.name,))

    if f.mask_size is None:
        return
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
    if dataset.layout == "patches":  # neighbours overlap, and look alike wherever they are cut
        return
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


def _known(dataset: Dataset, split: str, facts: dict[str, Facts]) -> dict[str, None]:
    """The listed names that exist, each once, in order; a dict for its fast look-up."""
    return {i: None for i in dataset.splits[split] if i in facts}


def _by_digest(facts: Iterable[Facts]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for f in facts:
        if f.digest:
            names.setdefault(f.digest, []).append(f.name)
    return names
