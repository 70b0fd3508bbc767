"""The tables of a leaderboard of detectors, and what others published of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motes.benchmark.box_pictures import CURVES, plot_box_curves, plot_box_overlays
from motes.benchmark.page import Block, Heading, Picture, Points, Table, Text
from motes.benchmark.pictures import plot_cost
from motes.benchmark.published_cost import SIDE, cost_rows
from motes.benchmark.standing import Standing, plain, published
from motes.cards import list_models, model_card
from motes.data import Sample

if TYPE_CHECKING:
    from motes.benchmark.leaderboard import Board

METRICS = {
    "map07": ">mAP07",
    "map12": ">mAP12",
    "recall": ">recall",
    "centre_ap": ">centre AP",
    "pd@1": ">Pd at 1 false alarm / frame",
    "pd": ">Pd, score >= {threshold:g}",
    "fa": ">Fa, 1e-6",
    "sky_iou": ">sky IoU",
}
"""Keys of an evaluation, with the titles of their columns; what no row has gets none."""

COUNTED = ("recall", "pd@1", "pd")
"""Metrics whose counts are printed, too."""

BOX_CAVEATS = {
    "densesirst": (
        "Numbers on `test_v1` and the published ones, on `test_v2`, are of different frames: they cannot be compared.",
        "Every background is a frame of SIRST: 42 of the 341 frames of `trainval_v1` resemble one of 21 frames "
        "of `test_v1` (32x32 thumbnails correlate above 0.9), which flatters every network trained on all of them.",
        "0.091 is a floor of mAP07, not a result: one right detection in front gives 1/11 whatever the recall.",
        "Point-in-box heads as published have a ceiling: at 512x512 a target is about 4 px wide, and 34.7 % of the "
        "targets of `test_v2` contain a point of stride 8, 59 % one of stride 4. The published recalls of these heads "
        "(FCOS, ATSS, GFL, TOOD, VFNet, AutoAssign, DyHead, BAFE-Net) are .31 to .355, of heads that match by IoU or "
        "by cost more (SSD .42, RetinaNet .51, PAA .55, Sparse R-CNN .57).",
        "The smallest anchor of the published two-stage detectors is 32 px: 0.6 % of all targets are large enough to "
        "become a positive of their proposals (recall .02 to .24).",
        "The published DETRs and Sparse R-CNN were trained by SGD for 20 epochs, their authors train them by AdamW for "
        "50 to 150: those rows say nothing about the methods.",
        "`deepir` reads every corner one pixel too far to the upper left and counts widths + 1, as the published table "
        "does. Networks trained on `exact` corners have their boxes moved accordingly.",
    ),
}
"""What a reader of a data set's page must know; for every set whose name begins so."""

OVERLAYS = 6
"""Detectors in the picture of overlays."""


def box_blocks(board: Board, samples: Sequence[Sample], out: Path) -> list[Block]:
    """Tables and pictures of one board."""
    every = (*board.rows, *board.unfinished)
    facts = every[0].run
    shown = [key for key in METRICS if any(key in row.metrics for row in every)]
    columns = [
        ">#", "network", "weights", *(METRICS[k].format(**facts) for k in shown), ">params", f">MACs, {SIDE}x{SIDE}",
        ">CPU ms / frame",
    ]  # fmt: skip
    stem = "-".join(plain(p) for p in (board.data, board.split or "all", board.protocol))
    size = "x".join(map(str, facts["resolution"] or ())) or "their own size"
    unit = "widths + 1" if facts["plus_one"] else "true widths"
    blocks: list[Block] = [
        Heading(2, f"{board.split or 'all frames'}, protocol `{board.protocol}`"),
        Text(
            f"{facts['images']} frames, {facts['targets']:,} targets; frames run at {size}, corners are read as "
            f"`{facts['reader']}`, a box is found at IoU {facts['iou']:g} ({unit}), a centre within "
            f"{facts['distance']:g} px. Sorted by mAP12. Below each value its 95 % interval or its counts. Recall is "
            "of all boxes that a network gives, whatever their score. Milliseconds are the median over the frames of "
            "the network alone, without the choice among its candidates, on the machine that made this page."
        ),
    ]
    if board.rows:
        blocks.append(Table(columns, [box_cells(n, row, shown) for n, row in enumerate(board.rows, 1)]))
    if board.unfinished:
        blocks += [
            Heading(3, "Unfinished"),
            Text("Trained for less than half of their recipe's epochs: no measure of the network."),
            Table(columns, [box_cells(None, row, shown) for row in board.unfinished]),
        ]
    if warnings := gathered(every):
        blocks.append(Points(warnings))
    if board.rows:
        plot_box_curves(board.rows, out / f"{stem}-curves.png")
        best = f", the best {CURVES} networks" if len(board.rows) > CURVES else ""
        blocks.append(Picture(f"{stem}-curves.png", f"Precision over recall, Pd over false alarms{best}"))
    if sum(row.macs is not None for row in board.rows) > 1:
        plot_cost(board.rows, out / f"{stem}-cost.png", "map12", "mAP12", SIDE)
        blocks.append(Picture(f"{stem}-cost.png", "mAP12 over cost; the area of a point grows with the parameters"))
    if plot_box_overlays(board.rows[:OVERLAYS], samples, out / f"{stem}-overlays.png"):
        blocks.append(Picture(f"{stem}-overlays.png", "Truth blue, detection orange, below the threshold brown"))
    return blocks


