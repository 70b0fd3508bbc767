"""What a network costs: parameters, multiply-accumulates, and the time of one run per backend."""

from __future__ import annotations

from motes.benchmark.complexity import Complexity, complexity, complexity_of_forms
from motes.benchmark.latency import Latency, measure

__all__ = ["Complexity", "Latency", "complexity", "complexity_of_forms", "measure"]
