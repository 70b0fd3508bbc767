"""``motes calibrate``: the user's own empty frames in, a threshold out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motes.cli.settings import HELP as SETTINGS

if TYPE_CHECKING:
    from motes.data import Sample
    from motes.inference import Detector
    from motes.inference.box_detector import BoxDetector
    from motes.inference.calibration_files import Calibration
    from motes.inference.calibration_run import Counts


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("calibrate", epilog="Example: motes calibrate empty/ -o calibration --rate 0.2 --per frame")(calibrate)


def calibrate(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FRAMES...", help="Frames without targets: images, folders, patterns, or - for stdin."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A .onnx file, a shipped network, or a training-free method."),
    ] = None,
    rate: Annotated[float, typer.Option(help="False alarms that are wanted at most.")] = 0.2,
    per: Annotated[str, typer.Option(help="Per frame or per megapixel.")] = "frame",
    labelled: Annotated[
        Path | None, typer.Option(help="A data set with targets: what share of them is found at each threshold.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Its split, or a .txt list of ids; default: all frames.")] = None,
    backend: Annotated[str, typer.Option(help="onnx, openvino or openvino-bf16.")] = "onnx",
    resize: Annotated[
        str | None, typer.Option(metavar="HxW", help="Boxes: resize frames to this before, as motes detect does.")
    ] = None,
    only_sky: Annotated[
        bool, typer.Option("--only-sky", help="Only what lies in the sky (networks with a sky branch).")
    ] = False,
    tile: Annotated[int | None, typer.Option(help="Side of a tile in px; larger frames are cut.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles in px.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Descend into folders.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Count finished images again.")] = False,
    limit_threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=SETTINGS)] = None,
) -> None:
    """Set a network's threshold from your own frames without targets.

    Runs over them at their own size, counts blobs at 151 thresholds, and takes the lowest threshold from which on they
    are at most the wanted rate. Writes a copy of the network with that threshold in it, the curve (calibration.csv,
    .json, .png) and the strongest false alarms (strongest.csv, .png). An interrupted run goes on with the same command.
    Exit code 1: some files could not be read, all others count.
    """
    from motes.errors import DataError, MissingExtraError, MotesError
    from motes.imaging import check_writable
    from motes.inference.calibration import check_rate
    from motes.inference.calibration_files import Calibration
    from motes.inference.sources import frames_of

    check_rate(rate, per)
    frames = frames_of(sources, recursive=recursive, exclude=out)
    samples = _labelled(labelled, split)
    detector = _detector(
        model, backend, settings or [], limit_threads, tile=tile, overlap=overlap, size=resize, only_sky=only_sky
    )
    check_writable(out)
    counts = _count(detector, out, overwrite, frames, samples)
    if not counts.empty:
        raise DataError(
            counts.failed[0]
            if len(frames) == 1
            else f"none of {len(frames)} files could be read; the first: {counts.failed[0]}"
        )
    found = Calibration(detector, counts, rate, per)
    again = _again(tile=tile, overlap=overlap, backend=backend, resize=resize, only_sky=only_sky, settings=settings)
    warnings = _trained_on(detector, counts, samples)
    try:
        found.write(out, again, warnings)
    except MissingExtraError as e:
        warnings.append(str(e))
    _report(found, out, again, warnings)
    if found.k is None:
        last = found.row(len(found.curve.thresholds) - 1)
        raise MotesError(
            f"no threshold brings these {len(counts.empty)} frames down to {rate:g} false alarms a {per}: "
            f"{last[f'per_{per}']:.3g} are above {last['threshold']:.7g}",
            f"look at {out / 'strongest.png'}: are they targets, or hot pixels?",
        )
    if counts.failed:
        raise typer.Exit(1)


def _labelled(root: Path | None, split: str | None) -> list[Sample]:
    from motes.cli.evaluate import frames
    from motes.errors import DataError

    if root is None:
        if split is not None:
            raise DataError("--split goes with --labelled", "--labelled FOLDER --split NAME")
        return []
    return frames(root, split, None, None, None, None)[0]


def _detector(
    model: str | None, backend: str, settings: Sequence[str], threads: int | None, size: str | None, **options: Any
) -> Detector | BoxDetector:
    from motes.cli.detect import parse_size
    from motes.cli.settings import settings as read_settings
    from motes.errors import MotesError
    from motes.inference.backend import BACKENDS
    from motes.inference.detector import open_detector
    from motes.naming import look_up

    look_up("backend", backend, BACKENDS, MotesError)
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    named = read_settings(settings)
    return open_detector(
        model, backend, threads=threads, settings=named, size=parse_size(size) if size else None, **options
    )


def _count(
    detector: Detector | BoxDetector, out: Path, overwrite: bool, frames: Sequence, samples: Sequence[Sample]
) -> Counts:
    from motes.inference.calibration_run import CalibrationRun

    run = CalibrationRun(detector, out, overwrite, say=_say)
    if not sys.stderr.isatty() or len(frames) + len(samples) < 2:
        return run.run(frames, samples)
    from motes.cli.progress import progress

    with progress("counting", len(frames) + len(samples)) as advance:
        return run.run(frames, samples, advance)


def _again(**options: Any) -> list[str]:
    """What `motes detect` must be told too, for the same pixels."""
    words = []
    for name in ("tile", "overlap", "resize"):
        if options[name] is not None:
            words += [f"--{name}", str(options[name])]
    if options["backend"] != "onnx":
        words += ["--backend", options["backend"]]
    if options["only_sky"]:
        words.append("--only-sky")
    for setting in options["settings"] or ():
        words += ["--set", setting]
    return words


def _trained_on(detector: Detector | BoxDetector, counts: Counts, samples: Sequence[Sample]) -> list[str]:
    """A warning where the network knows frames from its training."""
    from motes.data import Sample
    from motes.evaluation.run import overlap

    if not detector.card.training.get("frames"):
        return []
    empty = [Sample(c.image, Path(c.path)) for c in counts.empty if c.page == 0]
    return overlap(detector.card, [*empty, *samples])


def _report(found: Calibration, out: Path, again: Sequence[str], warnings: Sequence[str]) -> None:
    from motes.inference.writers import plain_table

    curve, per = found.curve, found.per
    card = curve.at(found.detector.card.threshold)
    rows = [("before", found.row(card))]
    if found.k is not None:
        rows.append(("chosen", found.row(found.k)))
    with_pd = "pd" in rows[0][1]
    header = ["", "threshold", "false alarms", f"a {per}", "95 % below", *(["Pd"] if with_pd else [])]
    table = [
        [
            name,
            f"{row['threshold']:.7g}",
            str(row["false_alarms"]),
            f"{row[f'per_{per}']:.3g}",
            f"{row[f'per_{per}_upper']:.3g}",
            *([f"{row['pd']:.3f} ({row['detected']}/{row['targets']})"] if with_pd else []),
        ]
        for name, row in rows
    ]
    print(plain_table(table, header))
    print()
    print(
        f"{curve.frames} {'frame' if curve.frames == 1 else 'frames'}, {curve.pixels / 1e6:.3g} megapixels without "
        f"targets; wanted: at most {found.rate:g} a {per}  ({found.detector.card.name})  ->  {out}"
    )
    for text in [*found.sentences(), *warnings]:
        _say(f"warning: {text}")
    if counts := found.counts.failed:
        print(f"motes: {len(counts)} {'file' if len(counts) == 1 else 'files'} could not be read:", file=sys.stderr)
        for sentence in counts:
            print(f"  {sentence}", file=sys.stderr)
    if found.k is not None:
        print(f"use it: {found.command(out, again)}")


def _say(text: str) -> None:
    print(f"motes: {text}", file=sys.stderr)
