"""``motes plot``: ROC, precision-recall and response surfaces of anybody's maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from motes.metrics import SegmentationScore

Folders = Annotated[list[Path], typer.Argument(metavar="METHOD_DIR...", help="A folder of maps for each method.")]
Truth = Annotated[Path, typer.Option("--gt", help="The folder of masks, or a data set.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The figure: .png, .svg or .pdf.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="A method's name in the legend; one for each.")]
Rule = Annotated[str, typer.Option("--protocol", "-p", help="The rules: native, dnanet, ...")]
Split = Annotated[str | None, typer.Option(help="This split only, where --gt is a data set.")]
Names = Annotated[Path | None, typer.Option(help="Only the images listed in this file, one a line.")]
Scale = Annotated[float | None, typer.Option(help="The count that means 1; default 255 or 65535.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    plot = typer.Typer(help="Draw curves and response surfaces of saved probability maps.", no_args_is_help=True)
    plot.command("roc")(roc_command)
    plot.command("pr")(pr_command)
    plot.command("surface")(surface_command)
    app.add_typer(plot, name="plot")


def roc_command(
    folders: Folders,
    truth: Truth,
    output: Output,
    label: Labels = None,
    protocol: Rule = "native",
    split: Split = None,
    names: Names = None,
    scale: Scale = None,
) -> None:
    """Draw pixel ROC and target ROC (Pd over Fa, and over false alarms per megapixel)."""
    from motes.metrics.plotting import check_suffix, plot_roc

    check_suffix(output)
    plot_roc(_scores(folders, truth, label, protocol, split, names, scale), output)
    typer.echo(f"written: {output}")


def pr_command(
    folders: Folders,
    truth: Truth,
    output: Output,
    label: Labels = None,
    protocol: Rule = "native",
    split: Split = None,
    names: Names = None,
    scale: Scale = None,
) -> None:
    """Draw precision over recall of pixels."""
    from motes.metrics.plotting import check_suffix, plot_pr

    check_suffix(output)
    plot_pr(_scores(folders, truth, label, protocol, split, names, scale), output)
    typer.echo(f"written: {output}")


def surface_command(
    maps: Annotated[list[Path], typer.Argument(metavar="MAP_OR_IMAGE...", help="The image, then maps of it.")],
    output: Output,
    label: Labels = None,
    truth: Annotated[Path | None, typer.Option("--gt", help="The mask: its targets are circled.")] = None,
) -> None:
    """Draw the 3-D response surface of each map beside the input."""
    from motes.errors import DataError
    from motes.imaging import read_image, read_mask
    from motes.metrics.folders import read_map
    from motes.metrics.plotting import check_suffix, plot_surface

    check_suffix(output)
    planes: list[tuple[str, Any]] = []
    for path, name in zip(maps, _titles(maps, label), strict=True):
        pixels = read_image(path).pixels
        grey = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels.mean(axis=2)
        unit = pixels.dtype in ("uint8", "uint16") and len(planes) > 0  # a map, not the input: 255 is 1
        planes.append((name, read_map(path) if unit else grey))
    mask = None if truth is None else read_mask(truth)
    if mask is not None and mask.shape != planes[0][1].shape:
        sizes = ["x".join(map(str, a.shape)) for a in (mask, planes[0][1])]
        raise DataError(f"{truth} is {sizes[0]} and {maps[0]} {sizes[1]}, expected the same size")
    plot_surface(planes, output, mask)
    typer.echo(f"written: {output}")


def _scores(
    folders: list[Path],
    truth: Path,
    labels: list[str] | None,
    protocol: str,
    split: str | None,
    names: Path | None,
    scale: float | None,
) -> dict[str, SegmentationScore]:
    from motes.cli.score import find_pairs, find_rule, score_pairs
    from motes.metrics.plotting import PLOT_SWEEP

    scores = {}
    rule = find_rule(protocol, None)
    for folder, name in zip(folders, _titles(folders, labels), strict=True):
        pairs, _ = find_pairs(folder, truth, split, names, None)
        scores[name], failed, notes = score_pairs(pairs, rule, scale, False, PLOT_SWEEP)
        for note in notes:
            typer.echo(f"{name}: {note}", err=True)
        for image, reason in failed.items():
            typer.echo(f"{name}: left out: {image}: {reason}", err=True)
        if pairs.missing:
            typer.echo(f"{name}: no map for {len(pairs.missing)} masks, which were left out", err=True)
    return scores


def _titles(paths: list[Path], labels: list[str] | None) -> list[str]:
    """What the user says; else the last part of the paths in which they all differ."""
    from motes.errors import DataError

    if labels:
        if len(labels) != len(paths):
            raise DataError(f"got {len(labels)} --label for {len(paths)} inputs, expected one for each, or none")
        return labels
    plain = [p.with_suffix("") if p.is_file() else p for p in paths]
    for depth in (1, 2, 3):
        names = [(p.resolve().parts[-depth:] or ("",))[0] for p in plain]
        if len(set(names)) == len(names):
            return names
    return [f"{k + 1}: {p.name}" for k, p in enumerate(plain)]
