"""How long commands take to start, against what they cannot do without. Fills docs/benchmarks/startup.md.

    python benchmarks/startup/run.py            # one to two minutes

The commands are started in turns. Those of ``motes`` are the installed one of this Python; best in an environment
without the lab, made by ``pip install .``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, circumstances, described, load, publish, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "startup.md"
TWO_COMMANDS = """
import typer

app = typer.Typer()


@app.command()
def one(count: int = 1) -> None:
    "The first."


@app.command()
def two(name: str = "x") -> None:
    "The second."


app()
"""
MAKE_FRAME = """
import sys
from motes.data.synthesize import noise_scene
from motes.imaging import write_image
write_image(sys.argv[1], noise_scene(256, 256, seed=0).pixels)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21, help="how often each command is started")
    parser.add_argument("--model", help="for detect; default: the shipped network")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("typer", "rich", "numpy", "opencv-python-headless", "onnxruntime"))
    python, motes = sys.executable, str(Path(sys.executable).with_name("motes"))
    if shutil.which(motes) is None:
        raise SystemExit("no `motes` command beside this Python: pip install .")
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-") as name:
        folder = Path(name)
        app, frame = folder / "two_commands.py", folder / "frame.png"
        app.write_text(TWO_COMMANDS, encoding="utf-8")
        subprocess.run([python, "-c", MAKE_FRAME, str(frame)], check=True)
        detect = [motes, "detect", str(frame), "-o", str(folder / "out"), "--overwrite"]
        if options.model:
            detect += ["--model", options.model]
        imports = [python, "-c", "import cv2, onnxruntime"]
        page = [
            compared(
                "`--help`",
                {
                    "typer app with two commands": [python, str(app), "--help"],
                    "`motes --help`": [motes, "--help"],
                    "`motes detect --help`": [motes, "detect", "--help"],
                },
                options.rounds,
                goals={"`motes --help`": 1.3},
            ),
            compared(
                "One 256x256 frame",
                {
                    '`python -c "import cv2, onnxruntime"`': imports,
                    "`motes detect frame.png -o out`": detect,
                    "the same with `--no-overlay`": [*detect, "--no-overlay"],
                },
                options.rounds,
                goals={"`motes detect frame.png -o out`": 4.0},
            ),
        ]
    facts["load_after"] = load()
    text = "\n\n".join([*page, described(facts)])
    print(text)
    if not options.no_page:
        publish(PAGE, text)


def compared(first: str, commands: dict[str, Sequence[str]], rounds: int, goals: dict[str, float]) -> str:
    """A table of medians, with ratios to the first command."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for command in commands.values():  # byte code and file caches
        timed(command)
    for k in range(rounds):
        order = list(commands)
        for name in order[k % len(order) :] + order[: k % len(order)]:
            times[name].append(timed(commands[name]))
    rows: list[list[Any]] = []
    base = times[next(iter(commands))]
    for name, runs in times.items():
        median, best = (how(wall for wall, _ in runs) for how in (statistics.median, min))
        ratios = [median / statistics.median(wall for wall, _ in base), best / min(wall for wall, _ in base)]
        cpu = statistics.median(used for _, used in runs)
        goal = f"at most {goals[name]:g}" if name in goals else ""
        rows.append([name, *(f"{1e3 * t:.0f}" for t in (median, best, cpu)), *(f"{r:.2f}" for r in ratios), goal])
    columns = [first, "median, ms", "best, ms", "CPU, ms", "ratio of medians", "ratio of best", "goal"]
    return table(columns, rows)


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds on the clock, and of processor time, of one run."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


if __name__ == "__main__":
    main()
