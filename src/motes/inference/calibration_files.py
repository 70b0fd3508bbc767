"""What a calibration leaves: tables, pictures, and the network with its new threshold in one file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from motes import __version__
from motes.errors import MissingExtraError
from motes.imaging import atomic_path, read_image, write_image
from motes.inference.box_detector import BoxDetector
from motes.inference.calibration import Curve
from motes.inference.calibration_run import Counts, Strong
from motes.inference.detector import Detector
from motes.inference.onnx_card import onnx_with_card
from motes.inference.overlay import ACCENT, INK, PAPER, display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDING = "-calibrated"
REACH, SIDE, COLUMNS = 40, 200, 6  # of the gallery: px of the frame, px of a cell, cells in a row
SURE = 0.99
"""Answers above this are what a network says of real targets."""


class Calibration:
    """Counts, the wanted rate, and what follows.

    Args:
        detector: what was counted with.
        counts: of an empty frame at least.
        rate: wanted false alarms.
        per: per ``frame`` or per ``megapixel``.

    Attributes:
        curve: false alarms over thresholds.
        k: index of the chosen threshold; None where no threshold meets the rate.
    """

    def __init__(self, detector: Detector | BoxDetector, counts: Counts, rate: float, per: str) -> None:
        self.detector, self.counts, self.rate, self.per = detector, counts, rate, per
        self.curve: Curve = counts.curve()
        self.k = self.curve.choose(rate, per)
        self.strongest = counts.strongest(detector.card.threshold if self.threshold is None else self.threshold)
        path = getattr(detector.backend, "path", None)
        self.source = path if isinstance(path, Path) and path.is_file() else None
        self.sha256 = _sha256(self.source) if self.source else None

    @property
    def threshold(self) -> float | None:
        """The chosen one."""
        return None if self.k is None else float(self.curve.thresholds[self.k])

    def network(self, out: Path) -> Path | None:
        """Where the calibrated network is written; None for a method, which is no file."""
        if self.source is None:
            return None
        stem = self.detector.card.name if self.source.stem == "model" else self.source.stem.removesuffix(ENDING)
        return out / f"{stem}{ENDING}.onnx"

    def command(self, out: Path, options: Sequence[str] = ()) -> str:
        """The command that runs with what was chosen; ``options`` are those that `motes detect` needs as well."""
        network = self.network(out)
        which = ["-m", str(network)] if network else ["-m", self.detector.card.name, "-t", repr(self.threshold)]
        return shlex.join(["motes", "detect", "FRAMES", "-o", "OUT", *which, *options])

    def row(self, k: int) -> dict[str, Any]:
        """Everything about one threshold."""
        curve, found = (
            self.curve,
            {"threshold": float(self.curve.thresholds[k]), "false_alarms": int(self.curve.alarms[k])},
        )
        row: dict[str, Any] = dict(found)
        for per in ("frame", "megapixel"):
            lower, upper = curve.bounds(per)
            row |= {
                f"per_{per}": float(curve.rate(per)[k]),
                f"per_{per}_lower": float(lower[k]),
                f"per_{per}_upper": float(upper[k]),
            }
        if (pd := curve.pd(k)) is not None and curve.detected is not None:
            row |= {"detected": int(curve.detected[k]), "targets": curve.targets}
            row |= {"pd": pd[0], "pd_lower": pd[1][0], "pd_upper": pd[1][1]}
        return row

    def sentences(self) -> list[str]:
        """What the user should know beside the numbers."""
        curve, per = self.curve, self.per
        said = []
        exposure, needed = curve.exposure(per), curve.needed(self.rate, per)
        if exposure < needed:
            are, them = ("is", "it") if exposure == 1 else ("are", "them")
            said.append(
                f"{_amount(exposure, per)} {are} too few to show {self.rate:g} a {per}: even no false alarm in {them} "
                f"leaves up to {needed * self.rate / exposure:.2g} a {per} possible (95 %); "
                f"take at least {_amount(math.ceil(needed), per)}"
            )
        if self.k == 0:
            said.append(
                "even the lowest threshold that is tried meets the rate: these frames hold little that the network "
                "answers to, and masks grow large at such a threshold"
            )
        if self.k is not None:
            per_image = np.array([c.blobs[self.k] for c in self.counts.empty])
            total = int(per_image.sum())
            if total >= 5 and len(per_image) > 1 and per_image.var(ddof=1) > 3 * per_image.mean():
                worst = self.counts.empty[int(per_image.argmax())].image
                said.append(
                    f"false alarms come in clusters ({per_image.max()} of {total} in {worst}); the bound, which takes "
                    "them for independent, is too narrow"
                )
        if sure := sum(s.score > SURE for s in self.strongest):
            said.append(
                f"{sure} {'answer' if sure == 1 else 'answers'} above {SURE:g} in frames named empty: look at "
                "strongest.png, and leave out a frame that holds a true target"
            )
        return said

    def facts(self, out: Path, options: Sequence[str] = (), warnings: Sequence[str] = ()) -> dict[str, Any]:
        """The content of calibration.json."""
        detector, curve = self.detector, self.curve
        rows = [self.row(k) for k in range(len(curve.thresholds))]
        card = curve.at(detector.card.threshold)
        network = self.network(out)
        return {
            "motes": __version__,
            "model": detector.card.name,
            "model_file": self.source.name if self.source else None,
            "model_sha256": self.sha256,
            "calibrated_file": network.name if network and self.k is not None else None,
            "calibrated_sha256": _sha256(network) if network and network.is_file() and self.k is not None else None,
            "backend": type(detector.backend).__name__,
            "tile": detector.tile,
            "overlap": detector.overlap,
            "wanted": {"rate": self.rate, "per": self.per},
            "frames": curve.frames,
            "megapixels": curve.pixels / 1e6,
            "labelled_frames": len(self.counts.labelled),
            "chosen": None if self.k is None else rows[self.k],
            "before": rows[card],
            "command": None if self.k is None else self.command(out, options),
            "warnings": [*self.sentences(), *warnings],
            "left_out": self.counts.failed,
            "curve": {key: [row[key] for row in rows] for key in rows[0]},
            "images": [
                {
                    "image": c.image,
                    "height": c.size[0],
                    "width": c.size[1],
                    "false_alarms": None if self.k is None else c.blobs[self.k],
                    "before": c.blobs[card],
                }
                for c in self.counts.empty
            ],
        }

    def write(self, out: Path, options: Sequence[str] = (), warnings: Sequence[str] = ()) -> list[Path]:
        """Writes everything into ``out`` and returns the files; an old network goes where none can be calibrated.

        calibration.png is left out where matplotlib is not installed: `MissingExtraError` is raised after all others
        are written.
        """
        network = self.network(out)
        files = [out / "strongest.csv", out / "calibration.csv", out / "calibration.json"]
        if network is not None and self.source is not None:
            if self.k is None:
                network.unlink(missing_ok=True)
            else:
                write_network(self.source, network, self)
                files.insert(0, network)
        write_strongest(out / "strongest.csv", self)
        if self.strongest:
            draw_strongest(out / "strongest.png", self.strongest)
            files.append(out / "strongest.png")
        else:
            (out / "strongest.png").unlink(missing_ok=True)  # of a run before
        facts = self.facts(out, options, warnings)
        curve = facts["curve"]
        rows = [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]
        _write_csv(out / "calibration.csv", rows)
        with atomic_path(out / "calibration.json") as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        try:
            draw_curve(out / "calibration.png", self)
        except MissingExtraError:
            (out / "calibration.png").unlink(missing_ok=True)
            raise MissingExtraError("calibration.png", "plot") from None
        return [*files, out / "calibration.png"]


def write_network(source: Path, target: Path, found: Calibration) -> None:
    """``source`` with the chosen threshold and the curve in its card; weights and graph as they are."""
    curve, card = found.curve, found.detector.card
    calibration: dict[str, Any] = {
        "data": f"{curve.frames} frames without targets, by motes calibrate",
        "frames": curve.frames,
        "megapixels": round(curve.pixels / 1e6, 3),
        "wanted": {"rate": found.rate, "per": found.per},
        "of": found.sha256,
        "threshold": curve.thresholds.tolist(),
        "fa_per_mpx": [round(float(v), 4) for v in curve.rate("megapixel")],
    }
    if curve.detected is not None and curve.targets:
        calibration["pd"] = [round(float(v), 4) for v in curve.detected / curve.targets]
    changed = card.replace(threshold=found.threshold, calibration=calibration)
    data = onnx_with_card(source.read_bytes(), changed, str(source))
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_strongest(path: Path, found: Calibration) -> None:
    """One line for each of the strongest answers in frames without targets."""
    rows = [
        {
            "image": s.count.image,
            "page": s.count.page,
            "x": round(s.x, 1),
            "y": round(s.y, 1),
            "score": s.score,
            "images_at_this_place": len(s.images),
            "false_alarm": "" if found.threshold is None else str(s.score > found.threshold).lower(),
        }
        for s in found.strongest
    ]
    _write_csv(path, rows, ("image", "page", "x", "y", "score", "images_at_this_place", "false_alarm"))


def draw_strongest(path: Path, strongest: Sequence[Strong]) -> None:
    """The strongest answers enlarged, best first, each with its own stretch."""
    cells = [_cell(s) for s in strongest]
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], PAPER)] * (-len(cells) % columns)
    write_image(
        path, np.concatenate([np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)])
    )


def draw_curve(path: Path, found: Calibration) -> None:
    """False alarms over the threshold with their upper bound; Pd of labelled frames in the same picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from motes.metrics.plotting import COLOURS, figure_of

    curve, per = found.curve, found.per
    rate, (_, upper) = curve.rate(per), curve.bounds(per)
    least = 1 / curve.exposure(per)
    with figure_of(path, 5.2, 3.3) as figure:
        axes = figure.subplots()
        axes.fill_between(curve.thresholds, rate, upper, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.plot(curve.thresholds, rate, color=COLOURS[0], label="false alarms; shaded to the 95 % upper bound")
        axes.axhline(found.rate, color="#555555", linestyle=":", linewidth=1, label=f"wanted: {found.rate:g} a {per}")
        axes.axvline(
            found.detector.card.threshold, color="#999999", linestyle="--", linewidth=1,
            label=f"the card's threshold: {found.detector.card.threshold:g}",
        )  # fmt: skip
        if found.threshold is not None:
            axes.axvline(found.threshold, color=COLOURS[1], linewidth=1.2, label=f"chosen: {found.threshold:.7g}")
        _scale(axes, found, rate, least)
        axes.set(xlabel="threshold", ylabel=f"false alarms per {per}")
        handles, labels = axes.get_legend_handles_labels()
        if curve.detected is not None and curve.targets:
            right = axes.twinx()
            right.spines["right"].set_visible(True)
            right.grid(False)
            right.plot(
                curve.thresholds, curve.detected / curve.targets, color=COLOURS[2], linestyle="-.",
                label=f"Pd of {curve.targets} labelled targets (right)",
            )  # fmt: skip
            right.set(ylabel="Pd", ylim=(0, 1.03))
            more = right.get_legend_handles_labels()
            handles, labels = [*handles, *more[0]], [*labels, *more[1]]
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _scale(axes: Axes, found: Calibration, rate: np.ndarray, least: float) -> None:
    """Log-odds over counts, cut where nothing more happens, with a place for "none"."""
    curve = found.curve
    quiet = int(np.argmax(rate == 0)) if (rate == 0).any() else len(rate) - 1
    card = curve.at(found.detector.card.threshold)
    last = min(max(quiet, card, found.k or 0) + 12, len(rate) - 1)
    ticks = [0.01, 0.1, 0.5, *(1 - 10.0**-k for k in range(1, 8))]
    shown = [t for t in ticks if t <= curve.thresholds[last] + 1e-9]
    axes.set_xscale("logit")
    axes.set_xlim(curve.thresholds[0], curve.thresholds[last])
    axes.set_xticks(shown, [f"{t:.7g}" for t in shown])
    axes.set_yscale("symlog", linthresh=least, linscale=0.4)
    top = 10 * max(float(rate[card]), found.rate, least)
    axes.set_ylim(0, top)
    decades = np.arange(math.floor(math.log10(least)) + 1, math.floor(math.log10(top)) + 1)
    axes.set_yticks([0, *(10.0**decades)], ["0", *(f"{10.0**d:g}" for d in decades)])
    axes.minorticks_off()


def _cell(strong: Strong) -> np.ndarray:
    """The surroundings of one answer, corners around it, and two lines of text."""
    import cv2

    pixels = read_image(Path(strong.count.path), strong.count.page).pixels
    height, width = pixels.shape[:2]
    left, top = (
        int(np.clip(round(v) - REACH // 2, 0, max(n - REACH, 0))) for v, n in ((strong.x, width), (strong.y, height))
    )
    crop = display(pixels[top : top + REACH, left : left + REACH], (1.0, 99.9))
    zoom = SIDE // REACH
    crop = np.repeat(np.repeat(crop, zoom, axis=0), zoom, axis=1)
    x, y = (round((v - start + 0.5) * zoom) for v, start in ((strong.x, left), (strong.y, top)))
    half, arm = 5 * zoom, zoom
    for sx, sy in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        corner = (x + sx * half, y + sy * half)
        cv2.line(crop, corner, (corner[0] - sx * arm, corner[1]), ACCENT, 1)
        cv2.line(crop, corner, (corner[0], corner[1] - sy * arm), ACCENT, 1)
    cell = np.full((SIDE + 40, SIDE + 6, 3), PAPER, np.uint8)
    cell[: crop.shape[0], : crop.shape[1]] = crop
    name = strong.count.image.encode("ascii", "replace").decode("ascii")
    name = name if len(name) <= 28 else f"...{name[-25:]}"
    many = f", {len(strong.images)} frames" if len(strong.images) > 1 else ""
    score = f"p {strong.score:.3f}" if strong.score < 0.9995 else f"1 - p {max(1 - strong.score, 0):.0e}"
    for text, line in ((name, 14), (f"{score} at {strong.x:.0f}, {strong.y:.0f}{many}", 30)):
        cv2.putText(cell, text, (3, SIDE + line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return cell


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, header or list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _amount(number: float, unit: str) -> str:
    text = f"{number:.0f}" if number == round(number) else f"{number:.3g}"
    return f"{text} {unit}" if number == 1 else f"{text} {unit}s"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
