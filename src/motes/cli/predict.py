"""``motes predict``: images in, one class a pixel out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from motes.inference import Backend
    from motes.inference.class_run import ClassFolderRun, ClassSummary
    from motes.inference.sources import Frame

ROWS = 20
"""Lines of the table at the end; classes.csv holds all."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("predict")(predict)


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Images, folders, patterns ('*.tif'), or - for a list on stdin."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="A .onnx file with its card inside.")] = None,
    backend: Annotated[
        str, typer.Option(help="onnx, openvino, openvino-bf16 or torch (needs motes\\[train]).")
    ] = "onnx",
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="native, window, multiscale, patch, pfnet, gaofen.")
    ] = "native",
    window: Annotated[int | None, typer.Option(help="Side of a window in px, instead of the protocol's.")] = None,
    stride: Annotated[int | None, typer.Option(help="Distance of windows in px, instead of the protocol's.")] = None,
    scales: Annotated[str | None, typer.Option(metavar="S,S", help="Average over these scales: 0.5,1,1.5.")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.")] = None,
    masks: Annotated[str, typer.Option(help="id,palette,colour: any of them, with commas; or none.")] = "id,colour",
    classes: Annotated[
        str | None, typer.Option(help="Names and colours: isaid, potsdam, ..., or a class list; default: by the card.")
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write pictures with a legend.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Windows that run at once.")] = 1,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Descend into folders.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished images again.")] = False,
    limit_threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
) -> None:
    """Give every pixel of aerial images its class.

    Writes id/, colour/, overlays/ and classes.csv into the folder OUT. Images that are finished there are skipped, so
    an interrupted run goes on with the same command. Exit code 1: some files could not be read, all others are done.
    """
    from motes.cli.progress import progress
    from motes.data.classes import class_table
    from motes.errors import DataError
    from motes.inference.class_run import ClassFolderRun
    from motes.inference.class_writers import parse_masks
    from motes.inference.sources import frames_of
    from motes.metrics.class_protocols import class_protocol

    wanted = parse_masks(masks)
    rule = class_protocol(protocol)
    table = None if classes is None else class_table(classes)
    factors = None if scales is None else parse_scales(scales)
    frames = without_labels(frames_of(sources, recursive=recursive, exclude=out))
    segmenter = _segmenter(
        model, backend, limit_threads, protocol=rule, window=window, stride=stride, scales=factors, flip=flip,
        batch=batch,
    )  # fmt: skip
    run = ClassFolderRun(segmenter, out, table, wanted, overlay, overwrite, say=_say)
    with progress("predicting", len(frames)) as advance:
        summary = run.run(frames, advance)
    if summary.failed and not summary.records:
        if len(frames) == 1:
            raise DataError(summary.failed[0])
        raise DataError(f"none of {len(frames)} files could be read; the first: {summary.failed[0]}")
    _report(summary, run)
    if summary.failed:
        raise typer.Exit(1)


def without_labels(frames: list[Frame]) -> list[Frame]:
    """The frames without the label files that iSAID keeps beside its images; says how many were left out."""
    from motes.data.aerial_layouts import COLOURS, INSTANCES

    names = {frame.path.stem for frame in frames}
    labels = {n + ending for n in names for ending in (COLOURS, INSTANCES)} & names
    if labels:
        _say(f"{len(labels)} label files (such as {min(labels)}) are no images and are left out")
    return [frame for frame in frames if frame.path.stem not in labels]


def parse_scales(text: str) -> tuple[float, ...]:
    """``"0.5,1"`` -> (0.5, 1.0)."""
    from motes.errors import MotesError

    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise MotesError(f"--scales {text}: expected numbers with commas, for instance 0.5,1,1.5") from None


def _segmenter(model: str | None, backend: str, threads: int | None, **options: Any) -> Any:
    from motes.errors import CheckpointError, MotesError
    from motes.inference.backend import BACKENDS
    from motes.inference.segmenter import Segmenter
    from motes.naming import look_up

    look_up("backend", backend, (*BACKENDS, "torch"), MotesError)
    if model is None:
        raise CheckpointError("no network for classes is shipped", "name a file: --model network.onnx")
    if backend == "torch":
        return Segmenter(backend=_torch(model, threads), **options)
    return Segmenter(model, backend, threads=threads, **options)


def _torch(model: str, threads: int | None) -> Backend:
    """The lab's backend; imported here because the field half never imports PyTorch."""
    from motes.cli.detect import torch_backend

    return torch_backend(model, threads)


def _say(text: str) -> None:
    print(f"motes: {text}", file=sys.stderr)


def _report(summary: ClassSummary, run: ClassFolderRun) -> None:
    from motes.cli.tables import text_table
    from motes.inference.class_writers import percent

    names = run.classes.names
    rows = []
    for record in summary.records[:ROWS]:
        largest = sorted(range(len(names)), key=lambda i: (-record.pixels[i], i))[:4]
        total = max(int(record.pixels.sum()), 1)
        present = ", ".join(f"{names[i]} {percent(int(record.pixels[i]) / total)}" for i in largest if record.pixels[i])
        rows.append([record.image, f"{record.size[1]}x{record.size[0]}", present])
    if rows:
        print(text_table(["image", "size", "largest classes"], rows))
        if len(summary.records) > ROWS:
            print(f"... and {len(summary.records) - ROWS} more in {run.out / 'classes.csv'}")
        print()
    count = len(summary.records)
    pace = f", {summary.pixels / 1e6 / summary.seconds:.3g} megapixel/s" if summary.pixels and summary.seconds else ""
    print(
        f"{count} image{'s' * (count != 1)}{pace}  "
        f"({run.segmenter.card.name}, protocol {run.segmenter.rule.name})  ->  {run.out}"
    )
    if summary.failed:
        print(f"motes: {len(summary.failed)} file{'s' * (len(summary.failed) > 1)} could not be read:", file=sys.stderr)
        for sentence in summary.failed:
            print(f"  {sentence}", file=sys.stderr)
