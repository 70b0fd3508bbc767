"""One pass over an aerial data set: how many pixels each class has, and what is no class's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from motes.data.classes import ClassTable
from motes.data.dataset import Dataset, Sample
from motes.data.labels import Unknown, read_counted
from motes.data.near import thumbnail
from motes.data.parallel import in_threads
from motes.data.scan import Facts, digest
from motes.errors import MotesError
from motes.imaging import read_image


@dataclass
class ClassFacts(Facts):
    """What the pixels of one sample say; of `Facts`, what is about binary targets stays empty.

    The digest of an image of one colour is empty: black borders are not the same picture.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64), repr=False)
    """[256] pixels of each id."""
    unknown: Unknown = field(default_factory=dict, repr=False)
    form: str = ""
    collapsed: bool = False


def class_scan(
    samples: Iterable[Sample], table: ClassTable, advance: Callable[[], object] | None = None
) -> list[ClassFacts]:
    """Reads every image and mask once, in the order of ``samples``; what cannot be read is noted, not raised."""
    return in_threads(lambda sample: _facts(sample, table), samples, advance)


def class_info(dataset: Dataset, table: ClassTable, advance: Callable[[], object] | None = None) -> dict[str, Any]:
    """Counts, sizes, types and pixels of each class as plain values (JSON-ready); see `motes.data.summary.info`."""
    facts = class_scan(dataset.samples.values(), table, advance)
    by_name = {f.name: f for f in facts}
    total = np.sum([f.counts for f in facts], axis=0)
    labelled = int(total[: table.num_classes].sum())
    unknown: Counter[tuple[int, int, int]] = Counter()
    for f in facts:
        unknown.update(f.unknown)
    sizes = [f.size for f in facts if f.size]
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "images": len(facts),
        "masks": sum(s.mask is not None for s in dataset.samples.values()),
        "unreadable": sum(bool(f.image_error or f.mask_error) for f in facts),
        "width": spread([w for _, w in sizes]),
        "height": spread([h for h, _ in sizes]),
        "different_sizes": len(set(sizes)),
        "types": dict(Counter(f"{f.dtype} x{f.channels}" for f in facts if f.size).most_common()),
        "mask_forms": dict(Counter(f.form for f in facts if f.form).most_common()),
        "class_table": table.name,
        "classes": {
            name: {
                "id": i,
                "pixels": int(total[i]),
                "share": int(total[i]) / labelled if labelled else None,
                "images": sum(bool(f.counts[i]) for f in facts),
            }
            for i, name in enumerate(table.names)
        },
        "ignored": int(total[table.ignore]),
        "unknown": [{"colour": list(c), "pixels": n} for c, n in unknown.most_common()],
        "splits": {name: _split(ids, by_name, table) for name, ids in dataset.splits.items()},
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and largest; None of nothing."""
    if not values:
        return None
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _facts(sample: Sample, table: ClassTable) -> ClassFacts:
    facts = ClassFacts(sample.name)
    try:
        pixels = read_image(sample.image).pixels
        facts.size, facts.channels, facts.dtype = pixels.shape[:2], pixels.shape[2], str(pixels.dtype)
        if (pixels != pixels[:1, :1]).any():
            facts.digest = digest(pixels)
        facts.thumbnail = thumbnail(pixels)
    except (MotesError, OSError) as e:
        facts.image_error = str(e)
    if sample.mask is None:
        return facts
    try:
        found = read_counted(sample.mask, table)
    except (MotesError, OSError) as e:
        facts.mask_error = str(e)
        return facts
    facts.mask_size = found.ids.shape
    facts.unknown, facts.form, facts.collapsed = found.unknown, found.form, found.collapsed
    facts.counts = np.bincount(found.ids.ravel(), minlength=256)
    facts.counts[0] -= sum(found.unknown.values())
    return facts


def _split(ids: Sequence[str], facts: dict[str, ClassFacts], table: ClassTable) -> dict[str, Any]:
    known = [facts[i] for i in dict.fromkeys(ids) if i in facts]
    total = np.sum([f.counts for f in known], axis=0) if known else np.zeros(256, np.int64)
    return {
        "images": len(known),
        "masks": sum(f.mask_size is not None for f in known),
        "missing": len(set(ids) - set(facts)),
        "classes": {name: int(total[i]) for i, name in enumerate(table.names)},
    }
