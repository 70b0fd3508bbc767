"""``motes data boxes``: the boxes of a data set in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(data: typer.Typer) -> None:
    """Add the command to ``data``."""
    data.command("boxes", epilog="Example: motes data boxes ~/data/densesirst dense-coco --to coco --images")(boxes)


def boxes(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A data set: masks, VOC, COCO, YOLO, LabelMe.")],
    out: Annotated[Path, typer.Argument(metavar="DST", help="Where to write; another folder than SRC.")],
    to: Annotated[str, typer.Option(help="coco, voc, yolo, labelme, or masks (filled boxes).")],
    split: Annotated[str | None, typer.Option(help="Only this split; a list of its name is written.")] = None,
    classes: Annotated[str | None, typer.Option(metavar="A,B", help="Names in the order of their numbers.")] = None,
    from_: Annotated[str, typer.Option("--from", help="boxes, or masks: box the targets of the masks.")] = "boxes",
    reader: Annotated[str, typer.Option(help="How VOC corners are read: exact, deepir, or a convention.")] = "exact",
    convention: Annotated[
        str, typer.Option(help="How VOC corners are written: 0-based or 1-based, end exclusive or inclusive.")
    ] = "1-based, end inclusive",
    images: Annotated[bool, typer.Option("--images", help="Copy the images: DST is a data set then.")] = False,
    layout: Annotated[str | None, typer.Option(help="Layout of SRC, where it is not recognised.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn boxes (or masks) into COCO, Pascal VOC, YOLO, LabelMe or masks, from any layout.

    SIRST and DenseSIRST count their corners differently; both are read by what their masks show.
    """
    from motes.cli.progress import progress
    from motes.data import open_dataset
    from motes.data.annotations import box_class_names, noted
    from motes.data.box_writing import FORMATS, write_boxes
    from motes.errors import DataError
    from motes.imaging import check_writable
    from motes.naming import look_up

    look_up("format", to, FORMATS, DataError)
    dataset = open_dataset(source, layout)
    if out.resolve() == source.resolve():
        raise DataError(f"SRC and DST are both {source}", "write into another folder")
    samples = dataset.split(split)
    check_writable(out)
    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    if names is None and split is not None and from_ != "masks":
        names = box_class_names(dataset.split())  # so that all splits number them alike
    with noted() as notes, progress("writing", len(samples)) as advance:
        written = write_boxes(
            samples, out, to, split=dataset.split_name(split) if split else None, classes=names, source=from_,
            reader=reader, convention=convention, images=images, advance=advance,
        )  # fmt: skip
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps({"out": str(out), "format": to, **asdict(written), "notes": notes}))
        return
    empty = f", {written.empty} images without any" if written.empty else ""
    difficult = f", {written.difficult} of them difficult" if written.difficult else ""
    typer.echo(
        f"{out}: {to}, {written.images} images, {written.boxes} boxes{difficult} ({', '.join(written.classes)}){empty}"
    )
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
    if to == "yolo" and written.difficult:
        typer.echo("warning: YOLO has no mark for difficult objects: they were left out", err=True)
