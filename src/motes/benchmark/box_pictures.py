"""The pictures of a leaderboard of detectors: curves, and what each finds in the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motes.benchmark.pictures import REACH, SIDE, ZOOM
from motes.benchmark.standing import Standing
from motes.data import Sample
from motes.data.annotations import noted, read_boxes
from motes.evaluation.box_gallery import FAINT, outlined
from motes.evaluation.gallery import FOUND, PAPER, TRUTH, heading
from motes.imaging import read_image, write_image
from motes.inference.overlay import display
from motes.metrics.plotting import COLOURS, DASHES, figure_of

CURVES = len(COLOURS)
"""More lines cannot be told apart."""


def plot_box_curves(rows: Sequence[Standing], path: Path) -> None:
    """Precision over recall at the protocol's IoU, and Pd by centre over false alarms a frame; a line a detector.

    Args:
        rows: the first `CURVES` are drawn.
        path: PNG, SVG or PDF by suffix.
    """
    rules = rows[0].run
    with figure_of(path, 7.2, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        left.set(
            title=f"precision and recall, IoU {rules['iou']:g}", xlabel="recall", ylabel="precision", xlim=(0, 1),
            ylim=(0, 1.02),
        )  # fmt: skip
        right.set(
            title=f"detection and false alarms, centres within {rules['distance']:g} px",
            xlabel="false alarms / frame",
            ylabel="Pd",
            ylim=(0, 1.02),
        )
        for row, colour, dash in zip(rows, COLOURS, DASHES, strict=False):
            look = {"color": colour, "linestyle": dash}
            curve = row.curves
            name = f"{row.label} (mAP12 {row.value('map12'):.3f})"
            left.plot([0, *curve["recall"]], [1, *curve["precision"]], label=name, **look)
            # The least false alarms that can be counted are one in all frames; none is drawn at the left edge.
            least = 0.5 / max(rules["images"], 1)
            right.plot(np.maximum([0, *curve["alarms"]], least), [0, *curve["pd"]], drawstyle="steps-post", **look)
        right.set_xscale("log")
        right.axvline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def plot_box_overlays(rows: Sequence[Standing], samples: Sequence[Sample], path: Path) -> bool:
    """A row of cells a frame: the frame, then what each detector finds; False where nothing was kept to be drawn.

    Cells show a window around the frame's first target, so that targets of a few pixels are seen. Detections below the
    protocol's score threshold are drawn faintly.
    """
    names = [s.name for s in samples if any(s.name in row.boxes for row in rows)]
    if not names or not rows:
        return False
    by_name, rules = {s.name: s for s in samples}, rows[0].run
    titles = ["frame", *(row.label for row in rows)]
    lines = [np.concatenate([heading(_short(t), SIDE, 0.4, 22) for t in titles], axis=1)]
    for name in names:
        pixels = read_image(by_name[name].image).pixels
        with noted():
            truth = read_boxes(by_name[name], rules["classes"], rules["reader"]).boxes
        found = [None, *(row.boxes.get(name, np.zeros((0, 5))) for row in rows)]
        lines.append(np.concatenate([_cell(pixels, truth, f, rules["threshold"]) for f in found], axis=1))
    write_image(path, np.concatenate(lines))
    return True


def _cell(pixels: np.ndarray, truth: np.ndarray, found: np.ndarray | None, threshold: float) -> np.ndarray:
    """A window around the first target, enlarged; without ``found`` the bare frame."""
    height, width = pixels.shape[:2]
    x, y = (truth[0, :2] + truth[0, 2:]) / 2 if len(truth) else (width / 2, height / 2)
    left, top = (int(np.clip(round(float(c)) - REACH // 2, 0, max(n - REACH, 0))) for c, n in ((x, width), (y, height)))
    frame = display(pixels[top : top + REACH, left : left + REACH], (1.0, 99.9))
    groups = []
    if found is not None:
        shown = found[:, 4] >= threshold
        for boxes, colour in ((truth, TRUTH), (found[~shown, :4], FAINT), (found[shown, :4], FOUND)):
            groups.append((np.asarray(boxes, np.float64).reshape(-1, 4) - [left, top, left, top], colour))
    drawn = outlined(frame, groups, ZOOM)
    cell = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    cell[: drawn.shape[0], : drawn.shape[1]] = drawn
    return cell


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:20] + "..."
