"""``motes convert``: weights of any readable file, in another form, format, or the backbone alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

PARTS = ("network", "backbone")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("convert", epilog="Example: motes convert best.pth.tar --model repisdnet -o merged.safetensors")(
        convert
    )


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Weights: .safetensors, .pth, .pt, .ckpt, .pth.tar, .pdparams, .pkl, .params."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".safetensors, .pth (torch), .pdparams (Paddle) or .pkl (Jittor)."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="safetensors, torch, pdparams or jittor; default: by -o's suffix.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network, where its names do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant, where its names do not tell.")] = None,
    form: Annotated[
        str | None, typer.Option(help="train, converted or deploy (merged); default: merged where it can be.")
    ] = None,
    part: Annotated[str, typer.Option(help="network (the whole), or its backbone alone.")] = "network",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the network, for a file without a card: backbone=resnet18."),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Tensors that may be missing or left over: 'aux.*'."),
    ] = None,
    swap_classes: Annotated[
        bool,
        typer.Option("--swap-classes", help="FactSeg, FarSeg: from the authors' class ids to iSAID's, or back."),
    ] = False,
    data: Annotated[Path | None, typer.Option(metavar="ROOT", help="Compare on frames of this data set too.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split.")] = None,
) -> None:
    """Read published weights safely, merge them, write them for motes, torch, Paddle or Jittor.

    Both networks are run on the same tiles; nothing is written if they disagree, nor if a tensor is missing, left over
    or of another shape.
    """
    from motes.errors import MissingExtraError, MotesError

    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes convert", "train") from None
    from motes import export
    from motes.naming import look_up

    options = as_options(option or [])
    if look_up("part", part, PARTS) == "backbone":
        if form or absent or swap_classes or data:
            raise MotesError(
                "--form, --absent, --swap-classes and --data are about whole networks, not --part backbone"
            )
        facts = export.convert_backbone(source, output, model, variant, to=to, options=options)
        typer.echo(f"backbone    {facts['backbone']}, {facts['tensors']} tensors")
        typer.echo(f"from        {facts['source']}")
        typer.echo(f"written     {facts['file']}")
        return
    tiles = None
    if data is not None:
        from motes.checkpoints import load_network

        card = load_network(source, model, variant, options=options, absent=absent or ())[1]
        tiles = export.synthetic_tiles(card, ((64, 64),)) + export.frames_of(card, data, split, 2)
    report = export.convert(
        source,
        output,
        model,
        form,
        tiles,
        variant=variant,
        to=to,
        options=options,
        absent=absent or (),
        swap_classes=swap_classes,
    )
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
    for note in facts["notes"]:
        typer.echo(f"note        {note}")
    typer.echo(f"written     {facts['file']}")


def as_options(given: list[str]) -> dict[str, Any]:
    """``["backbone=resnet18", "num_classes=6"]`` -> ``{"backbone": "resnet18", "num_classes": 6}``."""
    import yaml

    from motes.errors import MotesError

    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise MotesError(f"--option {text}: expected NAME=VALUE", "for example --option backbone=resnet18")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise MotesError(f"--option {text}: the value is not YAML") from None
    return options
