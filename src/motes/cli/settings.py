"""``--set NAME=VALUE``: settings of training-free methods as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HELP = "Setting of a training-free method: size=7, sizes=5,7,9, rule=lambda_0.7."


def settings(texts: Iterable[str]) -> dict[str, Any]:
    """Name -> value: true or false, a number, a word, or several of them with commas between.

    Raises:
        CardError: not of that form, or a name that no method has (the nearest is suggested).
    """
    from motes.classical import METHODS
    from motes.errors import CardError
    from motes.naming import look_up

    known = {"k", "rule"}.union(*(method.options for method in METHODS.values()))
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise CardError(f"--set {text}: expected NAME=VALUE, for instance size=7")
        look_up("setting of a training-free method", name, known, CardError)
        parts = [_value(part.strip()) for part in value.split(",")]
        found[name] = parts[0] if len(parts) == 1 else tuple(parts)
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
