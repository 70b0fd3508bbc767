"""``motes score --classes``: class maps of any method, as ids, palettes or colours, against labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from motes.data.classes import ClassTable
    from motes.metrics import ClassScore
    from motes.metrics.folders import Pairs


def score_class_maps(
    folders: list[Path],
    output: Path,
    classes: str,
    split: str | None,
    names: Path | None,
    shard: str | None,
    merge: bool,
    as_json: bool,
) -> None:
    """Scores a folder of class maps, or puts shards together. Exit 1 where an image could not be scored."""
    from motes.cli.score import find_pairs
    from motes.data.classes import class_table
    from motes.errors import DataError

    table = class_table(classes)
    if merge:
        score, run = _merged(folders)
    else:
        if len(folders) != 2:
            raise DataError(
                f"got {len(folders)} folders, expected two: PRED_DIR GT_DIR", "to put shards together, add --merge"
            )
        pairs, masks = find_pairs(folders[0], folders[1], split, names, shard)
        score, failed = score_pairs(pairs, table)
        run = {
            "data": str(folders[1]),
            "split": split or (names.stem if names else None),
            "model": None,
            "weights_sha256": None,
            "predictions": str(folders[0]),
            "class_table": table.name,
            "shard": shard,
            "missing": pairs.missing,
            "without_mask": len(pairs.extra) if len(masks) == len(pairs.pairs) + len(pairs.missing) else 0,
            "failed": failed,
        }
    _write(output, run, score, as_json)
    if run["missing"] or run["failed"]:
        raise typer.Exit(1)


def score_pairs(pairs: Pairs, table: ClassTable) -> tuple[ClassScore, dict[str, str]]:
    """The score, and what went wrong by name."""
    from motes.cli.progress import progress
    from motes.data.labels import read_labels
    from motes.errors import DataError, MotesError
    from motes.inference.class_run import background_of
    from motes.metrics import ClassScore

    score = ClassScore(table.names, table.ignore, background=background_of(table.names))
    failed: dict[str, str] = {}
    with progress("scoring", len(pairs.pairs)) as advance:
        for name, map_file, mask_file in pairs.pairs:
            try:
                found, label = read_labels(map_file, table), read_labels(mask_file, table)
                if found.shape != label.shape:
                    mine, theirs = (f"{a.shape[1]}x{a.shape[0]}" for a in (found, label))
                    raise DataError(
                        f"{map_file} is {mine} and its mask {mask_file.name} {theirs} (width x height)",
                        "class maps are never resized here: save them at the size of the image",
                    )
                score.update(found, label, name)
            except MotesError as e:
                failed[name] = str(e)
            advance()
    if not len(score) and failed:
        first = next(iter(failed.values()))
        raise DataError(first, f"and so for all {len(failed)} images" if len(failed) > 1 else None)
    return score, failed


def _merged(folders: list[Path]) -> tuple[ClassScore, dict[str, Any]]:
    import json
    import zipfile

    import numpy as np

    from motes.errors import DataError
    from motes.metrics import ClassScore

    total: ClassScore | None = None
    run: dict[str, Any] = {}
    for folder in folders:
        try:
            with np.load(folder / "state.npz", allow_pickle=False) as file:
                score = ClassScore.from_state(dict(file))
            part = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["run"]
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{folder} holds no state.npz and metrics.json, expected an output of motes score --classes"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
            raise DataError(f"{folder}: state.npz or metrics.json is damaged, or not of class maps: {e}") from None
        if total is None:
            total, run = score, part
            continue
        twice = sorted(set(total.images) & set(score.images) - {""})
        if twice:
            raise DataError(f"{folder} holds '{twice[0]}', which an earlier folder holds too", "merge disjoint shards")
        total.merge(score)
        run["missing"] = run["missing"] + part["missing"]
        run["failed"] = run["failed"] | part["failed"]
    assert total is not None  # typer asks for one folder at least
    return total, run | {"shard": None}


def _write(output: Path, run: dict[str, Any], score: ClassScore, as_json: bool) -> None:
    import numpy as np

    from motes.imaging import atomic_path
    from motes.metrics import report
    from motes.metrics.class_report import WIDTH, class_notes, class_table, summary_table

    metrics, facts = score.compute(), score.facts()
    run = {**run, **facts}
    report.write_metrics(output / "metrics.json", run, metrics)
    report.write_per_image(output / "per_image.csv", score)
    with atomic_path(output / "state.npz") as temporary:
        np.savez_compressed(temporary, **score.state())  # type: ignore[arg-type]
    if as_json:
        typer.echo(report.metrics_json(run, metrics))
    else:
        from rich.console import Console

        console = Console()
        console.width = max(console.width, WIDTH)
        console.print(class_table(metrics, facts))
        console.print(summary_table(metrics, facts, f"{run['predictions']} against {run['data']}"))
        for line in class_notes(facts):
            typer.echo(line)
        typer.echo(f"written: {output / 'metrics.json'}, per_image.csv")
    for name, reason in run["failed"].items():
        typer.echo(f"not scored: {name}: {reason}", err=True)
    if run["missing"]:
        few = ", ".join(run["missing"][:5]) + (", ..." if len(run["missing"]) > 5 else "")
        typer.echo(
            f"no map for {len(run['missing'])} masks, which were left out: {few} (all in metrics.json)", err=True
        )
    if run["without_mask"]:
        typer.echo(f"{run['without_mask']} maps have no mask and were left out", err=True)
