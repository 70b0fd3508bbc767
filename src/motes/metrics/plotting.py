"""Figures for papers: ROC, precision-recall, and the response surface. Matplotlib is loaded by the functions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from motes.errors import MissingExtraError, MotesError
from motes.imaging import atomic_path
from motes.metrics.curves import SWEEP, PixelCurve, TargetCurve
from motes.naming import look_up

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from motes.metrics.segmentation import SegmentationScore

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
"""So that the lines differ in grey print too."""
STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "motes",  # equal input, equal file
    "savefig.dpi": 300,
}
PLOT_SWEEP = tuple(sorted({*SWEEP, *(float(1 / (1 + np.exp(-x))) for x in np.arange(-9, 9.5, 0.5))}))
"""Thresholds of the target curves, in equal steps of log-odds as well."""
LEGEND = 120
"""Characters that fit side by side below the ROC curves."""
_RING: dict[str, Any] = {"markersize": 4.5, "markerfacecolor": "white", "markeredgewidth": 1.2}
_CELLS = 96  # of a surface along its longer side


def check_suffix(path: Path) -> None:
    """Refuse a file name whose suffix is no figure's."""
    look_up("figure suffix", path.suffix.lower(), SUFFIXES)


def plot_roc(scores: Mapping[str, SegmentationScore], path: Path) -> None:
    """Pixel ROC and target ROC (over false-alarm area, over false alarms per megapixel) of methods side by side.

    Args:
        scores: method name -> score with a sweep; circles mark the protocol's threshold.
        path: PNG, SVG or PDF by suffix.
    """
    longest = max(map(len, scores), default=0) + len("  (AUC 0.0000)")
    columns = max(1, min(len(scores) + 1, 4, LEGEND // longest))
    rows = -(-(len(scores) + 1) // columns)
    with figure_of(path, 7.2, 2.73 + 0.17 * rows) as figure:
        pixel_axes, area_axes, blob_axes = figure.subplots(1, 3)
        pixel_axes.set(title="pixel ROC", xlabel="false positive rate of pixels", ylabel="true positive rate of pixels")
        area_axes.set(title="target ROC, false-alarm area", xlabel="Fa (10$^{-6}$)", ylabel="Pd")
        blob_axes.set(title="target ROC, false alarms", xlabel="false alarms per megapixel", ylabel="Pd")
        # One background pixel over all of them is the least rate above none; none is drawn at the left edge.
        least = min(1 / max(score.facts()["pixels"], 10) for score in scores.values())
        for look, (name, score) in zip(_looks(), scores.items(), strict=False):
            pixel, target = score.pixel_curve(), score.target_curve()
            fpr = np.maximum(pixel.fpr, least)
            auc = "" if pixel.auc is None else f"  (AUC {pixel.auc:.4f})"
            pixel_axes.plot(fpr, pixel.tpr, label=f"{name}{auc}", **look)
            _mark(pixel_axes, look, fpr, pixel.tpr, pixel.thresholds, score.protocol.threshold)
            for axes, x in ((area_axes, target.fa * 1e6), (blob_axes, target.blobs_per_megapixel)):
                _target_line(axes, look, x, target, score.protocol.target_threshold)
        pixel_axes.set_xscale("log")
        pixel_axes.set_xlim(least, 1)
        for axes in (area_axes, blob_axes):
            axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)  # so that "no false alarm" has a place
            axes.set_xlim(left=0)
        for axes in (pixel_axes, area_axes, blob_axes):
            axes.set_ylim(0, 1.03)
        pixel_axes.plot([], [], "o", color="#555555", label="the protocol's threshold", **_RING)
        names = pixel_axes.get_legend_handles_labels()
        figure.legend(*names, loc="outside lower center", ncols=columns)


def plot_pr(scores: Mapping[str, SegmentationScore], path: Path) -> None:
    """Precision over recall of pixels, methods side by side.

    Circles mark the protocol's threshold, grey lines join points of equal F1.
    """
    with figure_of(path, 3.5, 3.6) as figure:
        axes = figure.subplots()
        recall = np.linspace(0.01, 1, 200)
        for f1 in (0.2, 0.4, 0.6, 0.8):
            with np.errstate(divide="ignore"):
                precision = f1 * recall / (2 * recall - f1)
            shown = (precision > 0) & (precision <= 1)
            axes.plot(recall[shown], precision[shown], color="#bbbbbb", linewidth=0.6, zorder=1)
            axes.annotate(
                f"F1 {f1:g}",
                (1.0, f1 / (2 - f1)),
                xytext=(2, 0),
                textcoords="offset points",
                fontsize=6,
                color="#888888",
                va="center",
            )
        for look, (name, score) in zip(_looks(), scores.items(), strict=False):
            curve = score.pixel_curve()
            ap = "" if curve.ap is None else f"  (AP {curve.ap:.3f})"
            keep = np.isfinite(curve.precision)
            axes.plot(curve.tpr[keep], curve.precision[keep], label=f"{name}{ap}", **look)
            _mark(axes, look, curve.tpr, curve.precision, curve.thresholds, score.protocol.threshold)
        axes.set(xlabel="recall (pixels)", ylabel="precision (pixels)", xlim=(0, 1.0), ylim=(0, 1.02))
        axes.grid(False)
        axes.plot([], [], "o", color="#555555", label="the protocol's threshold", **_RING)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def plot_surface(maps: Sequence[tuple[str, np.ndarray]], path: Path, truth: np.ndarray | None = None) -> None:
    """Pictures above, response surfaces below, one column a map.

    Args:
        maps: (title, [H, W]): the input image, then probability maps of the same size. What lies outside [0, 1] is
            stretched from its minimum to its maximum.
        path: PNG, SVG or PDF by suffix.
        truth: mask [H, W] bool; its targets are circled in the pictures.

    Raises:
        MotesError: maps of different sizes.
    """
    sizes = {plane.shape for _, plane in maps}
    if len(sizes) > 1:
        listed = ", ".join(f"{name} {plane.shape[0]}x{plane.shape[1]}" for name, plane in maps)
        raise MotesError(f"the maps have different sizes: {listed}", "save them all at the size of the image")
    height, width = maps[0][1].shape
    count = len(maps)
    ratio = height / width
    with figure_of(path, max(1.9 * count, 2.2), 1.9 * (ratio + 0.78) + 0.25, layout=None) as figure:
        cells = figure.add_gridspec(
            2, count, height_ratios=[ratio, 0.78], hspace=0, wspace=0.06, left=0, right=1, bottom=0, top=0.94
        )
        for k, (name, plane) in enumerate(maps):
            plane = _stretched(plane)
            picture = figure.add_subplot(cells[0, k])
            picture.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            picture.set(title=name, xticks=[], yticks=[])
            picture.spines[:].set_visible(False)
            if truth is not None:
                _circle(picture, truth)
            _surface(figure.add_subplot(cells[1, k], projection="3d"), plane)


def _surface(axes: Any, plane: np.ndarray) -> None:
    """The map as relief. Cells hold the LARGEST value inside them: a stride would step over targets of a few pixels."""
    height, width = plane.shape
    step = max(1, -(-max(height, width) // _CELLS))
    relief = _largest(plane, step)
    x = np.arange(relief.shape[1]) * step
    y = np.arange(relief.shape[0]) * step
    axes.plot_surface(
        *np.meshgrid(x, y),
        relief,
        cmap="viridis",
        vmin=0,
        vmax=1,
        rcount=_CELLS,
        ccount=_CELLS,
        linewidth=0,
        antialiased=False,  # seams between the cells otherwise
        rasterized=True,  # thousands of polygons in an SVG
    )
    axes.set(xlim=(0, width), ylim=(height, 0), zlim=(0, 1), zticks=[0, 0.5, 1])
    axes.set_box_aspect((1, height / width, 0.62), zoom=1.2)
    axes.view_init(elev=28, azim=-60)
    axes.tick_params(labelsize=5.5, pad=-3)
    axes.set_xlabel("x (px)", labelpad=-9, fontsize=6)
    axes.set_ylabel("y (px)", labelpad=-9, fontsize=6)
    axes.xaxis.set_major_locator(_locator())
    axes.yaxis.set_major_locator(_locator())
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set_facecolor("#ffffff")
        axis._axinfo["grid"].update(color="#dddddd", linewidth=0.4)


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def _largest(plane: np.ndarray, step: int) -> np.ndarray:
    """Largest value of each step x step cell, float [ceil(H / step), ceil(W / step)]."""
    rows = np.maximum.reduceat(plane, np.arange(0, plane.shape[0], step), axis=0)
    return np.maximum.reduceat(rows, np.arange(0, plane.shape[1], step), axis=1)


def _stretched(plane: np.ndarray) -> np.ndarray:
    plane = plane.astype(np.float64)
    low, high = float(plane.min()), float(plane.max())
    if low >= 0 and high <= 1:
        return plane
    return (plane - low) / max(high - low, 1e-12)


def _circle(axes: Axes, truth: np.ndarray) -> None:
    from matplotlib.patches import Circle

    from motes.metrics.components import components

    found = components(truth)
    boxes = found.boxes()
    least = max(truth.shape) / 28
    for (x, y), (x1, y1, x2, y2) in zip(found.centroids, boxes, strict=True):
        radius = max(least, 0.9 * max(x2 - x1, y2 - y1))
        axes.add_patch(Circle((x, y), radius, fill=False, edgecolor="#E69F00", linewidth=1.0))


def _target_line(axes: Axes, look: dict[str, Any], x: np.ndarray, curve: TargetCurve, at: float) -> None:
    """A dot a threshold, and the best Pd at no more than that many false alarms as a line.

    The dots need not rise with the false alarms: at low thresholds targets merge, at high ones they fall apart.
    """
    shown = np.isfinite(curve.pd)
    if not shown.any():
        return
    order = np.lexsort([-curve.pd[shown], x[shown]])
    axes.plot(x[shown][order], np.maximum.accumulate(curve.pd[shown][order]), drawstyle="steps-post", **look)
    axes.plot(x, curve.pd, ".", color=look["color"], markersize=2.5, alpha=0.6)
    _mark(axes, look, x, curve.pd, curve.thresholds, at)


def _mark(axes: Axes, look: dict[str, Any], x: np.ndarray, y: np.ndarray, thresholds: np.ndarray, at: float) -> None:
    """A circle at the threshold the protocol uses."""
    k = int(np.abs(thresholds - at).argmin())
    if not (np.isfinite(x[k]) and np.isfinite(y[k])):
        return
    axes.plot(x[k], y[k], "o", color=look["color"], zorder=5, clip_on=False, **_RING)


def _looks() -> Iterator[dict[str, Any]]:
    k = 0
    while True:
        yield {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[(k + k // len(COLOURS)) % len(DASHES)]}
        k += 1


@contextmanager
def figure_of(path: Path, width: float, height: float, layout: Any = "constrained") -> Iterator[Figure]:
    """A figure of that size in inches, saved to ``path`` at the end; no window, no global state."""
    check_suffix(path)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError as e:
        raise MissingExtraError("motes plot", "plot") from e
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata=metadata, bbox_inches="tight", pad_inches=0.05)


__all__ = ["PLOT_SWEEP", "PixelCurve", "check_suffix", "plot_pr", "plot_roc", "plot_surface"]
