"""``motes data prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motes.cli.progress import progress

if TYPE_CHECKING:
    from motes.data.classes import ClassTable
    from motes.data.prepare import Prepared
    from motes.data.raw_files import Found


def register(app: typer.Typer) -> None:
    """Add the command to ``app`` (the ``motes data`` group)."""
    example = "Example: motes data prepare isaid ~/iSAID data/isaid_896 --patch 896 --stride 512 --rule pad-split"
    app.command("prepare", epilog=example)(prepare_command)


def prepare_command(
    kind: Annotated[str, typer.Argument(help="isaid, potsdam, vaihingen, gaofen, or a class list of your own.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The unpacked data set; for iSAID also its zips.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the patches; what is there is not redone.")],
    patch: Annotated[int, typer.Option(help="Side of a patch, px.")] = 896,
    stride: Annotated[int, typer.Option(help="From one patch to the next, px.")] = 512,
    rule: Annotated[
        str,
        typer.Option(
            help="split (devkit, PFNet), window (FarSeg, FactSeg), pad-split (MMSegmentation), whole (no cut)."
        ),
    ] = "pad-split",
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be repeated. Default: train and val.")
    ] = None,
    masks: Annotated[str, typer.Option(help="ids: grey masks of class ids; colours: cut only.")] = "ids",
    workers: Annotated[int | None, typer.Option(min=1, help="Images at a time; default: one a core.")] = None,
    image_dir: Annotated[Path | None, typer.Option(help="Folder of images, for a layout that is not known.")] = None,
    mask_dir: Annotated[Path | None, typer.Option(help="Folder of masks, goes with --image-dir.")] = None,
) -> None:
    """Cut large aerial images into patches, their masks into grey masks of class ids.

    An interrupted run goes on with the same command; files that changed are done again. Exit code 1: some images could
    not be prepared or some masks hold foreign colours, which became background; all others are done.
    """
    from motes.data.prepare import prepare

    table, found = _found(kind, source, target, splits, image_dir, mask_dir)
    with progress("preparing", len(found.samples)) as advance:
        done = prepare(found, target, table, rule, patch, stride, masks=masks, threads=workers, advance=advance)
    _report(done, target)
    if done.failed or done.unknown:
        raise typer.Exit(1)


def _found(
    kind: str, source: Path, target: Path, splits: list[str] | None, image_dir: Path | None, mask_dir: Path | None
) -> tuple[ClassTable, Found]:
    from motes.data import open_dataset
    from motes.data.classes import class_table
    from motes.data.raw_files import dataset_files, isaid_files
    from motes.errors import DataError

    table = class_table(kind) if kind != "gaofen" else None
    a, b = source.resolve(), target.resolve()
    if a == b or a in b.parents or b in a.parents:
        raise DataError(f"{target} and {source} lie in each other", "write to a folder beside it")
    if table and table.name.startswith("isaid") and image_dir is None:
        return table, isaid_files(source, splits)
    layout = None if image_dir or kind != "gaofen" else kind
    data = open_dataset(source, layout, image_dir=image_dir, mask_dir=mask_dir, classes=table)
    if data.classes is None:
        raise DataError("the track is not known", "kind gaofen-img or gaofen-sar")
    return data.classes, dataset_files(data, splits)


def _report(done: Prepared, target: Path) -> None:
    import sys

    from motes.errors import DataError

    if done.failed and not done.patches:
        if len(done.failed) == 1:
            raise DataError(done.failed[0])
        raise DataError(f"none of {len(done.failed)} images could be prepared; the first: {done.failed[0]}")
    for line in done.failed:
        print(f"motes: not prepared: {line}", file=sys.stderr)
    for line in done.unknown:
        print(f"motes: {line}", file=sys.stderr)
    for line in done.orphans:
        print(f"motes: mask without an image: {line}", file=sys.stderr)
    if done.stale:
        print(f"motes: the files of {_some(done.stale)} are gone, their patches are kept", file=sys.stderr)
    if done.skipped:
        print(f"motes: {_some(done.skipped)} left out, as in all published preparations", file=sys.stderr)
    for split, count in done.patches.items():
        typer.echo(f"{target / split}: {count} patches of {done.images[split]} images")
    there = f", {done.kept} were there" if done.kept else ""
    failed = f", {len(done.failed)} images could not be prepared" if done.failed else ""
    typer.echo(f"{done.made} patches written{there}{failed}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
