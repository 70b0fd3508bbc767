"""The steps of BAG-CP on synthetic scenes, as docs/images/bag-cp.png: ``python docs/scripts/sky_paste_picture.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from motes.data.annotations import boxes_of_mask
from motes.data.copy_paste import cut_patches, paste
from motes.data.synthesize import scene

OUT = Path(__file__).parents[1] / "images" / "bag-cp.png"
OWN, NEW, WINDOW = "tab:cyan", "tab:orange", "tab:green"


def main() -> None:
    options = {"bits": 8, "extended": 1.0, "size": (4, 7), "snr": (25, 40)}
    frame = scene(128, 160, 11, kind="ground", targets=2, **options)
    donor = scene(128, 160, 5, kind="cloud", targets=9, **options)
    pixels, labels = frame.pixels[..., None], np.zeros(99, np.int64)
    own, given = boxes_of_mask(frame.mask).boxes, boxes_of_mask(donor.mask).boxes
    sky = frame.sky.astype(bool)
    patches = cut_patches(donor.pixels[..., None], given, labels[: len(given)], donor.mask)
    done = paste(pixels, own, labels[: len(own)], frame.mask, patches, np.random.default_rng(2), "sky", sky)

    figure = Figure(figsize=(10.5, 6), layout="constrained")
    axes = figure.subplots(2, 3)
    show(axes[0, 0], "1  another frame: its targets", donor.pixels, (given, NEW))
    show(axes[0, 1], "2  the frame: its targets", frame.pixels, (own, OWN))
    axes[0, 2].imshow(sky, cmap="Blues", vmin=0, vmax=1.6)
    show(
        axes[0, 2],
        "3  its sky, windows, places",
        None,
        (done.boxes[-len(done.places) :], NEW),
    )
    for y, x, side in done.windows:
        axes[0, 2].add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fill=False, color=WINDOW, lw=1.5))
    weights = np.zeros(frame.mask.shape)
    for (y, x, h, w), weight in zip(done.places, done.weights, strict=True):
        weights[y : y + h, x : x + w] = weight
    y, x, side = done.windows[0]
    near = slice(y - 2, y + side + 2), slice(x - 2, x + side + 2)
    shown = axes[1, 0].imshow(weights[near], cmap="magma", vmin=0, vmax=1)
    axes[1, 0].set(title="4  lambda * Gaussian, in a window", xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[1, 0], shrink=0.8)
    axes[1, 1].imshow(done.pixels[..., 0][near], cmap="gray")
    axes[1, 1].set(title="5  frame + lambda * Gaussian * target", xticks=[], yticks=[])
    show(axes[1, 2], "6  what is trained on", done.pixels[..., 0], (done.boxes, NEW), (own, OWN))
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=100)
    print(OUT, f"{len(own)} targets became {len(done.boxes)}")


def show(axis, title: str, pixels: np.ndarray | None, *sets: tuple[np.ndarray, str]) -> None:
    if pixels is not None:
        axis.imshow(pixels, cmap="gray")
    for boxes, colour in sets:
        for x1, y1, x2, y2 in boxes:
            axis.add_patch(Rectangle((x1 - 1.5, y1 - 1.5), x2 - x1 + 2, y2 - y1 + 2, fill=False, color=colour, lw=1))
    axis.set(title=title, xticks=[], yticks=[])


if __name__ == "__main__":
    main()
