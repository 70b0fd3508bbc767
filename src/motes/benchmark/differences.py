"""Two sets of named tensors compared: largest and mean difference of each, and what may be too much."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from motes.naming import nearest

AFTER_STEPS = 5
"""Optimiser steps amplify rounding: what is compared after the first one may differ by so many times the limit."""


@dataclass(frozen=True)
class Limits:
    """``largest``: of any difference, as a share of the tensor's largest value; ``mean``: of the mean difference."""

    largest: float = 2e-5
    mean: float | None = None


@dataclass(frozen=True)
class Row:
    """One tensor compared. ``problem`` says why it failed; differences are None where nothing could be subtracted."""

    name: str
    shape: tuple[int, ...]
    largest: float | None = None
    max_difference: float | None = None
    mean_difference: float | None = None
    limit: float | None = None
    problem: str = ""


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], limits: Limits) -> list[Row]:
    """A row for every name of ``theirs``; a name that ``ours`` lacks and another shape are failures."""
    return [row(name, ours, value, limits) for name, value in theirs.items()]


def row(name: str, ours: Mapping[str, np.ndarray], theirs: np.ndarray, limits: Limits) -> Row:
    if name not in ours:
        close = nearest(name, ours)
        return Row(name, theirs.shape, problem="missing here" + (f", nearest is '{close}'" if close else ""))
    found = ours[name]
    if found.shape != theirs.shape:
        return Row(name, theirs.shape, problem=f"shape here {shape_text(found.shape)}")
    a, b = found.astype(np.float64), theirs.astype(np.float64)
    largest = float(np.abs(b).max(initial=0.0))
    limit = limits.largest * (AFTER_STEPS if re.fullmatch(r"loss_[1-9]\d*", name) else 1)
    difference = np.abs(a - b)
    most, mean = float(difference.max(initial=0.0)), float(difference.mean()) if difference.size else 0.0
    problem = ""
    if not math.isfinite(most):
        problem = "not finite"
    elif most > limit * largest:
        problem = "over the limit"
    elif limits.mean is not None and mean > limits.mean:
        problem = "mean over the limit"
    return Row(name, theirs.shape, largest, most, mean, limit * largest, problem)


def shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
