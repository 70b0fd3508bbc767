"""Scores of boxes on screen and on disk: the table, the curve as JSON and as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motes.imaging import atomic_path
from motes.metrics.report import results_table

if TYPE_CHECKING:
    from rich.table import Table

    from motes.metrics.box_score import BoxScore
    from motes.metrics.formulas import Value

GROUPS: dict[str, dict[str, str]] = {
    "VOC": {"map12": "mAP12 (area)", "map07": "mAP07 (11 points)", "recall": "recall", "precision": "precision"},
    "COCO": {
        "coco_ap": "AP .5:.95",
        "ap@0.3": "AP .3",
        "ap@0.5": "AP .5",
        "ap@0.75": "AP .75",
        "ap/0-3": "- below 3 px",
        "ap/3-4": "- 3 to 4 px",
        "ap/4-5": "- 4 to 5 px",
        "ap/5-8": "- 5 to 8 px",
        "ap/8-16": "- 8 to 16 px",
        "ap/16+": "- 16 px and more",
    },
    "points": {"centre_ap": "centre AP", "mnocoap": "mNoCoAP"},
    "targets": {
        "pd": "Pd",
        "pd@1": "Pd at 1 false alarm / image",
        "fa": "Fa, 1e-6",
        "false_alarms_per_image": "false alarms / image",
        "false_alarms_per_megapixel": "false alarms / megapixel",
    },
    "sky": {"sky_iou": "sky IoU"},
}
"""Keys of ``BoxScore.compute`` by group, with their names in print."""


def box_table(metrics: Mapping[str, Value], title: str | None = None) -> Table:
    """A table of values, 95 % intervals and the counts behind them, to be printed by rich."""
    named = {key.replace("map12:", "mAP12, "): value for key, value in metrics.items()}
    return results_table(named, title, GROUPS)


def box_notes(facts: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the numbers; ``facts`` is :meth:`BoxScore.facts`."""
    unit = "widths + 1" if facts["plus_one"] else "widths as they are"
    lines = [
        f"IoU {facts['iou']:g} ({unit}, corners read as '{facts['reader']}'); "
        f"Pd and Fa: score >= {facts['threshold']:g}, centres nearer than {facts['distance']:g} px"
    ]
    if facts["images_without_target"]:
        lines.append(f"{facts['images_without_target']} of {facts['images']} images have no target")
    if facts["ignored"]:
        lines.append(f"{facts['ignored']} boxes are marked difficult: neither to be found nor false alarms")
    if facts["images"] == 1:
        lines.append("one image: only Pd and recall have an interval")
    return lines


def write_box_curves(path: Path, score: BoxScore) -> None:
    """Write precision over recall of every class, at IoU 0.3, 0.5 and 0.75, as JSON."""
    content: dict[str, Any] = {}
    for label, name in enumerate(score.classes):
        content[name] = {}
        for iou in (0.3, 0.5, 0.75):
            curve = score.curve(iou, label)
            columns = {"score": curve.scores, "recall": curve.recall, "precision": curve.precision}
            content[name][f"{iou:g}"] = {k: [round(float(v), 6) for v in c.tolist()] for k, c in columns.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def plot_box_pr(scores: Mapping[str, BoxScore], path: Path, iou: float | None = None) -> None:
    """Precision over recall of boxes, methods (or classes of one method) side by side.

    Args:
        scores: method -> score; where there is one method with several classes, each class is a line.
        path: PNG, SVG or PDF by suffix.
        iou: overlap of a hit; default: the protocol's.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from motes.metrics.plotting import COLOURS, DASHES, figure_of

    with figure_of(path, 3.5, 3.4) as figure:
        axes = figure.subplots()
        lines = [
            (name if len(score.classes) == 1 else f"{name} {c}", score, label)
            for name, score in scores.items()
            for label, c in enumerate(score.classes)
        ]
        for k, (name, score, label) in enumerate(lines):
            curve = score.curve(iou, label)
            ap = score.average_precision("area", iou).get(label, float("nan"))
            axes.plot(
                [0, *curve.recall.tolist()],
                [1, *curve.precision.tolist()],
                color=COLOURS[k % len(COLOURS)],
                linestyle=DASHES[k % len(DASHES)],
                label=f"{name}  (AP {ap:.3f})",
                drawstyle="default",
            )
        at = next(iter(scores.values())).protocol.iou if iou is None else iou
        axes.set(xlabel=f"recall (boxes, IoU {at:g})", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1)
