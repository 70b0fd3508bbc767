"""Makes docs/images/demo.png, the picture of the README: the overlay of ``motes demo``, in 256 colours.

python docs/scripts/demo_picture.py [options of motes demo]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parents[1] / "images" / "demo.png"

with tempfile.TemporaryDirectory() as out:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", "demo", "-o", out, *sys.argv[1:]]
    subprocess.run(command, check=True)
    overlay = Image.open(Path(out) / "overlays" / "scene.png").convert("RGB")
# 256 colours without dithering: a third of the size, and the frame's grey levels stay in order.
overlay.quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB")
