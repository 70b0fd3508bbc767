"""Class scores on screen: one table of classes, one of what is over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from motes.metrics.report import cells

if TYPE_CHECKING:
    from rich.table import Table

    from motes.metrics.formulas import Value

SUMMARY = {
    "miou": "mIoU, all classes",
    "miou_foreground": "mIoU, foreground",
    "oa": "OA",
    "fwiou": "frequency-weighted IoU",
    "mprecision": "mean precision",
    "mrecall": "mean recall",
    "mf1": "mean F1",
    "object_recall": "object recall",
}
"""Keys of ``ClassScore.compute`` over all classes, with their names in print; bands of object recall come after."""

WIDTH = 96
"""Characters that the tables need: names of classes are not to be cut off in a pipe."""


def summary_table(metrics: Mapping[str, Value], facts: Mapping[str, Any], title: str | None = None) -> Table:
    """Means, OA, fwIoU and object recall with intervals and counts, to be printed by rich."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (("", "left"), ("value", "right"), ("95 % interval", "right"), ("counted", "right")):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for key, name in SUMMARY.items():
        if key in metrics:
            table.add_row(name, *cells(key, metrics[key]))
    for band, (low, high) in facts["object_bands"].items():
        size = f"{low} px and more" if high is None else f"{low} to {high - 1} px"
        table.add_row(f"- {band}, {size}", *cells("", metrics[f"object_recall/{band}"]))
    return table


def class_table(metrics: Mapping[str, Value], facts: Mapping[str, Any]) -> Table:
    """IoU with its interval, precision, recall, F1 and labelled pixels of every class."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for heading in ("IoU", "95 % interval", "precision", "recall", "F1", "labelled px"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in facts["classes"]:
        iou, interval, _ = cells("iou", metrics[f"iou/{name}"])
        others = (cells(k, metrics[f"{k}/{name}"])[0] for k in ("precision", "recall", "f1"))
        table.add_row(name, iou, interval, *others, f"{facts['label_pixels'][name]}")
    return table


def class_notes(facts: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the numbers; ``facts`` is :meth:`ClassScore.facts`."""
    lines = []
    if facts["absent_classes"]:
        absent = facts["absent_classes"]
        verb = "occurs" if len(absent) == 1 else "occur"
        lines.append(
            f"{', '.join(absent)} {verb} neither in labels nor in predictions: no value, left out of the means"
        )
    if facts["images_without_foreground"]:
        lines.append(f"{facts['images_without_foreground']} of {facts['images']} images have no foreground")
    if facts["pixels_ignored"]:
        whole = facts["pixels"] + facts["pixels_ignored"]
        lines.append(f"{facts['pixels_ignored']} of {whole} pixels are labelled {facts['ignore']}: not scored")
    if facts["images"] == 1:
        lines.append("one image: only object recall has an interval")
    return lines
