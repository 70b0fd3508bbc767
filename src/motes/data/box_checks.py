"""What is wrong with the boxes, points and sky maps of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from motes.data.annotations import DEFAULT_CONVENTION, read_objects, read_sky
from motes.data.box_files import Objects
from motes.data.boxes import CONVENTIONS, Convention, annotation, decide_convention, read_points, unmatched
from motes.data.dataset import Dataset, Sample
from motes.data.findings import Finding
from motes.data.parallel import in_threads
from motes.data.scan import Facts
from motes.data.summary import box_convention
from motes.errors import DataError, MotesError
from motes.naming import nearest


def annotation_findings(dataset: Dataset, facts: dict[str, Facts]) -> Iterator[Finding]:
    """Findings of every annotation, then those about the names of all of them."""
    plan, samples = dataset.plan, dataset.samples
    if plan is None or dataset.classes is not None:
        return
    convention = box_convention(dataset, list(facts.values()))
    names: Counter[str] = Counter()
    for f in facts.values():
        sample = samples[f.name]
        try:
            if sample.boxes is not None:
                found = read_objects(sample)
                names.update(found.names)
                yield from _objects(f, sample, found, convention)
            elif sample.mask is None and any(p.boxes for p in plan.pairs):
                yield Finding("image-without-boxes", f.name, f"no boxes for {sample.image}", (f.name,))
            if plan.points and f.mask_size and (file := annotation(plan.points, f.name, sample.mask)):
                points = len(read_points(file))
                if points != len(f.areas):
                    message = f"{points} points, {len(f.areas)} targets in the mask"
                    yield Finding("point-mismatch", f.name, message, (f.name,))
        except MotesError as e:
            kind = "unreadable-boxes" if sample.mask is None else "unreadable-annotation"
            yield Finding(kind, f.name, str(e), (f.name,))
    yield from _names(names, dataset)
    if plan.sky is not None:
        yield from (f for f in in_threads(_sky, samples.values()) if f)


def _objects(f: Facts, sample: Sample, found: Objects, convention: Convention | None) -> Iterator[Finding]:
    def finding(kind: str, message: str) -> Finding:
        return Finding(kind, f.name, message, (f.name,))

    if found.bare:
        yield finding("object-without-box", f"{found.bare} of {len(found.boxes) + found.bare} objects have no box")
    if not len(found.boxes) and f.mask_size is None:
        yield finding("no-target", "no box")
    if f.size and found.size and found.size != f.size:
        image, there = (f"{w}x{h}" for h, w in (f.size, found.size))
        yield finding("annotation-size", f"image {image}, annotation {there} (width x height)")
    boxes = _half_open(found, convention)
    empty = np.asarray((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))
    if empty.any():
        yield finding("box-empty", f"{_of(empty)} without area: {_first(found, empty)}")
    if f.size:
        height, width = f.size
        away = np.asarray(~empty & ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= [width, height])).any(axis=1))
        over = np.asarray(~empty & ~away & ((boxes[:, :2] < 0) | (boxes[:, 2:] > [width, height])).any(axis=1))
        where = f"the image of {width}x{height} px"
        if away.any():
            yield finding("box-outside", f"{_of(away)} outside {where}: {_first(found, away)}")
        if over.any():
            yield finding("box-over-edge", f"{_of(over)} partly outside {where}: {_first(found, over)}")
    if f.mask_size is not None:
        yield from _against_mask(f, found, boxes, convention)


def _against_mask(
    f: Facts, found: Objects, boxes: NDArray[np.float64], convention: Convention | None
) -> Iterator[Finding]:
    targets = f.boxes.astype(float)
    if convention is None:
        boxes = found.boxes
    if len(boxes) and {*map(tuple, boxes.tolist())} == {*map(tuple, targets.tolist())}:
        return
    own = decide_convention([found.boxes], [f.boxes]) if found.stored else None
    if convention and own and own.name != convention.name and own.matched == len(boxes) == len(targets):
        yield Finding("box-convention", f.name, f"{own.name} here, {convention.name} in the set", (f.name,))
        return
    lost, bare = unmatched(boxes, targets), unmatched(targets, boxes)
    if lost or bare:
        message = (
            f"{len(lost)} of {len(boxes)} boxes lie on no target, {len(bare)} of {len(targets)} targets have no box"
        )
        yield Finding("box-mismatch", f.name, message, (f.name,))


def _half_open(found: Objects, convention: Convention | None) -> NDArray[np.float64]:
    if not found.stored:
        return found.boxes
    low, high = CONVENTIONS[convention.name if convention else DEFAULT_CONVENTION]
    return found.boxes - np.array([low, low, high, high], np.float64)


def _names(names: Counter[str], dataset: Dataset) -> Iterator[Finding]:
    """Rare names that look like a common one: a typing error makes a class of its own."""
    common = [name for name, count in names.most_common()]
    for k, name in enumerate(common):
        close = nearest(name, common[:k])
        if close is not None and names[name] * 4 <= names[close]:
            message = f"{names[name]} objects are named '{name}', {names[close]} '{close}'"
            yield Finding("class-name", dataset.root.name, message)


def _sky(sample: Sample) -> Finding | None:
    kind, message = "unreadable-sky", ""
    if sample.sky is None:
        kind, message = "sky-missing", f"no sky map for {sample.image}"
    else:
        try:
            read_sky(sample)
        except DataError as e:
            kind, message = "sky-size", e.message
        except MotesError as e:
            message = str(e)
    return Finding(kind, sample.name, message, (sample.name,)) if message else None


def _of(chosen: NDArray[np.bool_]) -> str:
    n = int(chosen.sum())
    return f"{n} of {len(chosen)} boxes {'is' if n == 1 else 'are'}"


def _first(found: Objects, chosen: NDArray[np.bool_]) -> str:
    i = int(np.flatnonzero(chosen)[0])
    return f"box {i + 1} ({', '.join(f'{v:g}' for v in found.boxes[i])})"
