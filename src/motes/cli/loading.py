"""Quick starts: a command is imported when it is called, and pydantic only where typer has something to convert."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import typer
import typer.core


class LazyGroup(typer.core.TyperGroup):
    """Puts the real command in the place of its line of help when it is called."""

    homes: ClassVar[dict[str, str]] = {}
    """Command -> module whose ``register(app)`` adds it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in self.homes:
            self.commands = {**self.commands, args[0]: load(self.homes[args[0]], args[0])}
        return super().resolve_command(ctx, args)


def load(home: str, name: str) -> Any:
    """The command ``name`` (or group of commands) that the module ``home`` registers."""
    one = typer.Typer()
    importlib.import_module(home).register(one)
    return typer.main.get_group(one).commands[name]


class _Conversion:
    """Converts one parameter: nothing, and text that stays text or a path, on the spot; all else as typer does.

    typer 0.29 makes its conversions of pydantic's validators. Importing and building those would take a
    sixth of the time of a small detection, and most parameters of a call are absent, or text.
    """

    def __init__(self, descriptor: Any) -> None:
        self.descriptor = descriptor

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        kind, several = self.descriptor.annotation, param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if kind is str and isinstance(value, str):
            return value
        if kind is Path and isinstance(value, str | Path) and not _checked(self.descriptor.parameter_info):
            return Path(value)
        if kind == list[str] and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return list(value)
        return _typers_own(self.descriptor).coerce(value, param=param, ctx=ctx)


def _checked(info: Any) -> bool:
    """Whether typer is to look at the file as well."""
    return bool(info.exists or info.resolve_path or info.writable or info.path_type or info.parser)


_typers_own: Any = getattr(typer.core, "build_runtime_param", None)
if _typers_own is not None:  # versions that are built in another way are left alone
    typer.core.build_runtime_param = _Conversion  # type: ignore[assignment]
