"""How a command ended, and what the tests of all commands ask about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Motes = Callable[..., Done]


def words(command: str, **names: object) -> list[str]:
    """A command line with ``{names}`` filled in; a name with spaces stays one word."""
    return [word.format(**names) for word in command.split()]


def errors(done: Done) -> list[str]:
    """The lines of stderr, each of which must be an error in one sentence."""
    lines = done.err.splitlines()
    assert all(line.startswith("motes: error: ") for line in lines), done.err
    return lines


def files(root: Path) -> dict[str, bytes]:
    """What lies below a folder, by relative name."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
