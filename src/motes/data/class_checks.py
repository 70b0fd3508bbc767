"""What is wrong with class labels and with prepared patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from motes.data.aerial_layouts import PATCH
from motes.data.class_scan import ClassFacts
from motes.data.dataset import Dataset
from motes.data.findings import Finding
from motes.data.labels import described
from motes.data.manifest import read_manifest

WHOLE = {"train": (1409, 33978), "val": (458, 11644)}
"""iSAID's images (without the two that all leave out) and the patches of 896 px, stride 512, that pad-split makes of
them: the figures of a published reproduction, not counted here."""


def class_findings(dataset: Dataset, facts: Sequence[ClassFacts]) -> Iterator[Finding]:
    """Findings about single samples, then about the whole."""
    for f in facts:
        if f.collapsed:
            message = "its ids are lost: a palette image written without a palette keeps 0 and 1 only"
            yield Finding("labels-collapsed", f.name, message, (f.name,))
        if f.unknown:
            yield Finding("unknown-colours", f.name, described(f.unknown, f.form), (f.name,))
        if f.size and (f.dtype != "uint8" or f.channels not in (1, 3)):
            bands = f"{f.channels} band{'s' * (f.channels > 1)}"
            message = f"{bands} of {f.dtype}, expected 1 (grey) or 3 (RGB) of uint8"
            yield Finding("image-type", f.name, message, (f.name,))
    yield from _collapsed(dataset, facts)
    yield from _absent(dataset, facts)
    yield from _prepared(dataset)


def _collapsed(dataset: Dataset, facts: Sequence[ClassFacts]) -> Iterator[Finding]:
    """Grey copies of collapsed masks look sound one by one."""
    assert dataset.classes is not None
    masked = [f for f in facts if f.mask_size is not None and not f.collapsed]
    total = np.sum([f.counts for f in masked], axis=0) if masked else np.zeros(256, np.int64)
    used = set(np.flatnonzero(total[: dataset.classes.num_classes]).tolist())
    if dataset.classes.num_classes > 2 and len(masked) > 1 and 1 in used and used <= {0, 1}:
        message = (
            f"all {len(masked)} masks hold 0 and 1 only, of {dataset.classes.num_classes} classes: "
            "were they made by way of palette images without a palette?"
        )
        yield Finding("labels-collapsed", dataset.root.name, message)


def _absent(dataset: Dataset, facts: Sequence[ClassFacts]) -> Iterator[Finding]:
    assert dataset.classes is not None
    total = np.sum([f.counts for f in facts], axis=0)
    missing = [name for i, name in enumerate(dataset.classes.names) if not total[i]]
    if missing and total.any():
        yield Finding("class-absent", ", ".join(missing), f"no pixel of {len(missing)} classes")


def _prepared(dataset: Dataset) -> Iterator[Finding]:
    if dataset.plan is None or dataset.layout != "patches":
        return
    stems = {split: [_stem(i) for i in ids] for split, ids in dataset.splits.items()}
    rule = "pad-split"
    if dataset.plan.manifest is not None:
        notes = read_manifest(dataset.plan.manifest)
        rule = str(notes.settings.get("rule"))
        if (notes.settings.get("patch"), notes.settings.get("stride")) != (896, 512):
            rule = ""
        if notes.begun:
            message = f"{len(notes.begun)} images are cut in part, the first is {min(notes.begun)}: prepare again"
            yield Finding("preparation-unfinished", dataset.root.name, message, tuple(sorted(notes.begun)))
        for key, record in notes.done.items():
            folder = dataset.root / key.partition("/")[0]
            paths = [folder / "images" / n for n in record.images] + [folder / "masks" / n for n in record.masks]
            gone = [p.name for p in paths if not p.is_file()]
            if gone:
                message = f"{len(gone)} of {len(paths)} files are gone, the first is {gone[0]}: prepare again"
                yield Finding("missing-patch", key, message, (key,))
            if record.unknown:
                yield Finding("unknown-colours", key, f"when it was prepared: {record.unknown}", (key,))
    if dataset.classes is None or not dataset.classes.name.startswith("isaid"):
        return
    for split, (images, patches) in WHOLE.items():
        if split in stems:
            whole = f"{patches:,} patches of {images:,} images" if rule == "pad-split" else f"{images:,} images"
            by = " by pad-split 896/512" if rule == "pad-split" else ""
            found = f"{len(stems[split]):,} patches of {len(set(stems[split])):,} images"
            yield Finding("patch-count", split, f"{found}; the whole of iSAID: {whole}{by}")


def _stem(name: str) -> str:
    return PATCH.sub("", name)
