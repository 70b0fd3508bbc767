"""``motes contest``: a contest's folder in, the masks its judge expects out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

CONTESTS = ("gaofen",)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: motes contest gaofen /input_path /output_path --weights sea-ice.safetensors")(contest)


def contest(
    name: Annotated[str, typer.Argument(metavar="CONTEST", help="gaofen: sea ice and fish farms, 2021.")],
    images: Annotated[Path, typer.Argument(metavar="IN", help="Folder of images; every one gets a mask.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the masks.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", "-w", envvar="MOTES_WEIGHTS", help="Weight file or export, or a folder that holds one."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network, where the file does not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant.")] = None,
) -> None:
    """Write the masks of a contest from a folder of images, as its judge runs an entry.

    OUT/<stem>.png: 8-bit grey, 0 or 255, of each image's size. Nothing is fetched. An .onnx file runs on the CPU,
    other weights on a GPU where there is one. Exit code 1: some files could not be read, all others are done.
    """
    from motes.cli.evaluate import load
    from motes.cli.progress import progress
    from motes.errors import CheckpointError, MotesError
    from motes.imaging import check_writable
    from motes.inference.contest import contest_segmenter, entries, find_contest_weights, run_gaofen
    from motes.naming import look_up

    look_up("contest", name, CONTESTS, MotesError)
    if weights is None:
        raise CheckpointError("no weights named", "give --weights FILE, or set MOTES_WEIGHTS")
    file = find_contest_weights(weights)
    count = len(entries(images, out))
    check_writable(out)
    backend = load(str(file), model, variant, "onnx")
    contest_segmenter(backend)
    with progress("masks", count) as advance:
        done = run_gaofen(backend, images, out, advance)
    typer.echo(f"{done.written} of {count} masks ({backend.card.name}, {getattr(backend, 'device', 'cpu')})  ->  {out}")
    for sentence in done.failed:
        print(f"motes: error: {sentence}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(1)
