"""Makes docs/images/detect-overlay.png: what ``motes detect`` draws.

python docs/scripts/detect_pictures.py [--model M]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from motes.data.synthesize import scene
from motes.inference import Detector
from motes.inference.overlay import draw_overlay

IMAGES = Path(__file__).parents[1] / "images"

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="tophat", help="default: tophat")
detector = Detector(parser.parse_args().model)

frame = scene(192, 256, (3, 3), kind="sky", bits=14, targets=3, snr=(12, 16), min_scr=6, psf=0.9, extended=0.3)
probability = detector.probability(frame.pixels)
found = detector.find(probability, frame.pixels, name="sky.tif")
picture = Image.fromarray(draw_overlay(frame.pixels, found, probability > detector.threshold))
picture.save(IMAGES / "detect-overlay.png", optimize=True)

truth = np.array([(t.x, t.y) for t in frame.targets])
print(f"{len(found)} found, {len(truth)} there")
for x, y in found.centroids:
    print(f"  {x:7.2f} {y:7.2f}  nearest target {np.hypot(*(truth - (x, y)).T).min():.2f} px away")
