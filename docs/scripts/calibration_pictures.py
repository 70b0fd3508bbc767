"""Makes docs/images/calibration-curves.png, and calibration-{example,strongest}.png, by the commands a user types.

    python docs/scripts/calibration_pictures.py --model motes --model motes-s --model repisdnet-sirst  # SIRST: --sirst

Frames without targets: the largest rectangle of each frame of SIRST's test_v1 that stays 16 px away from every target;
synthetic scenes without targets, as 14-bit counts and as a display's 8 bits. With targets: test_v1 as it is, synthetic
scenes with targets. What is counted is kept in --work: the same command goes on after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np

from motes.cli.app import app
from motes.data import open_dataset
from motes.errors import MotesError
from motes.imaging import read_image, read_mask, write_image
from motes.inference.backend import list_weights
from motes.metrics import components
from motes.metrics.plotting import COLOURS, DASHES, figure_of

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "docs" / "images"
EXAMPLE = "repisdnet-sirst"  # motes has no false alarms in those frames, so nothing to show
MARGIN, LEAST = 16, 64
"""Px from a rectangle to a target, and its least side."""

SYNTHETIC = {
    "14 bits": ("--bits 14", "synthetic, 14-bit counts"),
    "8 bits": ("--bits 8", "synthetic, 8-bit display"),
}
FRAMES = "--size 256x320 --scene mixed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirst", type=Path, default=REPOSITORY.parent / "shared" / "data" / "sirst")
    parser.add_argument("--model", action="append", help="default: every shipped network")
    parser.add_argument("--work", type=Path, default=Path("/tmp/motes-calibration"))
    options = parser.parse_args()
    models, work = options.model or sorted(list_weights(), reverse=True), options.work
    cut_out(options.sirst, work / "regions")
    sets = {"SIRST test_v1": (work / "regions", options.sirst, "test_v1")}
    for name, (bits, label) in SYNTHETIC.items():
        empty, full = (work / f"{kind}-{name.replace(' ', '')}" for kind in ("empty", "full"))
        motes(f"data synthesize {empty} --count 24 --seed 21 --targets 0 {FRAMES} {bits}")
        motes(f"data synthesize {full} --count 12 --seed 22 --targets 1:4 --scr 5:40 {FRAMES} {bits}")
        sets[label] = (empty / "images", full, None)
    curves: dict[str, dict[str, dict]] = {}
    for model, (label, (empty, full, split)) in product(models, sets.items()):
        out = work / model / empty.parent.name if split is None else work / model / "sirst"
        chosen = f"--split {split}" if split else ""
        motes(f"calibrate {empty} -o {out} -m {model} --per megapixel --rate 1 --labelled {full} {chosen}")
        curves.setdefault(model, {})[label] = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
        print(model, label, curves[model][label]["chosen"], flush=True)
    draw(curves)
    if EXAMPLE not in models:
        return
    example = work / EXAMPLE / "empty-14bits"
    shutil.copyfile(example / "calibration.png", IMAGES / "calibration-example.png")
    write_image(IMAGES / "calibration-strongest.png", read_image(example / "strongest.png").pixels & np.uint8(0xFC))


def motes(line: str) -> None:
    try:
        app(line.split(), standalone_mode=False)
    except MotesError as error:  # no threshold meets the rate: the curve is written all the same
        print(error)


def cut_out(sirst: Path, folder: Path) -> None:
    """The largest rectangle without targets of every frame of test_v1 that has one."""
    for sample in open_dataset(sirst).split("test_v1"):
        assert sample.mask is not None
        pixels, label = read_image(sample.image).pixels, read_mask(sample.mask)
        x1, y1, x2, y2 = largest_free(components(label).boxes(), *label.shape)
        if min(x2 - x1, y2 - y1) >= LEAST and not (folder / f"{sample.name}.png").exists():
            write_image(folder / f"{sample.name}.png", pixels[y1:y2, x1:x2])


def largest_free(boxes: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the largest rectangle that stays MARGIN px away from all boxes."""
    if not len(boxes):
        return 0, 0, width, height
    reach = np.array([-MARGIN, -MARGIN, MARGIN, MARGIN])
    x1, y1, x2, y2 = np.clip(boxes + reach, 0, [width, height, width, height]).T
    best, area = (0, 0, 0, 0), 0
    for left, right in product({0, *x2.tolist()}, {width, *x1.tolist()}):
        for top, bottom in product({0, *y2.tolist()}, {height, *y1.tolist()}):
            size = max(right - left, 0) * max(bottom - top, 0)
            if size > area and not ((x1 < right) & (x2 > left) & (y1 < bottom) & (y2 > top)).any():
                best, area = (left, top, right, bottom), size
    return best


def draw(curves: dict[str, dict[str, dict]]) -> None:
    """Above false alarms per megapixel, below Pd, over the threshold; a column a network."""
    with figure_of(IMAGES / "calibration-curves.png", 3.6 * len(curves), 4.6) as figure:
        grid = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
        for column, (model, lines) in enumerate(curves.items()):
            alarms, found = grid[:, column]
            for k, (label, facts) in enumerate(lines.items()):
                curve, look = facts["curve"], {"color": COLOURS[k], "linestyle": DASHES[k]}
                lower, upper = curve["per_megapixel_lower"], curve["per_megapixel_upper"]
                area = f"{facts['megapixels']:.1f} Mpx"
                alarms.fill_between(curve["threshold"], lower, upper, color=COLOURS[k], alpha=0.13, linewidth=0)
                alarms.plot(curve["threshold"], curve["per_megapixel"], **look)
                found.fill_between(
                    curve["threshold"], curve["pd_lower"], curve["pd_upper"], color=COLOURS[k], alpha=0.13, linewidth=0
                )
                found.plot(
                    curve["threshold"], curve["pd"], **look, label=f"{label}: {area}, {curve['targets'][0]} targets"
                )
            alarms.set_title(model)
            for axes in (alarms, found):
                axes.set_xscale("logit")
                ticks = [0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999]
                axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
                axes.minorticks_off()
                axes.set_xlim(0.01, 0.99999)
            alarms.set_yscale("symlog", linthresh=1, linscale=0.5)
            alarms.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
            alarms.set_ylim(0, 300)
            found.set_ylim(0, 1.03)
            found.set_xlabel("threshold")
        grid[0, 0].set_ylabel("false alarms per megapixel")
        grid[1, 0].set_ylabel("Pd")
        figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


if __name__ == "__main__":
    main()
