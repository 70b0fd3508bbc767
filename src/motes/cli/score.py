"""``motes score``: the numbers of anybody's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from motes.metrics import Protocol, SegmentationScore
    from motes.metrics.folders import Pairs


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("score")(score_command)


def score_command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="PRED_DIR GT_DIR",
            help="A folder of maps, then a folder of masks (or a data set); or a .json/.csv of boxes and a data set.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for metrics.json and per_image.csv.")],
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="The rules: native, dnanet, ...")] = "native",
    threshold: Annotated[
        float | None, typer.Option(min=0.0, help="Instead of the protocol's; compared as map > T.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Score this split only, where GT_DIR is a data set.")] = None,
    names: Annotated[Path | None, typer.Option(help="Score only the images listed in this file, one a line.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="The count that means 1; default 255 for 8-bit, 65535 for 16-bit.")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The maps are logits.")] = False,
    classes: Annotated[
        str | None, typer.Option(help="The maps are class maps: isaid, potsdam, ..., or a class list.")
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Score part I of N (1/4 ... 4/4).")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put shards together: motes score --merge OUT1 OUT2.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of the table.")] = False,
) -> None:
    """Score maps, masks or boxes of any method against ground truth; with --classes, class maps.

    Maps and masks are paired by file name; endings like _Pred or _pixels0 do not matter. Exit 1 where an image could
    not be scored: the others are, and the list says which.
    """
    from motes.errors import DataError
    from motes.imaging import check_writable

    check_writable(output)
    from motes.cli.score_boxes import is_boxes, score_box_file

    if is_boxes(folders, merge):
        given = {"--classes": classes is not None, "--scale": scale is not None, "--logits": logits}
        if wrong := [name for name, value in given.items() if value]:
            raise DataError(f"{wrong[0]} is for maps, and {folders[0]} holds boxes", "leave it out")
        score_box_file(folders, output, protocol, threshold, split, names, shard, merge, as_json)
        return
    if classes is not None:
        from motes.cli.score_classes import score_class_maps

        given = {"--protocol": protocol != "native", "--threshold": threshold is not None, "--scale": scale is not None}
        if wrong := [name for name, value in (given | {"--logits": logits}).items() if value]:
            raise DataError(f"{wrong[0]} is for probability maps, and --classes for class maps", "leave one out")
        score_class_maps(folders, output, classes, split, names, shard, merge, as_json)
        return
    if merge:
        from motes.metrics import SegmentationScore

        score, run = merged(folders, SegmentationScore, lambda part: part.names)
    else:
        rule = find_rule(protocol, threshold)
        pairs, run = compared(folders, split, names, shard)
        score, run["failed"], run["notes"] = score_pairs(pairs, rule, scale, logits)
    _write(output, run, score, as_json)
    if run["missing"] or run["failed"]:
        raise typer.Exit(1)


def compared(
    folders: list[Path], split: str | None, names: Path | None, shard: str | None
) -> tuple[Pairs, dict[str, Any]]:
    """The pairs of PRED_DIR and GT_DIR, and what metrics.json says of them."""
    from motes.errors import DataError

    if len(folders) != 2:
        raise DataError(
            f"got {len(folders)} folders, expected two: PRED_DIR GT_DIR", "to put shards together, add --merge"
        )
    pairs, masks = find_pairs(folders[0], folders[1], split, names, shard)
    return pairs, {
        "data": str(folders[1]),
        "split": split or (names.stem if names else None),
        "model": None,
        "weights_sha256": None,
        "predictions": str(folders[0]),
        "shard": shard,
        "missing": pairs.missing,
        "without_mask": len(pairs.extra) if len(masks) == len(pairs.pairs) + len(pairs.missing) else 0,
    }


def find_rule(name: str, threshold: float | None) -> Protocol:
    from motes.metrics import protocol

    rule = protocol(name)
    return rule if threshold is None else rule.at(threshold)


def find_pairs(maps: Path, truth: Path, split: str | None, names: Path | None, shard: str | None) -> tuple[Pairs, dict]:
    from dataclasses import replace

    from motes.metrics.folders import image_files, pair

    masks = _masks(truth, split)
    if names is not None:
        masks = _listed(masks, names)
    found = pair(image_files(maps, "maps"), masks)
    if shard is not None:
        part, parts = _shard(shard)
        mine = set(list(masks)[part - 1 :: parts])
        found = replace(
            found,
            pairs=[p for p in found.pairs if p[0] in mine],
            missing=[m for m in found.missing if m in mine],
        )
    return found, masks


def _masks(truth: Path, split: str | None) -> dict[str, Path]:
    """Masks by name: of a folder of images, else of a data set."""
    from motes.errors import DataError
    from motes.imaging import is_image_path
    from motes.metrics.folders import image_files

    if split is None and not (truth.is_dir() and _is_data_set(truth)):
        return image_files(truth, "masks")
    if truth.is_dir() and any(is_image_path(p) for p in truth.iterdir()):
        raise DataError(f"{truth} is a folder of masks, and has no split '{split}'", "give a list by --names FILE")
    from motes.data import open_dataset

    samples = open_dataset(truth).split(split)
    masks = {s.name: s.mask for s in samples if s.mask is not None}
    if not masks:
        raise DataError(f"{truth} has no masks to score against")
    return masks


def _is_data_set(folder: Path) -> bool:
    from motes.errors import DataError
    from motes.imaging import is_image_path

    if any(is_image_path(p) for p in folder.iterdir()):
        return False
    from motes.data import open_dataset

    try:
        return any(s.mask is not None for s in open_dataset(folder).samples.values())
    except DataError:
        return False


def _listed(masks: dict[str, Path], names: Path) -> dict[str, Path]:
    from motes.errors import DataError
    from motes.metrics.folders import shorter_names
    from motes.naming import nearest

    try:
        lines = names.read_text(encoding="utf-8-sig").split()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as e:
        raise DataError(f"{names}: expected a text file with one image name a line, found {_what(e)}") from None
    known = {name: stem for stem in masks for name in reversed(shorter_names(stem))} | {stem: stem for stem in masks}
    listed = {}
    for line in dict.fromkeys(lines):
        stem = known.get(line) or next((known[n] for n in shorter_names(Path(line).stem) if n in known), None)
        if stem is None:
            close = nearest(line, known)
            raise DataError(
                f"{names} lists '{line}', and no mask has that name", f"nearest: '{close}'" if close else None
            )
        listed[stem] = masks[stem]
    if not listed:
        raise DataError(f"{names} lists no image")
    return listed


def _what(error: Exception) -> str:
    return {"FileNotFoundError": "nothing", "IsADirectoryError": "a folder"}.get(type(error).__name__, "other data")


def _shard(text: str) -> tuple[int, int]:
    from motes.errors import DataError

    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise DataError(f"--shard '{text}' is not I/N with I from 1 to N", "for four processes: 1/4, 2/4, 3/4, 4/4")


def score_pairs(
    pairs: Pairs, rule: Protocol, scale: float | None, logits: bool, sweep: Sequence[float] | None = None
) -> tuple[SegmentationScore, dict[str, str], list[str]]:
    """The score, what went wrong by name, and what the user should know."""
    from motes.errors import DataError, MotesError
    from motes.imaging import read_mask
    from motes.metrics import SegmentationScore
    from motes.metrics.curves import SWEEP
    from motes.metrics.folders import full_scale_of, read_map

    score = SegmentationScore(rule, sweep=SWEEP if sweep is None else sweep)
    failed: dict[str, str] = {}
    notes: dict[str, int] = {}
    if scale is None and not logits and (scale := _guarded(full_scale_of, [p for _, p, _ in pairs.pairs])):
        notes["the maps hold only 0 and 1: taken as masks (--scale says otherwise)"] = 0
    for name, map_file, mask_file in _watched(pairs.pairs):
        try:
            probability = read_map(map_file, scale, logits)
            label, note = _fitted(read_mask(mask_file), probability.shape, rule, map_file, mask_file)
            score.update(probability, label, name)
            if note:
                notes[note] = notes.get(note, 0) + 1
        except MotesError as e:
            failed[name] = str(e)
    if not len(score) and failed:
        first = next(iter(failed.values()))
        raise DataError(first, f"and so for all {len(failed)} images" if len(failed) > 1 else None)
    return score, failed, [f"{note} ({n} images)" if n else note for note, n in notes.items()]


def _guarded(function, *arguments):
    """None where a file is unreadable: the loop over all files reports that."""
    from motes.errors import MotesError

    try:
        return function(*arguments)
    except MotesError:
        return None


def _fitted(label, shape: tuple[int, ...], rule: Protocol, map_file: Path, mask_file: Path):
    """The mask at the size of the map where the protocol says so; sizes are never made equal otherwise."""
    from motes.errors import DataError
    from motes.imaging import resize

    size = rule.resolution
    fixed = f"{size[0]}x{size[1]}" if size else ""
    if label.shape == shape:
        if size is None or shape == size:
            return label, None
        return label, f"protocol {rule.name} is defined at {fixed}; these maps were scored at the size they have"
    if size == shape:
        resized = resize(label.astype("uint8")[:, :, None], size, rule.mask_filter)[:, :, 0] > 0
        return resized, f"masks were resized to {fixed} ({rule.mask_filter}), as protocol {rule.name} says"
    mine, theirs = (f"{h}x{w}" for h, w in (shape, label.shape))
    hint = (
        f"protocol {rule.name} needs {fixed} maps"
        if size
        else "maps are never resized here: save them at the size of the image"
    )
    raise DataError(f"{map_file} is {mine} and its mask {mask_file.name} {theirs}, expected the same size", hint)


def merged(folders: list[Path], kind: Any, images: Callable[[Any], Sequence[str]]) -> tuple[Any, dict[str, Any]]:
    """The outputs of several shards as one score of a ``kind``, whose images' names ``images`` gives."""
    import json
    import zipfile

    import numpy as np

    from motes.errors import DataError

    total: Any = None
    run: dict[str, Any] = {}
    for folder in folders:
        try:
            with np.load(folder / "state.npz", allow_pickle=False) as file:
                score = kind.from_state(dict(file))
            part = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["run"]
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{folder} holds no state.npz and metrics.json, expected an output of motes score"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
            raise DataError(
                f"{folder}: state.npz or metrics.json is damaged, or not of the same kind of maps: {e}",
                "class maps are merged with --classes, others without",
            ) from None
        if total is None:
            total, run = score, part
            continue
        twice = sorted(set(images(total)) & set(images(score)) - {""})
        if twice:
            raise DataError(f"{folder} holds '{twice[0]}', which an earlier folder holds too", "merge disjoint shards")
        total.merge(score)
        run["missing"] = run["missing"] + part["missing"]
        run["failed"] = run["failed"] | part["failed"]
        if "notes" in part:
            run["notes"] = list(dict.fromkeys(run["notes"] + part["notes"]))
    return total, run | {"shard": None}


