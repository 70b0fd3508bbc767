"""One training step of RepISD-Net, batch 8 at 256x256: ``motes train`` against the authors' way, in turns.

    python benchmarks/training/run.py

Writes ``results.json`` beside this file and the table of ``docs/benchmarks/training.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, Side, circumstances, described, in_turns, load, publish, share, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "training.md"
NAMES = {
    "authors": "torch eager float32, as the authors train",
    "motes_float32": "motes train, float32",
    "motes_bf16": "**motes train, bf16-mixed**",
}
GOAL = 3.0
MAKE_FRAMES = """
import sys
from motes.data.synthesize import write_dataset
write_dataset(sys.argv[1], "plain", 10, height=64, width=64, bits=8)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="timed steps of each side")
    parser.add_argument(
        "--sides", default=",".join(NAMES), help="some of the sides; the first is what others are compared to"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("torch", "lightning", "numpy"))
    names = options.sides.split(",")
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as folder:
        frames = Path(folder) / "frames"  # the trainer wants a data set to exist; the steps do not read it
        subprocess.run([sys.executable, "-c", MAKE_FRAMES, str(frames)], check=True)
        sides = [Side(HERE / "side.py", name, frames) for name in names]
        losses = {side.name: side.ask("losses", steps=2) for side in sides}
        times = in_turns(sides, "timed", options.rounds)
        peaks = {side.name: side.ask("peak") for side in sides}
        for side in sides:
            side.close()
    facts["load_after"] = load()
    result = {"circumstances": facts, "sides": names, "times": times, "losses": losses, "peak_gb": peaks}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = tables(result)
    print(text)
    if not options.no_page:
        publish(PAGE, text)


def tables(result: dict[str, Any]) -> str:
    times, first = result["times"], result["times"][result["sides"][0]]
    rows = [
        [
            NAMES[name],
            f"{times[name]['median_ms']:.0f}",
            f"{first['median_ms'] / times[name]['median_ms']:.2f}x",
            f"{first['best_ms'] / times[name]['best_ms']:.2f}x",
            share(times[name]["others"]),
            f"{result['peak_gb'][name]:.1f} GB" if result["peak_gb"][name] else "-",
            ", ".join(f"{v:.4f}" for v in result["losses"][name]),
        ]
        for name in result["sides"]
    ]
    columns = ["one step", "median ms", "speed", "speed, best runs", "others", "peak memory", "first losses"]
    return "\n\n".join(
        [
            described(result["circumstances"]),
            f"Medians of {first['runs']} steps, in turns. Goal of bf16-mixed: {GOAL:g}x. *Others*: share of the "
            "machine that other programs used meanwhile.",
            table(columns, rows),
        ]
    )


if __name__ == "__main__":
    main()
