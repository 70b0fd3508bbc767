"""One epoch of ACM and of DNANet on 16 frames: ``motes train`` against a plain loop written the authors' way, in turns.

    python benchmarks/training/loops.py

Writes ``loops.json`` beside this file and the second table of ``docs/benchmarks/training.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, Side, circumstances, described, in_turns, load, publish, share, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "training.md"
NAMES = {
    "authors": "plain loop, as the authors train",
    "motes_float32": "motes train, float32",
    "motes_bf16": "**motes train, bf16-mixed**",
}
NETWORKS = {"acm": "ACM, 8 crops of 480x480", "dnanet": "DNANet, 4 crops of 256x256"}
GOAL = 2.0
FRAMES = 16
MAKE_FRAMES = """
import sys
from motes.data.synthesize import write_dataset
write_dataset(sys.argv[1], "plain", int(sys.argv[2]), height=256, width=320, bits=8)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="timed epochs of each side")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--output", type=Path, default=HERE / "loops.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("torch", "lightning", "pillow", "numpy"))
    times = {}
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as folder:
        frames = Path(folder) / "frames"
        subprocess.run([sys.executable, "-c", MAKE_FRAMES, str(frames), str(FRAMES)], check=True)
        for network in options.networks.split(","):
            sides = [Side(HERE / "loop_side.py", name, network, frames) for name in NAMES]
            for side in sides:
                side.ask("warm")
            times[network] = in_turns(sides, "timed", options.rounds)
            for side in sides:
                side.close()
    facts["load_after"] = load()
    result = {"circumstances": facts, "frames": FRAMES, "times": times}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rows = []
    for network, sides_of in times.items():
        first = sides_of["authors"]
        for name, values in sides_of.items():
            speed = first["median_ms"] / values["median_ms"]
            median = f"{values['median_ms'] / 1e3:.2f}"
            rows.append([NETWORKS[network], NAMES[name], median, f"{speed:.2f}x", share(values["others"])])
    text = "\n\n".join(
        [
            described(facts),
            f"Medians of {options.rounds} epochs of {FRAMES} frames, in turns, decoding and augmenting included. Goal "
            f"of bf16-mixed: {GOAL:g}x. *Others*: share of the machine that other programs used meanwhile.",
            table(["network", "one epoch", "median s", "speed", "others"], rows),
        ]
    )
    print(text)
    if not options.no_page:
        publish(PAGE, text, "loops")


if __name__ == "__main__":
    main()
