"""``motes data``: what a data set holds, what is wrong with it, how to split it, and making new ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motes.cli.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

    from motes.data import Dataset, Finding

Root = Annotated[Path, typer.Argument(help="The data set's folder; its layout is recognised by looking.")]
Layout = Annotated[str | None, typer.Option(help="Take this layout instead of looking.")]
ImageDir = Annotated[Path | None, typer.Option(help="Folder of images, for a layout that is not known.")]
MaskDir = Annotated[Path | None, typer.Option(help="Folder of masks, goes with --image-dir.")]
SplitFile = Annotated[Path | None, typer.Option(help="A list of ids, one a line; becomes a split of its name.")]
Classes = Annotated[
    str | None, typer.Option(help="Masks hold classes: isaid, potsdam, vaihingen, gaofen-img, ..., or a class list.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the JSON to this file.")]
Twins = Annotated[float, typer.Option("--twins", help="Correlation above which two are near-twins.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    import motes.cli.boxes
    import motes.cli.densify
    import motes.cli.noisy
    import motes.cli.prepare
    import motes.cli.synthesize

    data = typer.Typer(help="Look into data sets, check, split and make them.", no_args_is_help=True)
    data.command("info")(info_command)
    data.command("check")(check_command)
    data.command("split")(split_command)
    motes.cli.synthesize.register(data)
    motes.cli.noisy.register(data)
    motes.cli.densify.register(data)
    motes.cli.prepare.register(data)
    motes.cli.boxes.register(data)
    app.add_typer(data, name="data")


def info_command(
    root: Root,
    layout: Layout = None,
    image_dir: ImageDir = None,
    mask_dir: MaskDir = None,
    split_file: SplitFile = None,
    classes: Classes = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Show layout, counts, sizes, types, targets and splits of a data set."""
    from motes.data import info

    dataset = _open(root, layout, image_dir, mask_dir, split_file, classes)
    with progress("reading", len(dataset.samples)) as advance:
        found = info(dataset, advance)
    _json(found, as_json, output)
    if not as_json and "classes" in found:
        _show_classes(found)
    elif not as_json:
        _show_info(found)