def _watched(pairs: list) -> Iterable:
    import sys

    if not sys.stderr.isatty():
        return pairs
    from rich.console import Console
    from rich.progress import track

    return track(pairs, "scoring", console=Console(stderr=True), transient=True)


def _write(output: Path, run: dict[str, Any], score: SegmentationScore, as_json: bool) -> None:
    import numpy as np

    from motes.imaging import atomic_path
    from motes.metrics import report

    metrics, facts = score.compute(), score.facts()
    run = {**facts, **run, **facts}  # of merged shards, the facts of all
    report.write_metrics(output / "metrics.json", run, metrics)
    report.write_per_image(output / "per_image.csv", score)
    report.write_curves(output / "curves.json", score)
    with atomic_path(output / "state.npz") as temporary:
        np.savez_compressed(temporary, **score.state())  # type: ignore[arg-type]
    if as_json:
        typer.echo(report.metrics_json(run, metrics))
    else:
        from rich.console import Console

        typer.echo(
            f"{run['predictions']} against {run['data']}: {facts['images']} images, {facts['targets']} targets, "
            f"protocol {facts['protocol']}"
        )
        Console().print(report.results_table(metrics))
        for line in report.notes(facts) + run["notes"]:
            typer.echo(line)
        typer.echo(f"written: {output / 'metrics.json'}, per_image.csv, curves.json")
    tell_what_is_left_out(run)


def tell_what_is_left_out(run: dict[str, Any]) -> None:
    """One line on stderr for each image that could not be scored, and for maps or masks without the other."""
    for name, reason in run["failed"].items():
        typer.echo(f"not scored: {name}: {reason}", err=True)
    if run["missing"]:
        few = ", ".join(run["missing"][:5]) + (", ..." if len(run["missing"]) > 5 else "")
        typer.echo(
            f"no map for {len(run['missing'])} masks, which were left out: {few} (all in metrics.json)", err=True
        )
    if run["without_mask"]:
        typer.echo(f"{run['without_mask']} maps have no mask and were left out", err=True)
