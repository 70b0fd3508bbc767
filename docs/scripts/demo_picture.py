"""Makes docs/images/demo.png, the picture of the README: the overlay of ``motes demo``, made smaller.

python docs/scripts/demo_picture.py [options of motes demo]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PICTURE = Path(__file__).parents[1] / "images" / "demo.png"

with tempfile.TemporaryDirectory() as out:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", "demo", "-o", out, *sys.argv[1:]]
    subprocess.run(command, check=True)
    overlay = Image.open(Path(out) / "overlays" / "scene.png").convert("RGB")
# The frame's greys in 64 levels, every other colour on a coarse grid: a third of the size, and the marks stay orange.
pixels = np.asarray(overlay).astype(int)
grey = np.ptp(pixels, axis=2) <= 10
step = np.where(grey[..., None], 4, 17)
coarse = np.minimum((pixels + step // 2) // step * step, 255).astype(np.uint8)
Image.fromarray(coarse).save(PICTURE, optimize=True)
print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB")
