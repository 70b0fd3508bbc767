"""RepISD-Net (merged) on one frame: our backends against the authors' way, in turns, and whether pixels agree.

    python benchmarks/inference/run.py

Writes ``results.json`` beside this file and the tables of ``docs/benchmarks/inference.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, SHARED, Side, circumstances, described, in_turns, load, publish, share, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "inference.md"
WEIGHTS = SHARED / "reference" / "repisdnet" / "weights" / "deploy.pth.tar"
DATA = SHARED / "data" / "sirst"

NAMES = {
    "authors": "torch eager, as the authors run it",
    "torch_library": "motes, torch backend in a library call",
    "torch_command": "motes, torch backend in a command",
    "onnxruntime": "**motes, ONNX Runtime (default)**",
    "openvino": "motes, OpenVINO f32",
}
GOALS = {512: 2.2, 256: 1.0}
THRESHOLDS = (0.5, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="random ones where the file is missing")
    parser.add_argument("--data", type=Path, default=DATA, help="synthetic frames where the folder is missing")
    parser.add_argument("--frames", type=int, default=86, help="how many frames are compared pixel by pixel")
    parser.add_argument(
        "--rounds", type=int, default=15, help="timed runs of each side at 512x512; twice that at 256x256"
    )
    parser.add_argument(
        "--sides", default=",".join(NAMES), help="some of the sides; the first is what others are compared to"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("torch", "onnxruntime", "openvino", "numpy"))
    names = [n for n in options.sides.split(",") if n != "openvino" or importlib.util.find_spec("openvino")]
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as folder:
        prepared = prepare(Path(folder), options)
        sides = [Side(HERE / "side.py", name, folder) for name in names]
        for side in sides:
            for size in GOALS:
                side.ask("timed", side=size)  # warm up
        rounds = {512: options.rounds, 256: 2 * options.rounds}
        times = {str(size): in_turns(sides, "timed", rounds[size], side=size) for size in GOALS}
        changes = {frames: compare(sides, frames, Path(folder)) for frames in ("256x256", "native")}
        for side in sides:
            side.close()
    facts["load_after"] = load()
    result = {"circumstances": facts, **prepared, "sides": names, "times": times, "changes": changes}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = tables(result)
    print(text)
    if not options.no_page:
        publish(PAGE, text)


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Network and frames, in a process of its own: torch shall not stay in this one."""
    weights = str(options.weights) if options.weights.is_file() else ""
    done = subprocess.run(
        [sys.executable, str(HERE / "prepare.py"), str(folder), weights, str(options.data), str(options.frames)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def compare(sides: list[Side], frames: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Pixels that change sides of a threshold, and the largest difference of a probability, against the first side."""
    files = [folder / side.ask("probabilities", frames=frames) for side in sides]
    found: dict[str, dict[str, Any]] = {}
    with np.load(files[0]) as reference:
        for side, file in zip(sides, files, strict=True):
            with np.load(file) as maps:
                pairs = [(reference[k], maps[k]) for k in reference.files]
                found[side.name] = {
                    "changed": {str(t): sum(int(((a > t) != (b > t)).sum()) for a, b in pairs) for t in THRESHOLDS},
                    "positive": {str(t): sum(int((a > t).sum()) for a, _ in pairs) for t in THRESHOLDS},
                    "difference": max(float(np.abs(a - b).max()) for a, b in pairs),
                }
    return found


def tables(result: dict[str, Any]) -> str:
    times, changes, names = result["times"], result["changes"], result["sides"]
    first = names[0]
    rows = []
    for name in names:
        row: list[object] = [NAMES[name]]
        for size in GOALS:
            here, reference = times[str(size)][name], times[str(size)][first]
            row += [
                f"{here['median_ms']:.1f}",
                f"{reference['median_ms'] / here['median_ms']:.2f}x",
                f"{reference['best_ms'] / here['best_ms']:.2f}x",
                share(here["others"]),
            ]
        rows.append(row)
    columns = ["one frame, batch 1"]
    for size in GOALS:
        columns += [f"{size}x{size}, median ms", "speed", "speed, best runs", "others"]
    same = [
        [NAMES[name], *(f"{both(c[name]['changed'])}, {c[name]['difference']:.1e}" for c in changes.values())]
        for name in names[1:]
    ]
    positive = {f: both(c[first]["positive"]) for f, c in changes.items()}
    goals = ", ".join(f"{g}x at {s}x{s}" for s, g in GOALS.items())
    runs = " and ".join(f"{times[str(s)][first]['runs']} runs at {s}x{s}" for s in GOALS)
    return "\n\n".join(
        [
            described(result["circumstances"]),
            f"Weights: {result['weights']}. Medians of {runs}, in turns. Goals of the default: {goals}. "
            "*Others*: share of the machine that other programs used meanwhile.",
            table(columns, rows),
            f"Pixels that are target for one and not for the other, at {' / '.join(map(str, THRESHOLDS))}, and the "
            f"largest difference of a probability, on {result['count']} frames of {result['frames']}:",
            table(["against the authors' way", *(f"{f} ({positive[f]} target pixels)" for f in changes)], same),
        ]
    )


def both(counts: dict[str, int]) -> str:
    """The counts at both thresholds: 12/8."""
    return "/".join(str(n) for n in counts.values())


if __name__ == "__main__":
    main()
