"""``motes convert``: weights of any readable file, in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("convert", epilog="Example: motes convert best.pth.tar --model repisdnet -o merged.safetensors")(
        convert
    )


def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Weights: .safetensors, .pth, .pt, .ckpt, .pth.tar.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".safetensors, or .pth for torch.")],
    model: Annotated[str | None, typer.Option(help="The network, where its names do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant, where its names do not tell.")] = None,
    form: Annotated[
        str | None, typer.Option(help="train, converted or deploy (merged); default: merged where it can be.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="ROOT", help="Compare on frames of this data set too.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split.")] = None,
) -> None:
    """Read published weights safely, merge them, and write them with their card.

    Both networks are run on the same tiles; nothing is written if they disagree.
    """
    from motes.errors import MissingExtraError

    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes convert", "train") from None
    from motes import export

    tiles = None
    if data is not None:
        from motes.checkpoints import load_network

        card = load_network(source, model, variant)[1]
        tiles = export.synthetic_tiles(card, ((64, 64),)) + export.frames_of(card, data, split, 2)
    report = export.convert(source, output, model, form, tiles, variant=variant)
    facts = report.facts
    worst = max(report.rows, key=lambda r: r.logit)
    params, tensors = facts["params"], facts["tensors"]
    typer.echo(f"{facts['model']}: {facts['from']} -> {facts['to']}")
    typer.echo(f"tensors     {tensors[0]} -> {tensors[1]}")
    typer.echo(f"parameters  {params[0]:,} -> {params[1]:,}")
    typer.echo(
        f"logits      differ by at most {worst.logit:.2g} of {worst.largest_logit:.3g} "
        f"(on {len(report.rows)} tiles; {report.changed} of {report.pixels} mask pixels changed)"
    )
    typer.echo(f"written     {output}")
