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


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        typer.echo(f"motes {__version__}")
        raise typer.Exit


for _name in COMMANDS:
    importlib.import_module(f"motes.cli.{_name}").register(app)


def main() -> None:
    """Entry point. Bad input: one line on stderr, exit 2. Ctrl-C: exit 130. ``--debug`` anywhere shows the traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [a for a in sys.argv if a != "--debug"]
    from motes.errors import MotesError

    try:
        app(standalone_mode=True)
    except MotesError as e:
        if debug:
            raise
        _say(str(e))
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        _say("interrupted; what was finished is kept, and the same command goes on from there")
        sys.exit(130)
    except ModuleNotFoundError as e:
        if debug or (e.name or "").startswith("motes"):
            raise
        _say(f"this command needs the package '{e.name}' (pip install 'motes[train]')")
        sys.exit(2)
    except OSError as e:
        if debug:
            raise
        _say(f"{e.filename or 'output'}: {e.strerror or e}")
        sys.exit(2)


def _say(text: str) -> None:
    print(f"motes: error: {' '.join(text.split())}", file=sys.stderr)
