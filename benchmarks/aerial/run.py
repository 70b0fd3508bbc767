"""FactSeg over a whole aerial image: motes (export, windows in batches, streaming merge) against the published way.

    python benchmarks/aerial/run.py --backbone resnet18
    python benchmarks/aerial/run.py --backbone resnet50

Same weights, same windows (896 px every 512 px, mean of probabilities), in turns. Writes ``results.json`` beside this
file (a run replaces what was measured with the same backbone and size) and tables of ``docs/benchmarks/aerial.md``.
Fails if labels of a float32 backend differ where the published way is sure of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, Side, circumstances, described, in_turns, load, publish, share, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "aerial.md"
FASTER, SMALLER = 1.5, 3.0
"""Goals: so many times the megapixels a second, in that part of the memory."""
TIE = 1e-4
"""Labels of a float32 backend may differ where the two most probable classes of the published way are nearer to each
other than this."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbone", default="resnet50", help="resnet50 (published), resnet18, or another one of timm")
    parser.add_argument("--weights", default="", help="a FactSeg weight file instead of random weights")
    parser.add_argument("--image", default="", help="an 8-bit RGB image instead of a synthetic scene")
    parser.add_argument("--side", type=int, default=4992, help="height and width of the synthetic scene, px")
    parser.add_argument("--window", type=int, default=896, help="side of a window, px")
    parser.add_argument("--stride", type=int, default=512, help="from one window to the next, px")
    parser.add_argument("--backends", nargs="+", default=["onnx", "openvino-bf16"], help="of ours")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2], help="windows at once")
    parser.add_argument("--rounds", type=int, default=3, help="timed images of each side")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each side; default: as it comes")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("torch", "onnxruntime", "openvino", "numpy"))
    names = ["published", *(f"motes_{backend}_{b}" for backend in options.backends for b in options.batch)]
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as folder:
        prepared = prepare(folder, options)
        sides = [
            Side(HERE / "side.py", name, folder, options.threads, options.window, options.stride) for name in names
        ]
        for side in sides:
            side.ask("warm")
        times = in_turns(sides, "timed", options.rounds)
        memory = {side.name: side.ask("peak") for side in sides}
        agreement = compare([Path(folder) / side.ask("written") for side in sides], names)
        for side in sides:
            side.close()
    facts["load_after"] = load()
    chosen = {k: getattr(options, k) for k in ("window", "stride", "rounds", "threads")}
    result = {
        "circumstances": facts, **prepared, **chosen, "times": times, "memory": memory, "agreement": agreement,
    }  # fmt: skip
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
    heading = f"{options.backbone}, {result['size'][1]}x{result['size'][0]} px"
    known[heading] = result
    options.output.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(report(heading, result))
    if not options.no_page:
        publish(PAGE, "\n\n".join(report(*item) for item in sorted(known.items())), "images")
    for name in names[1:]:
        speed, part = (ratio(result, name, key) for key in ("median_ms", "peak"))
        reached = "reached" if speed >= FASTER and part >= SMALLER else "NOT reached"
        print(f"{name}: {speed:.2f}x as fast, 1/{part:.2f} of the memory; goals {reached}")
    worst = max((a["margin"] for name, a in agreement.items() if "bf16" not in name), default=0.0)
    if worst > TIE:
        raise SystemExit(f"the sides disagree where the published way is sure: margin {worst:.1e}")


def prepare(folder: str, options: argparse.Namespace) -> dict[str, Any]:
    """Network and image, in a process of its own: torch shall not stay in this one."""
    arguments = [folder, options.backbone, options.weights, options.image, str(options.side)]
    done = subprocess.run(
        [sys.executable, str(HERE / "prepare.py"), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def compare(files: list[Path], names: list[str]) -> dict[str, dict[str, Any]]:
    """Labels of our sides against the published ones: how many differ, and how sure the published way was of them."""
    with np.load(files[0]) as reference:
        labels, margins = reference["labels"], reference["margins"]
    found = {}
    for name, file in zip(names[1:], files[1:], strict=True):
        with np.load(file) as maps:
            other = maps["labels"] != labels
        found[name] = {
            "differ": int(other.sum()),
            "ties": int((margins < TIE).sum()),
            "margin": float(margins[other].max(initial=0)),
            "labels": np.bincount(labels.ravel()).tolist(),
        }
    return found


def ratio(result: dict[str, Any], name: str, key: str) -> float:
    """How many times ours the published way takes."""
    source = result["memory" if key == "peak" else "times"]
    return float(source["published"][key] / source[name][key])


def report(heading: str, result: dict[str, Any]) -> str:
    times, memory, (height, width) = result["times"], result["memory"], result["size"]
    megapixels = height * width / 1e6
    rows = []
    for name, here in times.items():
        title = titled(name)
        rows.append(
            [
                title,
                f"{here['median_ms'] / 1e3:.1f}",
                f"{1e3 * megapixels / here['median_ms']:.3f}",
                f"{ratio(result, name, 'median_ms'):.2f}x",
                f"{ratio(result, name, 'best_ms'):.2f}x",
                f"{memory[name]['peak'] / 1e9:.2f} GB",
                f"{memory[name]['start'] / 1e9:.2f} GB",
                f"1/{ratio(result, name, 'peak'):.2f}",
                share(here["others"]),
            ]
        )
    columns = [
        f"{width}x{height} px", "median s", "megapixel/s", "speed", "speed, best runs", "peak memory", "before it",
        "of published", "others",
    ]  # fmt: skip
    agreement = result["agreement"]
    first = next(iter(agreement.values()))
    used = sum(n > 0 for n in first["labels"])
    differ = table(
        ["labels that differ from the published way's", "of 1,000,000", "largest margin there"],
        [
            [titled(name), f"{1e6 * a['differ'] / (height * width):.3g}", f"{a['margin']:.1e}"]
            for name, a in agreement.items()
        ],
    )
    threads = f", {result['threads']} threads" if result["threads"] else ""
    return "\n\n".join(
        [
            f"### FactSeg, {heading}",
            described(result["circumstances"]),
            f"Weights: {result['weights']}; image: {result['image']}; windows of {result['window']} px every "
            f"{result['stride']} px{threads}. Medians of {result['rounds']} images, in turns. Goals: {FASTER}x, a "
            "third of the memory. *Before it*: with network and image loaded, before the first window. *Others*: share "
            "of the machine that other programs used meanwhile.",
            table(columns, rows),
            differ,
            f"*Margin*: between the two most probable classes of the published way. In float32 it may be {TIE:g}; "
            f"{first['ties']} pixels are below that. {used} of {result['classes']} classes come up.",
        ]
    )


def titled(name: str) -> str:
    if name == "published":
        return "torch eager, as published"
    _, backend, batch = name.split("_")
    return f"motes, `{backend}`, {batch} window{'s' * (batch != '1')} at once"


if __name__ == "__main__":
    main()