def check_command(
    root: Root,
    layout: Layout = None,
    image_dir: ImageDir = None,
    mask_dir: MaskDir = None,
    split_file: SplitFile = None,
    classes: Classes = None,
    twins: Twins = 0.9,
    every: Annotated[bool, typer.Option("--all", help="List every finding, not one line a kind.")] = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Find what is wrong with a data set. Exit 1 where there is an error; warnings and notes leave 0."""
    from motes.data import check

    dataset = _open(root, layout, image_dir, mask_dir, split_file, classes)
    with progress("checking", len(dataset.samples)) as advance:
        findings = check(dataset, twins, advance)
    errors = sum(f.severity == "error" for f in findings)
    rows = [
        {"severity": f.severity, "kind": f.kind, "subject": f.subject, "message": f.message, "names": list(f.names)}
        for f in findings
    ]
    report = {
        "root": str(root),
        "layout": dataset.layout,
        "images": len(dataset.samples),
        "ok": errors == 0,
        "counts": {s: sum(f.severity == s for f in findings) for s in ("error", "warning", "note")},
        "findings": rows,
    }
    _json(report, as_json, output)
    if not as_json:
        _show_findings(dataset, findings, every)
    if errors:
        raise typer.Exit(1)


def split_command(
    root: Root,
    val: Annotated[float, typer.Option(help="Share of the images for validation.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the images for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    by: Annotated[str, typer.Option(help="Keep together: near-twins, or nothing (image).")] = "near-twins",
    of: Annotated[str | None, typer.Option(help="Split only this split, for instance trainval_v1.")] = None,
    twins: Twins = 0.9,
    name: Annotated[str | None, typer.Option(help="Folder name of the lists; default: seed<SEED>.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the lists into this folder, not into the data set.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace lists that differ.")] = False,
    layout: Layout = None,
    image_dir: ImageDir = None,
    mask_dir: MaskDir = None,
    split_file: SplitFile = None,
    as_json: AsJson = False,
) -> None:
    """Write train, val (and test) lists in which frames of one scene never straddle."""
    from motes.data import split
    from motes.data.splitting import GROUPINGS, list_folder, write_lists
    from motes.errors import DataError
    from motes.naming import look_up

    look_up("grouping", by, GROUPINGS, DataError)
    dataset = _open(root, layout, image_dir, mask_dir, split_file)
    count = len(dataset.split(of))
    with progress("comparing", count if by == "near-twins" else 0) as advance:
        lists = split(dataset, val, test, seed, by, twins, of, advance)
    files = write_lists(output or list_folder(dataset, name or f"seed{seed}"), lists, overwrite)
    if as_json:
        _json({f.stem: {"file": str(f), "images": len(lists[f.stem])} for f in files}, True, None)
        return
    for file in files:
        typer.echo(f"{file}: {len(lists[file.stem])} images")
    for part, share in (("val", val), ("test", test)):
        wanted = round(share * count)
        if part in lists and len(lists[part]) < wanted:
            typer.echo(
                f"{part} has {len(lists[part])} images instead of {wanted}: "
                "larger groups of near-twins stay together in training",
                err=True,
            )


def _open(
    root: Path,
    layout: str | None,
    image_dir: Path | None,
    mask_dir: Path | None,
    split_file: Path | None,
    classes: str | None = None,
) -> Dataset:
    from motes.data import open_dataset

    return open_dataset(root, layout, image_dir=image_dir, mask_dir=mask_dir, split_file=split_file, classes=classes)


def _json(report: dict[str, Any], to_stdout: bool, file: Path | None) -> None:
    import json

    from motes.imaging import atomic_path

    text = json.dumps(report, indent=2, ensure_ascii=False)
    if file is not None:
        with atomic_path(file) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if to_stdout:
        typer.echo(text)


def _console() -> Console:
    """Lines are wrapped to a terminal; in a pipe they stay long enough for grep."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _show_info(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    rows = {
        "data set": found["root"],
        "layout": found["layout"],
        "images": f"{found['images']} ({', '.join(f'{n} {t}' for t, n in found['types'].items())})",
        "masks": f"{found['masks']}, {found['empty_masks']} of them empty",
        "boxed images": _box_images(found["boxed"]),
        "width, px": _spread(found["width"]),
        "height, px": f"{_spread(found['height'])}; {found['different_sizes']} different sizes",
        "targets": str(found["targets"]),
    }
    boxed = found["boxed"]
    if boxed is None:
        del rows["boxed images"]
    elif not found["masks"]:
        del rows["masks"]
    if found["unreadable"]:
        rows["unreadable"] = f"{found['unreadable']} (see motes data check)"
    if found["targets"]:
        names = {"0": "min", "0.5": "median", "1": "max"}
        quantiles = ", ".join(f"{names.get(q, f'{100 * float(q):g} %')} {a:g}" for q, a in found["target_area"].items())
        rows["target area, px"] = f"{quantiles}; mean {found['target_area_mean']:.1f}"
        rows["targets per image"] = ", ".join(f"{n}: {c}" for n, c in found["targets_per_image"].items())
    if boxed is not None and boxed["boxes"]:
        rows["box width, px"], rows["box height, px"] = _spread(boxed["width"]), _spread(boxed["height"])
        rows["classes"] = ", ".join(f"{n} {name}" for name, n in boxed["classes"].items())
    if found["boxes"] and found["targets"]:
        matched = found["boxes_matched"]
        rows["boxes"] = (
            f"{found['box_convention']} ({matched[0]} of {matched[1]} equal a mask's target)"
            if matched
            else "no corner convention fits the masks"
        )
    for key in ("points", "sky"):
        if found[key]:
            rows[key] = found[key]
    for name, value in rows.items():
        table.add_row(name, value)
    console = _console()
    console.print(table)
    if found["splits"]:
        splits = Table("split", box=None, title_justify="left")
        for column in ("images", "targets", "missing"):
            splits.add_column(column, justify="right")
        for name, s in found["splits"].items():
            splits.add_row(name, str(s["images"]), str(s["targets"]), str(s["missing"] or ""))
        console.print()
        console.print(splits)