def box_cells(rank: int | None, row: Standing, shown: Sequence[str]) -> list[object]:
    """One row of a board's table."""
    options = row.run.get("options", {})
    facts = (
        row.model,
        row.variant,
        options.get("backbone"),
        *(f"{options[k]} channels" for k in ("width",) if k in options),
    )
    made = [row.kind]
    if row.epochs is not None:
        made.append(f"{row.epochs[0]:g} of {row.epochs[1]} epochs")
    if recipe := row.run.get("training", {}).get("recipe"):
        made.append(str(recipe))
    macs = None if row.macs is None else f"{row.macs / 1e9:.3g} G"
    return [
        rank, f"**{row.label}**\n{', '.join(str(f) for f in facts if f)}", "\n".join(made),
        *(_metric(row, key) for key in shown), None if row.params is None else f"{row.params / 1e6:.3g} M", macs,
        None if row.ms is None else f"{row.ms:.3g}",
    ]  # fmt: skip


def gathered(rows: Sequence[Standing]) -> list[str]:
    """The warnings of all rows, each once, with the rows that it is of."""
    of: dict[str, list[str]] = {}
    for row in rows:
        for text in row.warnings:
            of.setdefault(text, []).append(row.label)
    return [f"{'All' if len(who) == len(rows) > 1 else ', '.join(sorted(who))}: {text}" for text, who in of.items()]


def published_box_blocks(data: str) -> list[Block]:
    """What others published of detectors on this data set, by the cards, and what it costs by the same table."""
    names = list_models("detection")
    rows = [
        [model_card(name).title, r.get("variant"), r.get("split"), r.get("protocol"),
         *(_fraction(r, k) for k in ("map07", "map12", "recall")), r.get("source")]
        for name in names
        for r in published(name, data)
    ]  # fmt: skip
    if not rows:
        return []
    costs = [
        [model_card(name).title, r.get("variant"), f"{r['params']:,}", f"{r['macs_512'] / 1e9:,.3f}", r.get("source")]
        for name in names
        for r in cost_rows(name)
    ]  # fmt: skip
    return [
        Heading(2, "Published by others: other frames, not comparable"),
        Text(
            "As printed. The published lists (v2) are of all 1,024 images, 768 to train on and 256 to test; our "
            "tables are of other frames. Each row is a training at the epoch that is best by its mAP on the test "
            "frames, with the recall of that epoch."
        ),
        Table(["network", "variant", "split", "protocol", ">mAP07", ">mAP12", ">recall", "source"], rows),
        Heading(3, "Published cost"),
        Text(
            "Parameters, frozen and unused ones included, and GFLOPs of a 512x512 frame, which are "
            "multiply-accumulates; `motes bench --published` counts both again. What was run under a name is not "
            "always the method of that name: the manual's page on networks says what it was."
        ),
        Table(["network", "variant", ">params", ">GFLOPs", "source"], costs),
    ]  # fmt: skip


def _metric(row: Standing, key: str) -> str | None:
    metric = row.metrics.get(key)
    if metric is None or metric["value"] is None:
        return None
    scale, digits = (1e6, 1) if key == "fa" else (1.0, 3)
    text = f"{metric['value'] * scale:.{digits}f}"
    if metric["interval"]:
        text += "\n{:.{d}f} to {:.{d}f}".format(*(end * scale for end in metric["interval"]), d=digits)
    if key in COUNTED:
        text += f"\n{metric['numerator']:,.0f} / {metric['denominator']:,.0f}"
    return text


def _fraction(row: Any, key: str) -> str | None:
    return None if row.get(key) is None else f"{row[key]:.3f}"
