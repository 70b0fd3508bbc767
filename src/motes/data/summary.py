"""What a data set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motes.data.annotations import noted, read_boxes, read_objects
from motes.data.boxes import Convention, decide_convention
from motes.data.class_scan import class_info, spread
from motes.data.dataset import Dataset, Sample
from motes.data.parallel import in_threads
from motes.data.scan import Facts, scan
from motes.errors import DataError, MotesError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def info(dataset: Dataset, advance: Callable[[], object] | None = None) -> dict[str, Any]:
    """Counts, sizes, types and target statistics of ``dataset`` as plain values (JSON-ready).

    Targets are the 8-connected components of the masks and, of images without a mask, the boxes, difficult ones too;
    areas in pixels at native size. Files that cannot be read are counted in ``unreadable`` and left out of the rest;
    ``boxed`` tells of the images whose boxes were counted, None where there are none. Of a data set with classes, their
    pixels are told instead, see :func:`motes.data.class_scan.class_info`.
    """
    if dataset.classes is not None:
        return class_info(dataset, dataset.classes, advance)
    facts = scan(dataset.samples.values(), advance)
    plan = dataset.plan
    boxed = _boxed(dataset, facts)
    targets: dict[str, tuple[float, ...]] = {f.name: f.areas for f in facts if f.mask_size is not None}
    targets |= {name: b.areas for name, b in boxed.items() if b.error is None}
    areas = [a for found in targets.values() for a in found]
    masked = [f for f in facts if f.mask_size is not None]
    wrong = {f.name for f in facts if f.image_error or f.mask_error} | {n for n, b in boxed.items() if b.error}
    convention = box_convention(dataset, facts)
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "images": len(facts),
        "masks": sum(s.mask is not None for s in dataset.samples.values()),
        "unreadable": len(wrong),
        "targets": len(areas),
        "empty_masks": sum(not f.areas for f in masked),
        "width": spread([f.size[1] for f in facts if f.size]),
        "height": spread([f.size[0] for f in facts if f.size]),
        "different_sizes": len({f.size for f in facts if f.size}),
        "types": dict(Counter(f"{f.dtype} x{f.channels}" for f in facts if f.size).most_common()),
        "target_area": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(areas, QUANTILES), strict=True)}
        if areas
        else {},
        "target_area_mean": float(np.mean(areas)) if areas else None,
        "targets_per_image": {str(n): c for n, c in sorted(Counter(map(len, targets.values())).items())},
        "boxed": _box_facts(list(boxed.values())),
        "boxes": str(plan.boxes) if plan and plan.boxes else None,
        "box_convention": convention.name if convention else None,
        "boxes_matched": [convention.matched, convention.boxes] if convention else None,
        "points": str(plan.points) if plan and plan.points else None,
        "sky": str(plan.sky) if plan and plan.sky else None,
        "splits": {name: _split(ids, dataset.samples, targets) for name, ids in dataset.splits.items()},
    }


def box_convention(dataset: Dataset, facts: Sequence[Facts]) -> Convention | None:
    """The corner convention of the set's VOC boxes; None without any, or where none equals a component of the masks."""
    stored, masks = [], []
    for f in facts:
        sample = dataset.samples[f.name]
        if sample.boxes is None or sample.boxes.suffix.lower() != ".xml" or f.mask_size is None:
            continue
        try:
            stored.append(read_objects(sample).boxes)
        except DataError:
            continue  # check reports it
        masks.append(f.boxes)
    return decide_convention(stored, masks) if stored else None


@dataclass(frozen=True)
class _Boxed:
    """What the annotation of an image without a mask says, or why it cannot be read."""

    sides: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """[N, 2] width and height of each box inside of the image, px."""
    names: tuple[str, ...] = ()
    difficult: int = 0
    bare: int = 0
    error: str | None = None

    @property
    def areas(self) -> tuple[float, ...]:
        return tuple(self.sides.prod(axis=1).tolist())


def _boxed(dataset: Dataset, facts: Sequence[Facts]) -> dict[str, _Boxed]:
    """The boxes of the images that have no mask, by name."""
    chosen = [s for f in facts if (s := dataset.samples[f.name]).mask is None and s.boxes is not None]
    with noted():  # objects without a box are counted
        return dict(zip((s.name for s in chosen), in_threads(_read, chosen), strict=True))


def _read(sample: Sample) -> _Boxed:
    try:
        objects, truth = read_objects(sample), read_boxes(sample)
    except (MotesError, OSError) as e:
        return _Boxed(error=str(e))
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    return _Boxed(sides, objects.names, int(truth.ignored.sum()), objects.bare)


def _box_facts(boxed: Sequence[_Boxed]) -> dict[str, Any] | None:
    read = [b for b in boxed if b.error is None]
    if not boxed:
        return None
    sides = np.concatenate([b.sides for b in read]) if read else np.zeros((0, 2), np.float32)
    return {
        "images": len(read),
        "empty": sum(not len(b.sides) for b in read),
        "boxes": len(sides),
        "width": spread(sides[:, 0].tolist()),
        "height": spread(sides[:, 1].tolist()),
        "classes": dict(Counter(name for b in read for name in b.names).most_common()),
        "difficult": sum(b.difficult for b in read),
        "without_box": sum(b.bare for b in read),
    }


def _split(ids: Sequence[str], samples: Mapping[str, Sample], targets: Mapping[str, Sequence[float]]) -> dict[str, int]:
    known = [i for i in dict.fromkeys(ids) if i in samples]
    return {
        "images": len(known),
        "targets": sum(len(targets.get(i, ())) for i in known),
        "missing": len(set(ids) - set(samples)),
    }
