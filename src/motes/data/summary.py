"""What a data set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from motes.data.annotations import read_objects
from motes.data.boxes import Convention, decide_convention
from motes.data.class_scan import class_info, spread
from motes.data.dataset import Dataset
from motes.data.scan import Facts, scan
from motes.errors import DataError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def info(dataset: Dataset, advance: Callable[[], object] | None = None) -> dict[str, Any]:
    """Counts, sizes, types and target statistics of ``dataset`` as plain values (JSON-ready).

    Targets are the 8-connected components of the masks, areas in pixels at native size. Files that cannot be read are
    counted in ``unreadable`` and left out of the rest. Of a data set with classes, their pixels are told instead, see
    :func:`motes.data.class_scan.class_info`.
    """
    if dataset.classes is not None:
        return class_info(dataset, dataset.classes, advance)
    facts = scan(dataset.samples.values(), advance)
    plan = dataset.plan
    by_name = {f.name: f for f in facts}
    areas = [a for f in facts for a in f.areas]
    masked = [f for f in facts if f.mask_size is not None]
    convention = box_convention(dataset, facts)
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "images": len(facts),
        "masks": sum(s.mask is not None for s in dataset.samples.values()),
        "unreadable": sum(bool(f.image_error or f.mask_error) for f in facts),
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
        "targets_per_image": {str(n): c for n, c in sorted(Counter(len(f.areas) for f in masked).items())},
        "boxes": str(plan.boxes) if plan and plan.boxes else None,
        "box_convention": convention.name if convention else None,
        "boxes_matched": [convention.matched, convention.boxes] if convention else None,
        "points": str(plan.points) if plan and plan.points else None,
        "sky": str(plan.sky) if plan and plan.sky else None,
        "splits": {name: _split(ids, by_name) for name, ids in dataset.splits.items()},
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


def _split(ids: Sequence[str], facts: dict[str, Facts]) -> dict[str, int]:
    known = [facts[i] for i in dict.fromkeys(ids) if i in facts]
    return {
        "images": len(known),
        "targets": sum(len(f.areas) for f in known),
        "missing": len(set(ids) - set(facts)),
    }
