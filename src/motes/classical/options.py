"""Settings of training-free methods: a default, what it means, and the check of what a user gives instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from motes.errors import CardError


@dataclass(frozen=True)
class Option:
    """One setting of a method.

    ``read`` takes what the user gave and returns it in the form the method's function takes, or raises ValueError
    saying what it must be ("must be odd"); the readers are below. ``meaning`` is a few words with the unit.
    """

    default: Any
    read: Callable[[Any], Any]
    meaning: str

    def value(self, where: str, given: Any) -> Any:
        """``given`` as the method takes it; raises CardError that begins with ``where`` ("tophat: size")."""
        try:
            return self.read(given)
        except ValueError as e:
            raise CardError(f"{where} ({self.meaning}) {e}, found {_text(given)}") from None


def whole(low: int, high: int | None = None) -> Callable[[Any], int]:
    """A whole number from ``low`` to ``high`` (None: no limit)."""

    def read(given: Any) -> int:
        if not _is_whole(given) or given < low or (high is not None and given > high):
            limit = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"must be a whole number, {limit}")
        return int(given)

    return read


def odd(low: int = 3) -> Callable[[Any], int]:
    """An odd number of at least ``low``: a window side in px."""

    def read(given: Any) -> int:
        if not _is_whole(given) or given < low or given % 2 == 0:
            raise ValueError(f"must be odd and at least {low}")
        return int(given)

    return read


def number(above: float = 0.0, most: float = math.inf) -> Callable[[Any], float]:
    """A finite number > ``above`` and <= ``most``."""

    def read(given: Any) -> float:
        value = float(given) if isinstance(given, numbers.Real) and not isinstance(given, bool) else math.nan
        if not (above < value <= most and math.isfinite(value)):
            raise ValueError(f"must be a number > {above:g}" + (f" and <= {most:g}" if math.isfinite(most) else ""))
        return value

    return read


def flag(given: Any) -> bool:
    """True or False."""
    if not isinstance(given, bool):
        raise ValueError("must be true or false")
    return given


def one_of(*names: str) -> Callable[[Any], str]:
    """One of these words."""

    def read(given: Any) -> str:
        if given not in names:
            raise ValueError(f"must be {', '.join(names[:-1])} or {names[-1]}")
        return str(given)

    return read


def several(each: Callable[[Any], Any]) -> Callable[[Any], tuple]:
    """One or more different values, each read by ``each``; a single one need not be in a list."""

    def read(given: Any) -> tuple:
        values = tuple(each(v) for v in (given if _is_list(given) else [given]))
        if not values or len(set(values)) < len(values):
            raise ValueError("must be one or more different values")
        return values

    return read


def pairs(each: Callable[[Any], Any]) -> Callable[[Any], tuple[tuple, ...]]:
    """Pairs of values, nested ((2, 4), (5, 9)) or in one row (2, 4, 5, 9)."""

    def read(given: Any) -> tuple[tuple, ...]:
        row = [
            each(v) for item in (given if _is_list(given) else [given]) for v in (item if _is_list(item) else [item])
        ]
        if not row or len(row) % 2:
            raise ValueError("must be pairs of numbers")
        return tuple(zip(row[::2], row[1::2], strict=True))

    return read


def _is_whole(given: Any) -> bool:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool)


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def _text(given: Any) -> str:
    return f"'{given}'" if isinstance(given, str) else str(given)
