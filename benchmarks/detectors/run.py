"""Processor time, parameters and multiply-accumulates of the 25 detectors, as published and ``small``.

    python benchmarks/detectors/run.py                      # a quarter of an hour of one core; goes on where it stopped
    python benchmarks/detectors/run.py fcos ssd --again     # these once more
    python benchmarks/detectors/run.py --backend onnx       # exported first, which takes most of the time

Fills docs/benchmarks/detectors.md and ``results.json`` beside this file, after every network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motes.benchmark.bench import exported, loaded, taken
from motes.benchmark.complexity import complexity
from motes.benchmark.latency import measure
from motes.cards import list_models
from motes.models import create_model
from motes.models.backend import TorchBackend
from motes.naming import look_up

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, circumstances, described, load, publish, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "detectors.md"
WANTED = {None: (256, 512), "small": (256,)}
"""Variant -> sides of the square frames, px."""
MOST, FEW = 10.0, 4.0
"""Seconds: a larger frame that must take longer than ``MOST`` is left out; above ``FEW`` one frame counts, not all."""
BACKENDS = {"torch": "PyTorch", "onnx": "ONNX Runtime"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", help="some of them; default: all")
    parser.add_argument("--backend", choices=BACKENDS, default="torch")
    parser.add_argument("--frames", type=int, default=3, help="timed frames, after one to warm up")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    names = list_models("detection")
    for name in options.networks:
        look_up("detector", name, names)
    torch.set_num_threads(1)
    facts = circumstances(("torch", "onnxruntime", "numpy"))
    results = read(options.output)
    for name in options.networks or names:
        for variant, sides in WANTED.items():
            key = f"{name}/{variant or 'published'}/{options.backend}"
            if key in results["rows"] and not options.again:
                continue
            results["rows"][key] = row = measured(name, variant, sides, options.backend, options.frames)
            results["facts"] = facts | {"load_after": load()}
            options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(key, {side: cell["ms"] for side, cell in row["sides"].items()}, flush=True)
            if not options.no_page:
                publish(PAGE, page(results))


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"facts": {}, "rows": {}}


def measured(name: str, variant: str | None, sides: tuple[int, ...], backend: str, frames: int) -> dict[str, Any]:
    """Parameters, and for every side MACs and ms of the processor a frame; random weights."""
    torch.manual_seed(0)
    net = create_model(name, variant).eval()
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-") as folder:
        if backend == "onnx":
            file = Path(folder) / "network.onnx"
            file.write_bytes(exported(net)[1])
            runner: Any = loaded(file, "onnx", 1)
        else:
            runner = TorchBackend(net, net.card)
        cells: dict[str, Any] = {}
        before: tuple[int, float] | None = None
        for side in sides:
            size = taken(net.card, (side, side))
            macs = complexity(net, *size).macs
            expected = before and before[1] * macs / before[0]
            cells[str(side)] = cell = {"macs": macs, "ms": None, "frames": 0}
            if expected is not None and expected > MOST:
                continue
            batch = np.random.default_rng(0).standard_normal((1, net.card.input.channels, *size), np.float32)
            started = time.process_time()
            runner.candidates(batch)
            first = time.process_time() - started
            found = measure(runner.candidates, batch, 0, frames if first < FEW else 1, clock=time.process_time)
            cell |= {"ms": round(found.median, 1), "frames": found.runs}
            before = macs, found.median / 1e3
        del runner  # Windows cannot delete a file that is open
    return {"params": sum(p.numel() for p in net.parameters()), "sides": cells}


def page(results: dict[str, Any]) -> str:
    parts = [described(results["facts"])]
    for backend, title in BACKENDS.items():
        rows = []
        for name in list_models("detection"):
            published, small = (results["rows"].get(f"{name}/{v}/{backend}") for v in ("published", "small"))
            if published or small:
                rows.append([f"`{name}`", *cells(published, 256, 512), *cells(small, 256)])
        if rows:
            columns = ["network", "parameters", "MACs 256", "ms", "MACs 512", "ms"]
            columns += ["`small`: parameters", "MACs 256", "ms"]
            parts.append(f"{title}, ms of one core a frame:\n\n{table(columns, rows)}")
    return "\n\n".join(parts)


def cells(row: dict[str, Any] | None, *sides: int) -> list[str]:
    if row is None:
        return ["-"] * (1 + 2 * len(sides))
    shown = [f"{row['params'] / 1e6:.1f} M"]
    for side in sides:
        cell = row["sides"][str(side)]
        shown += [f"{cell['macs'] / 1e9:.1f} G", "-" if cell["ms"] is None else f"{cell['ms']:,.0f}"]
    return shown


if __name__ == "__main__":
    main()
