"""``motes``: the commands, and what happens when one of them fails."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from motes import __version__
from motes.cli.loading import LazyGroup
from motes.interrupts import remember_interrupts

COMMANDS = {
    "detect": ("detect", "Find targets in images."),
    "calibrate": ("calibrate", "Set a network's threshold from your own frames without targets."),
    "predict": ("predict", "Give every pixel of aerial images its class."),
    "demo": ("demo", "Make a 14-bit infrared scene and find its targets, offline."),
    "score": ("score", "Score maps, masks or boxes of any method against ground truth; with --classes, class maps."),
    "plot": ("plot", "Draw curves and response surfaces of saved probability maps."),
    "data": ("data", "Look into data sets, check, split and make them."),
    "models": ("models", "List the networks: parameters, multiply-accumulates, paper, published results."),
    "recipes": ("train", "List the shipped recipes, or print one."),
    "train": ("train", "Train a network from a recipe; Ctrl-C saves, --resume goes on bit for bit."),
    "evaluate": ("evaluate", "Score weights on a data set under a named protocol."),
    "convert": ("convert", "Read published weights safely, merge them, write them for motes, torch, Paddle or Jittor."),
    "export": (
        "export",
        "Merge a network, write it as ONNX with its card inside, and compare the file with the network.",
    ),
    "leaderboard": (
        "leaderboard",
        "Put networks and training-free methods, or detectors, into one table, with intervals, cost and pictures.",
    ),
    "reproduce": (
        "leaderboard",
        "Score an official checkpoint under its authors' protocols and under ours, beside what they published.",
    ),
    "contest": ("contest", "Write the masks of a contest from a folder of images, as its judge runs an entry."),
    "bench": ("bench", "Count parameters and MACs, and time one frame on every backend."),
    "smoke": ("smoke", "Take a network from fresh weights to targets found by its exported file, every step checked."),
    "align": ("align", "Compare a network with a reference: outputs, loss, metrics, gradients, optimiser steps."),
}
"""Command -> the file of ``cli/`` whose ``register(app)`` adds it, and the first line of its help."""

app = typer.Typer(
    name="motes",
    help="Find targets only a few pixels wide: infrared small targets and small objects in aerial images.",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


def _stand_in() -> None:
    """What is listed until the command itself is loaded."""


for _name, (_home, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_stand_in)
    LazyGroup.homes[_name] = f"motes.cli.{_home}"


def main() -> None:
    """Entry point. Bad input: one line on stderr, exit 2; Ctrl-C: exit 130; ``--debug`` anywhere: the traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [a for a in sys.argv if a != "--debug"]
    try:
        with remember_interrupts():
            code = app(standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        code = 130
        _say("interrupted; what was finished is kept")
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
        if code is None:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int | None:
    """Says in one line what went wrong and returns the exit code; None for what only a programmer can mend."""
    from motes.errors import InterruptedRun, MotesError

    if isinstance(error, InterruptedRun):
        _say(str(error))
        return 130
    if isinstance(error, MotesError):
        _say(str(error))
    elif isinstance(error, typer.Abort):
        _say("interrupted; what was finished is kept")
        return 130
    elif hasattr(error, "format_message"):  # click's usage errors; typer brings its own click
        context = getattr(error, "ctx", None)
        where = f" (see `{context.command_path} --help`)" if context is not None else ""
        if message := error.format_message().rstrip("."):  # empty where the help was shown instead
            _say(f"{message}{where}")
    elif isinstance(error, ModuleNotFoundError) and not (error.name or "motes").startswith("motes"):
        _say(f"this command needs the package '{error.name}' (pip install 'motes[train]')")
    elif isinstance(error, OSError):
        what = "is a file, expected a folder" if isinstance(error, FileExistsError) else error.strerror
        _say(f"{error.filename or 'input or output'}: {what or error}")
    else:
        return None
    return 2


def _say(text: str) -> None:
    print(f"motes: error: {' '.join(text.split())}", file=sys.stderr)
