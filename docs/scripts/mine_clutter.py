"""Windows around what a network wrongly marks in frames without targets: the hard part of the clutter, to train on.

    python docs/scripts/mine_clutter.py NETWORK data/clutter data/clutter_mined

NETWORK is an exported file or the name of a shipped network. Every frame is looked at in each of SCALES, because recipe
motes_seg_sensors magnifies and reduces; a window is cut from the frame as it was looked at, which is without what would
be a target at that scale or half of it (spots.py). The folder is made anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from spots import without_spots  # beside this file

from motes.imaging import read_image, resize, write_image
from motes.inference import Detector
from motes.inference.calibration import peaks
from motes.inference.sources import frames_of

SCALES = (0.7, 1.0, 1.5, 2.0)
LEAST, MOST = 0.2, 6
"""Answers below this probability are left out; so many windows of a frame and scale at most."""
WINDOW = 320
"""px; a crop of the recipe and the space it may move in."""


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    network, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for old in (target / "images").glob("*.png"):
        old.unlink()
    detector, frames, windows = Detector(network), 0, 0
    for frame in frames_of([source], recursive=True):
        pixels = read_image(frame.path).pixels
        frames += 1
        for scale in SCALES:
            size = (round(pixels.shape[0] * scale), round(pixels.shape[1] * scale))
            seen = pixels if scale == 1 else resize(pixels, size, "area" if scale < 1 else "bicubic")
            seen = without_spots(seen[..., 0], (1, 2))
            for k, window in enumerate(hard_windows(detector.probability(seen))):
                write_image(target / "images" / f"{frame.path.stem}-{scale:g}-{k}.png", seen[window])
                windows += 1
    print(f"{windows} windows of {frames} frames in {target}")
    return 0


def hard_windows(probability: np.ndarray) -> list[tuple[slice, slice]]:
    """Windows around the strongest answers, none of which lies in a window of a stronger one."""
    found: list[tuple[slice, slice]] = []
    for x, y, _ in peaks(probability, LEAST, 100):
        if any(rows.start <= y < rows.stop and columns.start <= x < columns.stop for rows, columns in found):
            continue
        top, left = (
            int(np.clip(v - WINDOW // 2, 0, max(n - WINDOW, 0))) for v, n in zip((y, x), probability.shape, strict=True)
        )
        found.append((slice(top, top + WINDOW), slice(left, left + WINDOW)))
        if len(found) == MOST:
            break
    return found


if __name__ == "__main__":
    raise SystemExit(main())
