"""The memory of ``motes detect`` on one large frame. Linux and macOS.

    python benchmarks/inference/memory.py

Fails above the limit. Writes its line into ``docs/benchmarks/inference.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, circumstances, described, load, publish, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "inference.md"
LIMIT = 2.0
MAKE_FRAME = """
import sys
import numpy as np
from motes.imaging import write_image
side, random = int(sys.argv[2]), np.random.default_rng(0)
pixels = (7400 + 25 * random.standard_normal((side, side), np.float32)).astype(np.uint16)
for y, x in random.integers(2, side - 2, (40, 2)):
    pixels[y - 1 : y + 2, x - 1 : x + 2] += 250
write_image(sys.argv[1], pixels[:, :, None])
"""
MAKE_NETWORK = """
import sys
from pathlib import Path
from motes.export.forms import deployable
from motes.export.onnx_file import onnx_bytes
from motes.models import create_model
net = create_model("repisdnet", "deploy").eval()
Path(sys.argv[1]).write_bytes(onnx_bytes(deployable(net), net.card))
"""
DETECT = "from motes.cli.app import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="an .onnx file; default: the shipped network, random weights if there is none")
    parser.add_argument("--side", type=int, default=4096, help="height and width of the frame, px")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("onnxruntime", "numpy", "opencv-python-headless"))
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-") as name:
        folder = Path(name)
        frame, model = folder / "frame.png", options.model
        subprocess.run([sys.executable, "-c", MAKE_FRAME, str(frame), str(options.side)], check=True)
        if model is None and not list((REPOSITORY / "src" / "motes" / "weights").glob("*.onnx")):
            model = str(folder / "network.onnx")
            subprocess.run([sys.executable, "-c", MAKE_NETWORK, model], check=True)
        command = [sys.executable, "-c", DETECT, "detect", str(frame), "-o", str(folder / "out")]
        start = time.perf_counter()
        process = subprocess.Popen([*command, *(["--model", model] if model else [])], stdout=subprocess.DEVNULL)
        # wait4 tells about this child alone; getrusage would tell about the largest of all.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"motes detect failed (status {status})")
    peak = usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    facts["load_after"] = load()
    maps = options.side**2 * 4 * 64 / 1e9
    size = f"{options.side}x{options.side}"
    text = "\n\n".join(
        [
            described(facts),
            table(
                ["`motes detect` on one 16-bit frame", "resident memory, peak", "limit", "64 maps of it", "seconds"],
                [[size, f"{peak:.2f} GB", f"{LIMIT:.0f} GB", f"{maps:.1f} GB", f"{seconds:.0f}"]],
            ),
        ]
    )  # fmt: skip
    print(text)
    if not options.no_page:
        publish(PAGE, text, "memory")
    if peak > LIMIT:
        raise SystemExit(f"{peak:.2f} GB is more than {LIMIT:.0f} GB")


if __name__ == "__main__":
    main()
