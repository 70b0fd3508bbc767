"""``motes``: the commands, and what happens when one of them fails."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from motes import __version__

app = typer.Typer(
    name="motes",
    help="Find targets only a few pixels wide: infrared small targets and small objects in aerial images.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = ("detect", "demo", "score", "plot", "data", "models", "train", "evaluate", "convert", "export", "bench")
"""In the order of ``motes --help``. Command ``x`` is ``register(app)`` in ``cli/x.py``."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motes {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The options of every command."""


for _name in COMMANDS:
    importlib.import_module(f"motes.cli.{_name}").register(app)


def main() -> None:
    """Entry point. Bad input: one line on stderr, exit 2; Ctrl-C: exit 130; ``--debug`` anywhere: the traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [a for a in sys.argv if a != "--debug"]
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
        if code is None:
            raise
    except KeyboardInterrupt:
        code = 130
    if code == 130:  # what typer makes of Ctrl-C
        _say("interrupted; what was finished is kept, and the same command goes on from there")
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int | None:
    """Says in one line what went wrong and returns the exit code; None for what only a programmer can mend."""
    from motes.errors import MotesError

    if isinstance(error, MotesError):
        _say(str(error))
    elif isinstance(error, typer.Abort):
        return 130
    elif hasattr(error, "format_message"):  # click's usage errors; typer brings its own click
        context = getattr(error, "ctx", None)
        where = f" (see `{context.command_path} --help`)" if context is not None else ""
        if message := error.format_message().rstrip("."):  # empty where the help was shown instead
            _say(f"{message}{where}")
    elif isinstance(error, ModuleNotFoundError) and not (error.name or "motes").startswith("motes"):
        _say(f"this command needs the package '{error.name}' (pip install 'motes[train]')")
    elif isinstance(error, OSError):
        _say(f"{error.filename or 'input or output'}: {error.strerror or error}")
    else:
        return None
    return 2


def _say(text: str) -> None:
    print(f"motes: error: {' '.join(text.split())}", file=sys.stderr)
