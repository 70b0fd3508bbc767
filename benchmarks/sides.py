"""Programs timed against each other: each in a process of its own, in turns, so that a busy moment hits all of them.

A benchmark's ``run.py`` starts its ``side.py`` once per side and asks it, line by line, for one timed run at a time.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


class Side:
    """A process that answers requests; ``name`` and further arguments reach its ``main``."""

    def __init__(self, script: Path, name: str, *arguments: object) -> None:
        self.name = name
        # Allocator settings in the environment would help every side, also the one that is to run as it comes.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "benchmarks"), environment.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(script), name, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, request: str, **options: Any) -> Any:
        """The answer to one request, and in ``self.others`` the share of the machine that others used meanwhile."""
        assert self.process.stdin and self.process.stdout
        before, start = busy_seconds(), time.perf_counter()
        self.process.stdin.write(json.dumps([request, options]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"side '{self.name}' died (exit code {self.process.wait()})")
        answer, own = json.loads(line)
        after, wall = busy_seconds(), time.perf_counter() - start
        self.others = None
        if before is not None and after is not None:
            self.others = max(0.0, (after - before - own) / (wall * (os.cpu_count() or 1)))
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)


def answer(handlers: dict[str, Callable[..., Any]]) -> None:
    """What a side's process does: answer requests until its input ends. Prints of libraries go to stderr."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request, options = json.loads(line)
        start = time.process_time()
        value = handlers[request](**options)
        channel.write(json.dumps([value, time.process_time() - start]) + "\n")
        channel.flush()


def in_turns(sides: Sequence[Side], request: str, rounds: int, **options: Any) -> dict[str, dict[str, Any]]:
    """Asks every side for ``request`` (an answer in seconds) ``rounds`` times, each round in another order."""
    times: dict[str, list[float]] = {s.name: [] for s in sides}
    others: dict[str, list[float]] = {s.name: [] for s in sides}
    for i in range(rounds):
        k = i % len(sides)
        for side in [*sides[k:], *sides[:k]]:
            times[side.name].append(side.ask(request, **options))
            if side.others is not None:
                others[side.name].append(side.others)
    return {
        name: {
            "median_ms": 1e3 * statistics.median(values),
            "best_ms": 1e3 * min(values),
            "runs": len(values),
            "others": round(statistics.median(others[name]), 3) if others[name] else None,
        }
        for name, values in times.items()
    }


def busy_seconds() -> float | None:
    """Processor time that the whole machine has spent working, over all cores; None where it does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _wait, interrupt, soft, *_ = map(int, stat.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")


def circumstances(packages: Sequence[str]) -> dict[str, Any]:
    """What has to be known about a timing."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip() or None,
        "load_before": load(),
    }


def load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes."""
    return [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def described(facts: dict[str, Any]) -> str:
    """One paragraph for a page of the manual."""
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    loads = "; ".join(f"{when} {facts[f'load_{when}']}" for when in ("before", "after") if facts.get(f"load_{when}"))
    return (
        f"{facts['date']}, commit {facts['commit']}, {facts['processor']} ({facts['cores']} cores), {facts['system']}, "
        f"Python {facts['python']}, {versions}. Load average (1, 5, 15 min) {loads}."
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table; all columns but the first aligned to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def publish(page: Path, results: str, name: str = "results") -> None:
    """Replaces what stands between the two markers ``name`` of a page of the manual."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(f"{head}{begin}\n{results}\n{end}{tail}", encoding="utf-8", newline="\n")


def share(value: float | None) -> str:
    """0.013 -> 1 %."""
    return "-" if value is None else f"{100 * value:.0f} %"
