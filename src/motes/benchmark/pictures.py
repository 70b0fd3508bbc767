"""The pictures of a leaderboard: accuracy over cost, and what the methods find in the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motes.benchmark.standing import Standing
from motes.data import Sample
from motes.evaluation.gallery import PAPER, heading, outlined
from motes.imaging import read_image, read_mask, resize, write_image
from motes.inference.overlay import display
from motes.metrics.plotting import COLOURS, figure_of

MARKERS = {"trained here": "o", "published weights": "s"}
SHAPES = "os^Dv"

REACH, ZOOM = 44, 4
SIDE = REACH * ZOOM + 4
"""Of one cell in the picture of overlays, px: a window of REACH px, enlarged."""


def plot_cost(rows: Sequence[Standing], path: Path, metric: str = "iou", name: str = "IoU", side: int = 256) -> None:
    """A metric over multiply-accumulates of a frame, one point a network; its area grows with the parameters.

    Args:
        rows: those without cost are left out.
        path: PNG, SVG or PDF by suffix.
        metric: its key.
        name: its name in print.
        side: px of the square frame that ``macs`` are of.
    """
    known = [row for row in rows if row.macs is not None and row.params is not None]
    alike = len({row.kind for row in known}) == 1
    with figure_of(path, 7.2, 3.6) as figure:
        axes = figure.subplots()
        axes.set(xlabel=f"multiply-accumulates of one {side}x{side} frame (10$^9$)", ylabel=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        for k, row in enumerate(known):
            size, marker = 12 + 40 * np.sqrt(row.params / 1e6), MARKERS.get(row.kind, "D")
            if alike:  # then markers are free to tell networks of one colour apart
                marker = SHAPES[k // len(COLOURS) % len(SHAPES)]
            colour = COLOURS[k % len(COLOURS)]
            axes.scatter(row.macs / 1e9, row.value(metric), s=size, color=colour, marker=marker, zorder=3)
            # Names stand beside the picture: networks of equal cost lie on top of each other.
            label = row.label if alike else f"{row.label} ({row.kind})"
            axes.scatter([], [], s=18, color=colour, marker=marker, label=label)
        axes.margins(0.2)
        if known and max(r.macs for r in known) < 5 * min(r.macs for r in known):  # too few powers of ten for ticks
            axes.set_xscale("linear")
        figure.legend(loc="outside right upper", fontsize=7)


def plot_overlays(rows: Sequence[Standing], samples: Sequence[Sample], path: Path) -> bool:
    """A row of cells a frame: the frame, then what each method finds; False where no masks were kept.

    Cells show a window around the frame's first target, so that targets of a few pixels are seen.
    """
    names = [s.name for s in samples if any(s.name in row.masks for row in rows)]
    if not names or not rows:
        return False
    by_name = {s.name: s for s in samples}
    titles = ["frame", *(row.label for row in rows)]
    lines = [np.concatenate([heading(_short(t), SIDE, 0.4, 22) for t in titles], axis=1)]
    for name in names:
        sample = by_name[name]
        pixels, label = read_image(sample.image).pixels, read_mask(sample.mask)
        cells = [_cell(pixels, label, None)]
        cells += [_cell(pixels, label, row.masks.get(name)) for row in rows]
        lines.append(np.concatenate(cells, axis=1))
    write_image(path, np.concatenate(lines))
    return True


def _cell(pixels: np.ndarray, label: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A window around the first target, enlarged, outlined; at the size the method was scored at."""
    size = label.shape if mask is None else mask.shape
    if size != label.shape:  # a protocol with a resolution of its own
        pixels = resize(pixels, size, "bilinear")
        label = resize(label.astype(np.uint8), size, "nearest").astype(bool)
    rows, columns = np.nonzero(label)
    y, x = (int(rows[0]), int(columns[0])) if len(rows) else (size[0] // 2, size[1] // 2)
    top, left = (int(np.clip(c - REACH // 2, 0, max(n - REACH, 0))) for c, n in ((y, size[0]), (x, size[1])))
    window = (slice(top, top + REACH), slice(left, left + REACH))
    frame = display(pixels[window], (1.0, 99.9))
    nothing = np.zeros(frame.shape[:2], bool)
    truth, found = (nothing, nothing) if mask is None else (label[window], mask[window])
    shown = outlined(frame, truth, found, ZOOM)
    cell = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    cell[: shown.shape[0], : shown.shape[1]] = shown
    return cell


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:20] + "..."
