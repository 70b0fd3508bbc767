"""Target metrics over a threshold sweep: motes against pyirstdmetrics and a scikit-image loop, in turns, same numbers.

    python benchmarks/metrics/run.py

Makes an environment of its own for the other two (they need numpy < 2) in ``.venv-metrics`` beside this file. Writes
``results.json`` beside this file and the tables of ``docs/benchmarks/metrics.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, Side, circumstances, described, in_turns, load, publish, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "metrics.md"
ENVIRONMENT = HERE / ".venv-metrics"
BLOBS = (3, 10, 40, 120, 400)
GREEDY = {"pyirstd": "pyirstdmetrics 1.0.2", "skimage": "scikit-image loop", "motes": "**motes**"}
OPDC = {"pyirstd_opdc": "pyirstdmetrics 1.0.2, OPDC", "motes_opdc": "**motes**, protocol pyirstdmetrics"}
GOALS = {"pyirstd": 10, "skimage": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--maps", type=int, default=200, help="in all, shared equally by the numbers of blobs")
    parser.add_argument("--blobs", type=int, nargs="+", default=BLOBS, help="blobs a map")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    python = environment()
    facts = circumstances(("numpy", "opencv-python-headless")) | {"others": versions(python)}
    each = max(1, options.maps // len(options.blobs))
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as folder:
        for blobs in options.blobs:
            prepare(Path(folder), blobs, each)
        sides = {n: Side(HERE / "side.py", n, folder, python) for n in (*GREEDY, *OPDC)}
        times: dict[str, dict[str, Any]] = {}
        differences = {}
        for blobs in options.blobs:
            for group in (GREEDY, OPDC):
                members = [sides[n] for n in group]
                for name, found in in_turns(members, "seconds", options.rounds, blobs=f"{blobs:03d}").items():
                    times.setdefault(name, {})[str(blobs)] = found
                    print(f"{blobs:4d} blobs  {name:14s} {found['median_ms'] / each:9.2f} ms a map", flush=True)
            numbers = {n: s.ask("numbers", blobs=f"{blobs:03d}") for n, s in sides.items()}
            differences[blobs] = largest_difference(numbers)
        for side in sides.values():
            side.close()
    facts["load_after"] = load()
    results = {
        "facts": facts,
        "maps": each * len(options.blobs),
        "maps_each": each,
        "blobs": list(options.blobs),
        "rounds": options.rounds,
        "times": times,
        "largest_difference": {str(b): d for b, d in differences.items()},
        "ratios": ratios(times),
    }
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not options.no_page:
        publish(PAGE, page(results))
    reached = all(results["ratios"][n]["all"] >= goal for n, goal in GOALS.items())
    print("ratios over all maps:", {n: round(r["all"], 1) for n, r in results["ratios"].items()})
    print("goals (10x, 3x) reached" if reached else "goals (10x, 3x) NOT reached")
    if max(differences.values()) > 1e-9:
        raise SystemExit("the sides disagree")


def environment() -> Path:
    """The Python that has pyirstdmetrics and scikit-image; made once."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    probe = subprocess.run([python, "-c", "import py_irstd_metrics, skimage"], capture_output=True, check=False)
    if probe.returncode:
        packages = ["pyirstdmetrics==1.0.2", "scikit-image", "numpy<2"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    code = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"
    names = ("pyirstdmetrics", "scikit-image", "numpy")
    return json.loads(
        subprocess.run([python, "-c", code % (names,)], capture_output=True, check=True, text=True).stdout
    )


def prepare(folder: Path, blobs: int, count: int, size: int = 512) -> None:
    """Maps of smooth blobs on weak noise: peaks from 0.15 to 1, some targets missed, some blobs without a target."""
    rng = np.random.default_rng(blobs)
    maps = np.empty((count, size, size), np.float32)
    labels = np.zeros((count, size, size), bool)
    y, x = np.mgrid[-6:7, -6:7]
    for probability, label in zip(maps, labels, strict=True):
        probability[:] = rng.random((size, size), np.float32) * 0.08
        for _ in range(blobs):
            row, column = rng.integers(6, size - 6, 2)
            spread = rng.uniform(1.0, 2.2)
            if rng.random() < 0.85:
                label[row - 6 : row + 7, column - 6 : column + 7] |= np.exp(-(x**2 + y**2) / (2 * spread**2)) > 0.5
            if rng.random() < 0.85:
                row, column = np.clip(np.add((row, column), rng.integers(-1, 2, 2)), 6, size - 7)
                peak = rng.uniform(0.15, 1) * np.exp(-(x**2 + y**2) / (2 * spread**2))
                window = probability[row - 6 : row + 7, column - 6 : column + 7]
                np.maximum(window, peak, out=window)
    np.savez(folder / f"{blobs:03d}.npz", maps=maps, labels=labels)


def largest_difference(numbers: dict[str, dict[str, list[float]]]) -> float:
    """Over all metrics and thresholds, each group against motes."""
    worst = 0.0
    for group, ours in ((GREEDY, "motes"), (OPDC, "motes_opdc")):
        for name in group:
            for key, values in numbers[name].items():
                worst = max(worst, float(np.abs(np.subtract(values, numbers[ours][key])).max()))
    return worst


def ratios(times: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times longer the others take, per number of blobs and over all maps."""
    found = {}
    for group, ours in ((GREEDY, "motes"), (OPDC, "motes_opdc")):
        for name in group:
            if name == ours:
                continue
            mine, theirs = ({b: t["median_ms"] for b, t in times[n].items()} for n in (ours, name))
            found[name] = {b: theirs[b] / mine[b] for b in mine} | {"all": sum(theirs.values()) / sum(mine.values())}
    return found


def page(results: dict[str, Any]) -> str:
    each, numbers = results["maps_each"], results["blobs"]
    lines = []
    for group, ours in ((GREEDY, "motes"), (OPDC, "motes_opdc")):
        rows = []
        for name, title in group.items():
            cells = [f"{results['times'][name][str(b)]['median_ms'] / each:.1f}" for b in numbers]
            if name != ours:
                cells = [f"{c} ({results['ratios'][name][str(b)]:.1f}x)" for c, b in zip(cells, numbers, strict=True)]
            total = sum(results["times"][name][str(b)]["median_ms"] for b in numbers) / 1e3
            ratio = "1" if name == ours else f"**{results['ratios'][name]['all']:.1f}**"
            rows.append((title, *cells, f"{total:.1f}", ratio))
        columns = ("ms a map", *(f"{b} blobs" for b in numbers), f"all {results['maps']} maps, s", "times ours")
        lines.append(table(columns, rows))
        lines.append("")
    worst = max(results["largest_difference"].values())
    lines.append(f"Largest difference of any number between the sides: {worst:.1e}.")
    others = ", ".join(f"{k} {v}" for k, v in results["facts"]["others"].items())
    lines.append("")
    lines.append(described(results["facts"]) + f" The others: {others}. Medians of {results['rounds']} runs in turns.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
