"""``motes data densify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from motes.cli.progress import progress

EXAMPLES = """Examples:

  motes data densify ~/data/sirst dense --mode gaussian_clusters        no sky maps needed

  motes data densify ~/data/sirst_with_sky dense --least 5 --most 40 --seed 1
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app`` (the ``motes data`` group)."""
    app.command("densify", epilog=EXAMPLES)(densify_command)


def densify_command(
    root: Annotated[Path, typer.Argument(help="The sparse data set; its layout is recognised by looking.")],
    out: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the dense one; an interrupted one goes on.")],
    mode: Annotated[
        str, typer.Option(help="sky (BAG-CP), plain, plain_clusters, gaussian or gaussian_clusters.")
    ] = "sky",
    least: Annotated[int, typer.Option(min=0, help="Fewest targets in a frame.")] = 1,
    most: Annotated[int, typer.Option(min=0, help="Most targets in a frame.")] = 26,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other frames.")] = 0,
    layout: Annotated[str | None, typer.Option(help="Take this layout instead of looking.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a dense data set from a sparse one: targets of other frames pasted into every frame's sky.

    Boxes, masks, points, splits and sky maps are written in the layout of DenseSIRST. Test frames get targets of test
    frames only. The same seed gives the same files.
    """
    from motes.data import open_dataset
    from motes.data.densify import densify

    dataset = open_dataset(root, layout)
    with progress("pasting", len(dataset.samples)) as advance:
        done = densify(dataset, out, mode=mode, targets=(least, most), seed=seed, progress=lambda *_: advance())
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(
        f"{out}: {done.made} frames made, {done.kept} were there; {done.before} targets became {done.after}, "
        f"{done.unchanged} frames stayed as they were"
    )
