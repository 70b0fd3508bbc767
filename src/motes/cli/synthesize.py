"""``motes data synthesize``."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``, which is ``motes data``."""
