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
    from motes.cli.score import compared, merged
    from motes.data.classes import class_table

    table = class_table(classes)
    if merge:
        from motes.metrics import ClassScore

        score, run = merged(folders, ClassScore, lambda part: part.images)
    else:
        pairs, run = compared(folders, split, names, shard)
        run["class_table"] = table.name
        score, run["failed"] = score_pairs(pairs, table)
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


def _write(output: Path, run: dict[str, Any], score: ClassScore, as_json: bool) -> None:
    import numpy as np

    from motes.cli.score import tell_what_is_left_out
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
    tell_what_is_left_out(run)
