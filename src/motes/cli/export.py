"""``motes export``: weights to an ONNX file that runs without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from motes.export import BoxParity, ParityReport


EXAMPLES = """Examples:

  motes export best.safetensors -o best.onnx --data sirst --split test_v1

  motes export best.safetensors -o deploy --side 896     a folder: graph, description, comparison
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("export", epilog=EXAMPLES)(export)


def export(
    weights: Annotated[Path, typer.Argument(help="Weights: .safetensors, .pth, .pth.tar ...")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .onnx file; or a folder, which gets a description beside it.")
    ],
    model: Annotated[str | None, typer.Option(help="The network, where its names do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant, where its names do not tell.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="ROOT", help="Compare on frames of this data set too.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split; default: all frames.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many of its frames.")] = 6,
    side: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Fix height and width of the input; default: free.")
    ] = None,
) -> None:
    """Merge a network, write it as ONNX with its card inside, and compare the file with the network.

    Batch, height and width stay free, or --side fixes both. Into a folder (a name without an ending) go model.onnx and
    model.yml, which says in words and numbers what is done before and after the graph. The comparison is printed and
    written beside the file as .parity.json, of a detector that of its candidates, before doubles are suppressed; where
    ONNX Runtime and the network disagree, nothing is written.
    """
    from motes.errors import MissingExtraError, MotesError

    folder = not output.suffix or output.is_dir()
    if not folder and output.suffix.lower() != ".onnx":
        raise MotesError(
            f"{output}: expected a name that ends in .onnx, or a folder", "torch weights are written by 'motes convert'"
        )
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes export", "train") from None
    from motes.checkpoints import load_network
    from motes.export import export_onnx, frames_of, synthetic_tiles, with_side, write_deployment
    from motes.export.boxes import SIZES

    net, card = load_network(weights, model, variant)
    card = with_side(card, side) if side is not None else card
    if side is not None:
        tiles = synthetic_tiles(card, ((side, side),))
    else:
        tiles = synthetic_tiles(card, SIZES) if card.task == "detection" else synthetic_tiles(card)
    if data is not None:
        tiles += frames_of(card, data, split, frames)
    if folder:
        report = write_deployment(net, card, output, tiles)
        output = output / report.facts["file"]
    else:
        report = export_onnx(net, card, output, tiles)
    typer.echo(_table(report))
    _write_report(output, report, data, split)


def _table(report: ParityReport | BoxParity) -> str:
    from motes.export import BoxParity

    return _table_of_boxes(report) if isinstance(report, BoxParity) else _table_of_logits(report)


def _table_of_boxes(report: BoxParity) -> str:
    from motes.cli.tables import text_table

    rows = [
        [
            r.tile,
            "x".join(map(str, r.shape)),
            r.candidates,
            f"{r.score:.1e}",
            f"{r.box:.1e}",
            f"{r.sky:.1e}" if r.sky is not None else None,
            r.outside,
            r.detections,
            r.detections_of_file,
        ]
        for r in report.rows
    ]
    columns = [
        "tile",
        ">shape",
        ">candidates",
        ">score",
        ">box px",
        ">sky",
        ">beyond bounds",
        ">detections",
        ">of file",
    ]
    facts = report.facts
    beyond, of = sum(r.outside for r in report.rows), sum(r.candidates for r in report.rows)
    return (
        f"{text_table(columns, rows)}\n\n{facts['file']}: {facts['model']} ({facts['form']}), "
        f"{facts['bytes'] / 1e6:.2f} MB, {beyond} of {of} candidates differ by more than "
        f"{report.bounds.score:g} or {report.bounds.box:g} px: within bounds"
    )


def _table_of_logits(report: ParityReport) -> str:
    from motes.cli.tables import text_table

    rows = [
        [
            r.tile,
            "x".join(map(str, r.shape)),
            f"{r.largest_logit:.3g}",
            f"{r.logit:.1e}",
            f"{r.file_error:.1e}" if r.file_error is not None else None,
            f"{r.reference_error:.1e}" if r.reference_error is not None else None,
            f"{r.probability:.1e}",
            r.positive,
            r.changed,
        ]
        for r in report.rows
    ]
    columns = ["tile", ">shape", ">max |logit|", ">file-torch", ">file-exact", ">torch-exact", ">probability"]
    table = text_table([*columns, ">target px", ">changed"], rows)
    facts = report.facts
    return (
        f"{table}\n\n{facts['file']}: {facts['model']} ({facts['form']}), {facts['bytes'] / 1e6:.2f} MB, "
        f"{report.changed} of {report.pixels} mask pixels changed at {report.threshold:g}: within bounds"
    )


def _write_report(output: Path, report: ParityReport | BoxParity, data: Path | None, split: str | None) -> None:
    import json

    import onnxruntime
    import torch

    from motes.imaging import atomic_path

    facts = {
        **report.to_dict(),
        "data": str(data) if data else None,
        "split": split,
        "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
    }
    with atomic_path(output.with_suffix(".parity.json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
