"""``motes train`` and ``motes recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from motes.errors import MissingExtraError, MotesError

EXAMPLES = """Examples:

  motes train repisdnet_sirst data.root=~/data/sirst loop.epochs=100

  motes train factseg_isaid data.root=~/data/isaid loop.steps=20000
"""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(epilog=EXAMPLES)(train)
    app.command(epilog="Example: motes recipes repisdnet_sirst")(recipes)


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe of `motes recipes`, or a .yaml file.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run's folder, exactly.")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
) -> None:
    """Train a network from a recipe; Ctrl-C saves, --resume goes on bit for bit."""
    if (recipe is None) == (resume is None):
        raise MotesError("give either a recipe or --resume RUN", "`motes recipes` lists the recipes")
    try:
        import lightning.fabric  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError("motes train", "train") from None
    from motes.training import start

    folder = start(recipe, overrides or [], resume, runs)
    if folder is not None:
        typer.echo(f"{folder}")


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe, every default written out.")] = None,
) -> None:
    """List the shipped recipes, or print one."""
    from motes.training.recipe import dump_recipe, load_recipe, recipe_names

    if name is not None:
        typer.echo(dump_recipe(load_recipe(name)))
        return
    from motes.cli.tables import text_table

    rows = []
    for known in recipe_names():
        recipe = load_recipe(known)
        loop, rate = recipe.loop, f"{recipe.optimizer.name} {recipe.optimizer.lr:g}"
        losses = " + ".join(part.name for part in recipe.losses) or "its own"
        part = recipe.transform
        side = part.crop if part.name != "boxes" or part.fit == "crop" else part.resize[0] if part.resize else "whole"
        length = f"{loop.steps:,} steps" if loop.steps else f"{loop.epochs} epochs"
        rows.append([known, recipe.data.name, side, loop.batch_size, length, losses, rate])
    typer.echo(text_table(["recipe", "data", ">crop", ">batch", ">length", "loss", "optimiser"], rows))
