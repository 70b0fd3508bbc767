"""``motes score`` of boxes in a COCO file or a CSV table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from motes.metrics import BoxScore


def is_boxes(folders: list[Path], merge: bool) -> bool:
    """Whether PRED is a file of boxes, or the shards to be merged are of boxes."""
    if not folders:
        return False
    if not merge:
        return folders[0].suffix.lower() in (".json", ".csv") and not folders[0].is_dir()
    import zipfile

    try:
        with zipfile.ZipFile(folders[0] / "state.npz") as file:
            return "boxes_of.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def score_box_file(
    folders: list[Path],
    output: Path,
    protocol: str,
    threshold: float | None,
    split: str | None,
    names: Path | None,
    shard: str | None,
    merge: bool,
    as_json: bool,
) -> None:
    """Score the boxes of a file against a data set, or put shards together."""
    from motes.cli.score import merged

    if merge:
        from motes.metrics import BoxScore

        score, run = merged(folders, BoxScore, lambda part: part.names)
    else:
        score, run = _score(folders, protocol, threshold, split, names, shard)
    _write(output, run, score, as_json)


def _score(
    folders: list[Path],
    protocol: str,
    threshold: float | None,
    split: str | None,
    names: Path | None,
    shard: str | None,
) -> tuple[BoxScore, dict[str, Any]]:
    import numpy as np

    from motes.cli.progress import progress
    from motes.cli.score import _shard
    from motes.data import open_dataset
    from motes.data.annotations import box_class_names, noted, read_boxes
    from motes.data.box_files import read_coco
    from motes.data.lists import listed
    from motes.errors import DataError
    from motes.imaging import image_size
    from motes.metrics import BoxScore, box_protocol
    from motes.metrics.box_tables import Found, read_found

    if len(folders) != 2:
        raise DataError(f"got {len(folders)} paths, expected two: a file of boxes and a data set")
    rule = box_protocol(protocol)
    rule = rule if threshold is None else rule.at(threshold)
    dataset = open_dataset(folders[1])
    samples = listed(dataset, str(names)) if names is not None else dataset.split(split)
    classes = box_class_names(dataset.split())
    files = {s.boxes for s in samples if s.boxes and s.boxes.suffix == ".json" and s.boxes.stem not in dataset.samples}
    coco = [read_coco(f) for f in sorted(files)]
    ids = {entry["id"]: stem for c in coco for stem, entry in c.images.items()}
    categories = {k: name for c in coco for k, name in c.classes.items()}
    found = read_found(folders[0], ids if len(coco) == 1 else None, categories or dict(enumerate(classes, 1)))
    unknown = [name for name in found if name not in dataset.samples]
    if found and len(unknown) == len(found):
        raise DataError(
            f"no image of {folders[0]} is in {folders[1]} ('{unknown[0]}', '{samples[0].name}')",
            "images are matched by their names without suffix",
        )
    if shard is not None:
        part, parts = _shard(shard)
        samples = samples[part - 1 :: parts]
    score = BoxScore(rule, classes)
    with noted() as notes, progress("scoring", len(samples)) as advance:
        for sample in samples:
            mine = found.get(sample.name, Found())
            labels = mine.labels(classes, str(folders[0]))
            truth = read_boxes(sample, classes, rule.reader)
            size = image_size(sample.image)
            score.update(mine.array(), np.array(mine.scores), labels, *truth, size=size, name=sample.name)
            advance()
    return score, {
        "data": str(folders[1]),
        "split": split or (names.stem if names else None),
        "model": None,
        "weights_sha256": None,
        "predictions": str(folders[0]),
        "shard": shard,
        "missing": [],
        "failed": {},
        "without_truth": unknown,
        "notes": notes,
    }


def _write(output: Path, run: dict[str, Any], score: BoxScore, as_json: bool) -> None:
    import numpy as np

    from motes.imaging import atomic_path
    from motes.metrics import report
    from motes.metrics.box_report import box_notes, box_table, write_box_curves

    metrics, facts = score.compute(), score.facts()
    run = {**facts, **run, **facts}  # of merged shards, the facts of all
    report.write_metrics(output / "metrics.json", run, metrics)
    report.write_per_image(output / "per_image.csv", score)
    write_box_curves(output / "curves.json", score)
    with atomic_path(output / "state.npz") as temporary:
        np.savez_compressed(temporary, **score.state())  # type: ignore[arg-type]
    if as_json:
        typer.echo(report.metrics_json(run, metrics))
    else:
        from rich.console import Console

        typer.echo(
            f"{run['predictions']} against {run['data']}: {facts['images']} images, {facts['targets']} targets, "
            f"{facts['detections']} boxes found, protocol {facts['protocol']}"
        )
        Console().print(box_table(metrics))
        for line in [*box_notes(facts), *run["notes"]]:
            typer.echo(line)
        typer.echo(f"written: {output / 'metrics.json'}, per_image.csv, curves.json")
    if unknown := run["without_truth"]:
        few = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        typer.echo(f"{len(unknown)} images of the file are not in the data set and were left out: {few}", err=True)