def _box_images(boxed: dict[str, Any] | None) -> str:
    if boxed is None:
        return ""
    text = f"{boxed['images']}, {boxed['empty']} of them empty"
    for key, what in (("difficult", "marked difficult"), ("without_box", "objects without a box left out")):
        text += f"; {boxed[key]} {what}" if boxed[key] else ""
    return text


def _show_classes(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    rows = {
        "data set": found["root"],
        "layout": found["layout"],
        "images": f"{found['images']} ({', '.join(f'{n} {t}' for t, n in found['types'].items())})",
        "masks": f"{found['masks']} ({', '.join(f'{n} {f}' for f, n in found['mask_forms'].items()) or '-'})",
        "width, px": _spread(found["width"]),
        "height, px": f"{_spread(found['height'])}; {found['different_sizes']} different sizes",
    }
    if found["unreadable"]:
        rows["unreadable"] = f"{found['unreadable']} (see motes data check)"
    if found["ignored"]:
        rows["ignored"] = f"{found['ignored']} px"
    if found["unknown"]:
        shown = [f"({', '.join(map(str, u['colour']))}) x {u['pixels']} px" for u in found["unknown"][:6]]
        more = f", and {len(found['unknown']) - 6} more" if len(found["unknown"]) > 6 else ""
        rows["unknown colours"] = f"{len(found['unknown'])}: {', '.join(shown)}{more}"
    for name, value in rows.items():
        table.add_row(name, value)
    console = _console()
    console.print(table)
    splits = {name: s for name, s in found["splits"].items() if s["images"]}
    classes = Table("class", box=None)
    for column in ("id", "pixels", "share", "images", *splits):
        classes.add_column(column, justify="right")
    for name, c in found["classes"].items():
        share = "-" if c["share"] is None else f"{c['share']:.3%}"
        counts = [str(s["classes"][name] or "") for s in splits.values()]
        classes.add_row(
            name, str(c["id"]), str(c["pixels"] or ""), share if c["pixels"] else "", str(c["images"] or ""), *counts
        )
    console.print()
    console.print(classes)
    if splits:
        table = Table("split", box=None)
        for column in ("images", "masks", "missing"):
            table.add_column(column, justify="right")
        for name, s in splits.items():
            table.add_row(name, str(s["images"]), str(s["masks"]), str(s["missing"] or ""))
        console.print()
        console.print(table)


def _spread(s: dict[str, float] | None) -> str:
    return f"{s['min']:g} to {s['max']:g}, median {s['median']:g}" if s else "-"


def _show_findings(dataset: Dataset, findings: list[Finding], every: bool) -> None:
    from rich.table import Table

    console = _console()
    if not findings:
        console.print(f"{dataset.root}: {len(dataset.samples)} images, nothing found")
        return
    table = Table("severity", "finding", box=None)
    table.add_column("times", justify="right")
    table.add_column("where: what")
    kinds = dict.fromkeys(f.kind for f in findings)
    for kind in kinds:
        same = [f for f in findings if f.kind == kind]
        for n, f in enumerate(same if every else same[:3]):
            head = (f.severity, kind, str(len(same))) if n == 0 else ("", "", "")
            table.add_row(*head, f"{f.subject}: {f.message}")
        if not every and len(same) > 3:
            table.add_row("", "", "", f"... and {len(same) - 3} more (--all)")
    console.print(table)
    counts = ", ".join(
        f"{n} {s}{'s' * (n != 1)}"
        for s in ("error", "warning", "note")
        if (n := sum(f.severity == s for f in findings))
    )
    console.print(f"{dataset.root}: {len(dataset.samples)} images, {counts}")
