"""Makes docs/images/motes-det.png: boxes of motes-det on frames of `motes data synthesize`.

DenseSIRST states no licence, so its frames stay out of this repository.

python docs/scripts/motes_det_picture.py RUN
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from motes.checkpoints.loading import load_network
from motes.data import open_dataset
from motes.data.synthesize import write_dataset
from motes.evaluation import predict_boxes
from motes.inference import BoxDetector
from motes.models.backend import TorchBackend

PICTURE = Path(__file__).parents[1] / "images" / "motes-det.png"
ZOOM, SIDE, FRAMES, GAP = 4, 128, 3, 6
TRUTH, FOUND = (90, 160, 255), (255, 140, 0)


def main() -> None:
    detector = BoxDetector(backend=TorchBackend(*load_network(Path(sys.argv[1]) / "best.safetensors", None, None)))
    step = SIDE * ZOOM + GAP
    sheet = Image.new("RGB", (step * FRAMES - GAP, SIDE * ZOOM), (255, 255, 255))
    with tempfile.TemporaryDirectory() as folder:
        options = {"kind": "sky", "bits": 8, "targets": (8, 14), "scr": (8, 40), "extended": 0.7, "size": (2, 4)}
        write_dataset(Path(folder), "sirstdevkit", FRAMES, seed=4, height=SIDE, width=SIDE, **options)
        for i, sample in enumerate(open_dataset(folder).split(None)):
            found = predict_boxes(detector, sample)
            sheet.paste(
                drawn(found.pixels, found.truth.boxes, found.boxes[found.scores > detector.threshold]), (i * step, 0)
            )
            print(f"{sample.name}: {len(found.truth.boxes)} targets, {(found.scores > detector.threshold).sum()} found")
    sheet.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB")


def drawn(pixels: np.ndarray, truth: np.ndarray, found: np.ndarray) -> Image.Image:
    low, high = np.percentile(pixels, [0.5, 99.8])
    grey = (np.clip((pixels[..., 0] - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(grey).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST).convert("RGB")
    pen = ImageDraw.Draw(picture)
    for boxes, colour in ((truth, TRUTH), (found, FOUND)):
        for box in boxes:
            pen.rectangle([round(float(v) * ZOOM) for v in box], outline=colour)
    return picture


main()
