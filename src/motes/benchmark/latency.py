"""The time of one run, the median after warm-up; and of all runs of a backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run: the median, the best, and the 90th percentile of ``runs``."""

    median: float
    best: float
    p90: float
    runs: int


def measure(
    run: Callable[[np.ndarray], object],
    batch: np.ndarray,
    warmup: int = 3,
    runs: int = 15,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Times ``run(batch)``.

    Args:
        run: one forward pass.
        batch: [B, C, H, W] float32.
        warmup: runs that are not counted.
        runs: runs that are, unless they take longer than ``seconds`` (three are always made).
        seconds: when to stop.
        clock: gives seconds; ``time.process_time`` those that the processor worked, on however busy a machine.
    """
    for _ in range(warmup):
        run(batch)
    times: list[float] = []
    start = clock()
    while len(times) < runs and (len(times) < 3 or clock() - start < seconds):
        before = clock()
        run(batch)
        times.append(1e3 * (clock() - before))
    times.sort()
    return Latency(statistics.median(times), times[0], times[min(len(times) - 1, int(0.9 * len(times)))], len(times))


class Timed:
    """A backend that adds up the processor time of its runs, which other programs on the machine hardly change."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.card, self.seconds = backend, backend.card, 0.0

    def run(self, batch: np.ndarray) -> Any:
        return self._timed(self.backend.run, batch)

    def candidates(self, batch: np.ndarray) -> Any:
        return self._timed(self.backend.candidates, batch)

    def _timed(self, run: Callable[[np.ndarray], Any], batch: np.ndarray) -> Any:
        began = time.process_time()
        found = run(batch)
        self.seconds += time.process_time() - began
        return found
