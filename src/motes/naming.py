"""One look-up for every name a user types, with "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from motes.errors import MotesError


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, or None where none does."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return lowered[found[0]] if found else None


def look_up(kind: str, name: str, known: Iterable[str], error: type[MotesError] = MotesError) -> str:
    """``name`` if it is one of ``known``; otherwise an error that names the nearest one.

    Args:
        kind: what is looked up, in the singular ("model", "protocol", "split").
        name: what the user typed.
        known: the valid names.
        error: the error class to raise.
    """
    names = list(known)
    if name in names:
        return name
    close = nearest(name, names)
    hint = f"did you mean '{close}'?" if close else f"known: {', '.join(names) or 'none'}"
    raise error(f"unknown {kind} '{name}'", hint)
