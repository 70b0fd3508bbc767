"""Makes docs/images/plot-{roc,pr,surface}.png through the commands a user types.

python docs/scripts/metric_plots.py [--sirst ../shared/data/sirst] [--split test_v1]

Curves: the shipped network and two training-free methods on SIRST's test frames (numbers only, no picture of theirs);
surface: a synthetic frame.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from motes.data import open_dataset
from motes.data.synthesize import scene
from motes.imaging import write_image

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "docs" / "images"
METHODS = {"RepISD-Net": (), "max-median": ("--model", "max-median"), "top-hat": ("--model", "tophat")}


def motes(*arguments: object) -> None:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


parser = argparse.ArgumentParser()
parser.add_argument("--sirst", type=Path, default=REPOSITORY.parent / "shared" / "data" / "sirst")
parser.add_argument("--split", default="test_v1")
options = parser.parse_args()
labels = [word for name in METHODS for word in ("--label", name)]
with tempfile.TemporaryDirectory() as folder:
    work = Path(folder)
    frames = [s.image for s in open_dataset(options.sirst).split(options.split)]
    for name, model in METHODS.items():
        motes("detect", *frames, "-o", work / name, "--save-prob", "--no-overlay", *model)
    maps = [work / name / "probability" for name in METHODS]
    for kind in ("roc", "pr"):
        truth = ("--gt", options.sirst, "--split", options.split)
        motes("plot", kind, *maps, *truth, *labels, "-o", IMAGES / f"plot-{kind}.png")

    frame = scene(192, 192, (1, 9), kind="ground", bits=14, targets=3, snr=(30, 60), min_scr=6, psf=1.0, extended=0.5)
    write_image(work / "frame.tif", frame.pixels)
    write_image(work / "mask.png", frame.mask.astype(np.uint8) * np.uint8(255))
    for name, model in METHODS.items():
        motes("detect", work / "frame.tif", "-o", work / f"{name}-one", "--save-prob", "--no-overlay", *model)
    maps = [work / f"{name}-one" / "probability" / "frame.tif" for name in METHODS]
    motes(
        *("plot", "surface", work / "frame.tif", *maps, "--gt", work / "mask.png"),
        *("--label", "input, 14 bit", *labels, "-o", IMAGES / "plot-surface.png"),
    )
