"""Scores on screen and on disk: the table, metrics.json, the per-image CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motes.imaging import atomic_path

if TYPE_CHECKING:
    from rich.table import Table

    from motes.metrics.box_score import BoxScore
    from motes.metrics.class_score import ClassScore
    from motes.metrics.segmentation import SegmentationScore, Value

GROUPS: dict[str, dict[str, str]] = {
    "pixels": {
        "iou": "IoU",
        "niou": "nIoU",
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "auc": "ROC AUC",
        "ap": "average precision",
    },
    "targets": {
        "pd": "Pd",
        "fa": "Fa, 1e-6",
        "false_alarms_per_image": "false alarms / image",
        "false_alarms_per_megapixel": "false alarms / megapixel",
        "target_niou": "target nIoU",
    },
    "hierarchical IoU": {
        "hiou": "hIoU",
        "seg_iou": "segmentation IoU",
        "seg_mrg_err": "- merging",
        "seg_itf_err": "- interference",
        "seg_pcp_err": "- perception",
        "loc_iou": "localisation IoU",
        "loc_s2m_err": "- one to many",
        "loc_m2s_err": "- many to one",
        "loc_itf_err": "- interference",
        "loc_pcp_err": "- perception",
    },
}
"""Keys of ``SegmentationScore.compute`` by group, with their names in print."""


def results_table(
    metrics: Mapping[str, Value], title: str | None = None, groups: Mapping[str, Mapping[str, str]] = GROUPS
) -> Table:
    """A table of values, 95 % intervals and the counts behind them, to be printed by rich.

    ``groups``: keys of each part of the table, with their names in print; other keys stand below as they are.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (("", "left"), ("value", "right"), ("95 % interval", "right"), ("counted", "right")):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for names in groups.values():
        for key, name in names.items():
            if key in metrics:
                table.add_row(name, *cells(key, metrics[key]))
        table.add_section()
    for key in metrics:
        if not any(key in names for names in groups.values()):
            table.add_row(key, *cells(key, metrics[key]))
    return table


def notes(facts: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the numbers; ``facts`` is :meth:`SegmentationScore.facts`."""
    lines = []
    if facts["empty_pairs"]:
        what = "left out of nIoU" if facts["niou_empty"] == "exclude" else "counted as 0 in nIoU"
        lines.append(f"{facts['empty_pairs']} of {facts['images']} images have neither target nor prediction: {what}")
    if facts["phantoms"]:
        lines.append("phantom counts of pyirstdmetrics 1.0.2 included: Pd, hIoU and its parts are lowered by them")
    if facts["images"] == 1:
        lines.append("one image: only Pd has an interval")
    return lines


def write_metrics(path: Path, run: Mapping[str, Any], metrics: Mapping[str, Value]) -> None:
    """Write ``{"run": {...}, "metrics": {key: {value, numerator, denominator, interval}}}`` as strict JSON (no NaN)."""
    with atomic_path(path) as temporary:
        temporary.write_text(metrics_json(run, metrics) + "\n", encoding="utf-8")


def metrics_json(run: Mapping[str, Any], metrics: Mapping[str, Value]) -> str:
    """The text of metrics.json."""
    rows = {
        key: {
            "value": _number(v.value),
            "numerator": _number(v.numerator),
            "denominator": _number(v.denominator),
            "interval": None if v.interval is None else [_number(end) for end in v.interval],
        }
        for key, v in metrics.items()
    }
    return json.dumps({"run": dict(run), "metrics": rows}, indent=2, ensure_ascii=False, allow_nan=False)


def write_per_image(path: Path, score: SegmentationScore | ClassScore | BoxScore) -> None:
    """Write one CSV row an image, sorted by name: the ``COLUMNS`` of the score; empty where 0/0."""
    rows = score.per_image()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=score.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_curves(path: Path, score: SegmentationScore) -> None:
    """Write the pixel curve (points where it turns only) and the target curve of the sweep as JSON."""
    pixel, target = score.pixel_curve(), score.target_curve()
    turns = _turns(pixel.tpr, pixel.fpr)
    columns = {
        "pixel": {
            "threshold": pixel.thresholds[turns],
            "tpr": pixel.tpr[turns],
            "fpr": pixel.fpr[turns],
            "precision": pixel.precision[turns],
        },
        "target": {
            "threshold": target.thresholds,
            "pd": target.pd,
            "fa": target.fa,
            "false_alarms_per_image": target.blobs_per_image,
            "false_alarms_per_megapixel": target.blobs_per_megapixel,
        },
    }
    plain = {k: {c: [_number(x) for x in a.tolist()] for c, a in v.items()} for k, v in columns.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plain, allow_nan=False) + "\n", encoding="utf-8")


def _turns(*curves):
    """Indices at which some curve changes before or after: what lies between repeats a point."""
    import numpy as np

    moves = np.any([np.diff(c, prepend=np.inf, append=np.inf) != 0 for c in curves], axis=0)
    return np.flatnonzero(moves[:-1] | moves[1:])


def cells(key: str, v: Value) -> tuple[str, str, str]:
    """Value, interval and counts of a row of the table, as text."""
    text = _rate if key == "fa" or key.startswith("false_alarms") else "{:.4f}".format
    scale = 1e6 if key == "fa" else 1
    value = "-" if v.value is None else text(v.value * scale)
    interval = "-" if v.interval is None else " .. ".join(text(end * scale) for end in v.interval)
    return value, interval, f"{_count(v.numerator)} / {_count(v.denominator)}"


def _rate(x: float) -> str:
    return f"{x:.{3 if x < 100 else 1 if x < 1e4 else 0}f}"


def _count(x: float) -> str:
    return f"{x:.0f}" if float(x).is_integer() and abs(x) < 1e9 else f"{x:.4g}"


def _number(x: float | None) -> float | int | None:
    if x is None or not math.isfinite(x):
        return None
    return int(x) if float(x).is_integer() and abs(x) >= 1 else float(x)
