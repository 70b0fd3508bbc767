"""``motes detect``: images in, targets out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motes.cli.settings import HELP as SETTINGS

if TYPE_CHECKING:
    from motes.inference import Backend, Detections, Detector
    from motes.inference.box_detector import BoxDetector
    from motes.inference.run import Summary

ROWS = 20
"""Lines of the table at the end; the files hold all."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("detect")(detect)


def detect(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Images, folders, patterns ('*.tif'), or - for a list on stdin."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A .onnx file, a shipped network, or a training-free method: tophat, mpcm ..."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="onnx, openvino, openvino-bf16 or torch (needs motes\\[train]).")
    ] = "onnx",
    threshold: Annotated[
        float | None, typer.Option("--threshold", "-t", help="Probability above which a pixel is target.")
    ] = None,
    fa: Annotated[
        float | None, typer.Option(help="Instead: tolerated false alarms per megapixel, by the network's calibration.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", "-f", help="csv,json,coco,yolo,voc: any of them, with commas.")
    ] = "csv",
    save_prob: Annotated[bool, typer.Option("--save-prob", help="Write probability maps as float TIFF.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write pictures with the targets.")] = True,
    only_sky: Annotated[
        bool,
        typer.Option("--only-sky", help="Only targets in what the network takes for sky (networks with a sky branch)."),
    ] = False,
    resize: Annotated[
        str | None, typer.Option(metavar="HxW", help="Boxes: resize frames to this before, as 512x512; default: not.")
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of a tile in px; larger frames are cut.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles in px.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Descend into folders.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished images again.")] = False,
    limit_threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=SETTINGS)] = None,
) -> None:
    """Find targets in images.

    Writes targets.csv, masks/ and overlays/ into the folder OUT; a network that answers with boxes has no masks, but
    sky/ where it knows the sky. Images that are finished there are skipped, so an
    interrupted run goes on with the same command. Exit code 1: some files could not be read, all others are done.
    """
    from motes.errors import DataError
    from motes.inference.run import FolderRun
    from motes.inference.sources import frames_of
    from motes.inference.writers import parse_formats

    wanted = parse_formats(formats)
    frames = frames_of(sources, recursive=recursive, exclude=out)
    detector = _detector(
        model, backend, settings or [], limit_threads, threshold=threshold, fa=fa, tile=tile, overlap=overlap,
        size=parse_size(resize) if resize else None, only_sky=only_sky,
    )  # fmt: skip
    run = FolderRun(detector, out, wanted, overlay, save_prob, overwrite, say=_say)
    summary = run.run(frames, _bar(len(frames)))
    if summary.failed and not summary.results:
        if len(frames) == 1:
            raise DataError(summary.failed[0])
        raise DataError(f"none of {len(frames)} files could be read; the first: {summary.failed[0]}")
    _report(summary, detector, out)
    if summary.failed:
        raise typer.Exit(1)


def _detector(
    model: str | None, backend: str, settings: Sequence[str], threads: int | None, **options: Any
) -> Detector | BoxDetector:
    from motes.cli.settings import settings as read_settings
    from motes.errors import CardError, MotesError
    from motes.inference.backend import BACKENDS
    from motes.inference.detector import open_detector
    from motes.naming import look_up

    look_up("backend", backend, (*BACKENDS, "torch"), MotesError)
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    if backend == "torch":
        if settings:
            raise CardError("--set is for training-free methods")
        return open_detector(backend=torch_backend(model, threads), **options)
    return open_detector(model, backend, threads=threads, settings=read_settings(settings), **options)


def parse_size(text: str) -> tuple[int, int]:
    """``"512x640"`` -> (512, 640): height, width."""
    from motes.errors import MotesError

    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise MotesError(f"--resize {text}: expected height x width in px, for instance 512x512")
    return int(height), int(width)


def torch_backend(model: str | None, threads: int | None) -> Backend:
    """The lab's backend; imported here because the field half never imports PyTorch."""
    from motes.errors import CheckpointError, MissingExtraError

    if model is None:
        raise CheckpointError("--backend torch needs a weight file", "--model best.safetensors")
    try:
        from motes.checkpoints.backend import load_torch_backend
        from motes.models.allocator import keep_freed_memory

        keep_freed_memory()
        backend: Any = load_torch_backend(model, threads=threads)
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("motes"):
            raise
        raise MissingExtraError("the torch backend", "train") from None
    backend.path = Path(model)  # so that other weights under the same card count as changed settings
    loaded: Backend = backend
    return loaded


def _say(text: str) -> None:
    print(f"motes: {text}", file=sys.stderr)


def _bar(count: int) -> Callable[[Sequence], Iterable]:
    """A progress bar for several images on a terminal; nothing for one, whose import would cost more than the image."""
    if count < 2 or not sys.stderr.isatty():
        return iter

    def bar(items: Sequence) -> Iterable:
        from rich.console import Console
        from rich.progress import track

        return track(items, "detecting", console=Console(stderr=True), transient=True)

    return bar


def _report(summary: Summary, detector: Detector | BoxDetector, out: Path) -> None:
    from motes.inference.writers import plain_table

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if len(summary.results) == 1:
        rows, header = target_rows(summary.results[0]), TARGET_HEADER
    else:
        header = ("image", "size", "targets", "best", "SCR")
        rows = [
            (
                found.name,
                f"{found.size[1]}x{found.size[0]}",
                str(len(found)),
                f"{found.scores[0]:.3f}" if len(found) else "-",
                f"{found.scr[0]:.1f}" if len(found) else "-",
            )
            for found in summary.results
        ]
    if rows:
        print(plain_table(rows[:ROWS], header))
        if len(rows) > ROWS:
            print(f"... and {len(rows) - ROWS} more in {out / 'targets.csv'}")
        print()
    images = len(summary.results)
    new = images - summary.skipped
    pace = f", {summary.seconds / new:.2f} s an image" if new > 0 and summary.seconds else ""
    print(
        f"{_many(summary.targets, 'target')} in {_many(images, 'image')}{pace}  "
        f"({detector.card.name}, p > {detector.threshold:.3g})  ->  {out}"
    )
    if summary.failed:
        print(f"motes: {_many(len(summary.failed), 'file')} could not be read:", file=sys.stderr)
        for sentence in summary.failed:
            print(f"  {sentence}", file=sys.stderr)


TARGET_HEADER = ("", "x", "y", "width", "height", "area", "score", "SCR")


def target_rows(found: Detections) -> list[tuple[str, ...]]:
    """The targets of one image as text, under `TARGET_HEADER`."""
    return [
        (
            str(i + 1),
            f"{row['x']:.2f}",
            f"{row['y']:.2f}",
            str(row["x2"] - row["x1"]),
            str(row["y2"] - row["y1"]),
            str(row["area"]),
            f"{row['score']:.3f}",
            "-" if row["scr"] is None else f"{row['scr']:.1f}",
        )
        for i, row in enumerate(found.to_rows())
    ]


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
