"""``motes data noisy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from motes.cli.progress import progress


def register(app: typer.Typer) -> None:
    """Add the command to ``app`` (the ``motes data`` group)."""
    app.command("noisy", epilog="Example: motes data noisy data/sirst data/noisy_sirst --sigma 20")(noisy_command)


def noisy_command(
    root: Annotated[Path, typer.Argument(help="The data set's folder; its layout is recognised by looking.")],
    out: Annotated[Path, typer.Argument(help="Folder of the noisy copy; an interrupted one is continued.")],
    sigma: Annotated[float, typer.Option(help="Standard deviation, grey levels; NoisySIRST has 10, 20 and 30.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Another seed, other noise.")] = 0,
    layout: Annotated[str | None, typer.Option(help="Take this layout instead of looking.")] = None,
) -> None:
    """Copy a data set with Gaussian noise on its images: NoisySIRST out of SIRST, at any sigma."""
    from motes.data import open_dataset
    from motes.data.noisy import write_noisy

    data = open_dataset(root, layout)
    with progress("adding noise", len(data.samples)) as advance:
        written = write_noisy(data, out, sigma, seed, advance)
    typer.echo(f"{out}: {written} images with noise of sigma {sigma:g}, {len(data.samples) - written} there already")
