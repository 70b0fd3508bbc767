"""``motes align``: a network against a stored reference, tensor by tensor; and references made from our networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from motes.benchmark.alignment import Alignment

EXAMPLES = """Examples:

  motes align repisdnet case-train-64x64.npz               outputs of the authors' code, keys.json beside it

  motes align repisdnet --save ours.npz --steps 10         for others to compare with

  motes align repisdnet ours.npz --limit 1e-4              on another machine, or after a change

  motes align repisdnet theirs.npy --weights w.pth --input x.npy --target y.npy --rename output=logits

  motes align ours.npy theirs.npy                          two files, every tensor of both
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("align", epilog=EXAMPLES)(align)


def align(
    model: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="A network, or a reference file.")],
    reference: Annotated[Path | None, typer.Argument(help="What it is compared with: .npz or .npy.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a reference instead: .npz or .npy.")] = None,
    variant: Annotated[str | None, typer.Option(help="The network's variant; default: as the file says.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights; default: as the file says, or by name.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Names and shapes to fill the weights by; default: beside.")] = None,
    given_input: Annotated[Path | None, typer.Option("--input", help="Input [B, C, H, W], .npy.")] = None,
    target: Annotated[Path | None, typer.Option(help="Target [B, 1, H, W] of 0 and 1, .npy.")] = None,
    rename: Annotated[list[str] | None, typer.Option(metavar="THEIRS=OURS", help="Their name for a tensor.")] = None,
    limit: Annotated[
        float, typer.Option(min=0, help="Largest difference, as a share of the tensor's largest value.")
    ] = 2e-5,
    mean_limit: Annotated[
        float | None, typer.Option(min=0, help="Mean absolute difference too, as reprod_log.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="With --save: optimiser steps.")] = 10,
    size: Annotated[str, typer.Option(help="With --save: height and width in px, such as 64 or 64x96.")] = "64",
    batch: Annotated[int, typer.Option(min=1, help="With --save: images.")] = 2,
    carry_weights: Annotated[bool, typer.Option("--carry-weights", help="With --save: the weights too.")] = False,
    loss: Annotated[str | None, typer.Option(help="The loss; default: the file's, or bce + soft_iou.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Loss, optimiser and schedule of this recipe.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate of the steps.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report: .json, or text.")] = None,
) -> None:
    """Compare a network with a reference: outputs, loss, metrics, gradients, optimiser steps.

    Prints the largest and the mean difference of every tensor. Exit code 1 if one is over the limit, has another shape
    or is missing. The network stays in eval mode, in the optimiser steps too.
    """
    from motes.errors import MissingExtraError, MotesError

    if (reference is None) == (save is None):
        raise MotesError("give either a reference to compare with, or --save FILE to write one")
    names = [text.partition("=") for text in rename or []]
    if bad := next((t for t, (a, _, b) in zip(rename or [], names, strict=True) if not a or not b), None):
        raise MotesError(f"--rename '{bad}' is not THEIRS=OURS", "for instance --rename output=logits")
    sides = _sides(size)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("motes align", "train") from None
    from motes.benchmark import alignment

    given = alignment.Given(
        variant, weights, keys, given_input, target, {a: b for a, _, b in names}, loss, recipe, lr
    )  # fmt: skip
    if save is not None:
        values = alignment.save(model, save, given, steps, sides, batch, carry_weights)
        typer.echo(f"{save}: {len(values)} tensors of {model} ({', '.join(_short(values))})")
        return
    limits = alignment.Limits(limit, mean_limit)
    assert reference is not None
    if Path(model).suffix.lower() in (".npz", ".npy"):
        report = alignment.compare_files(Path(model), reference, limits)
    else:
        report = alignment.align(model, reference, given, limits)
    text = _table(report)
    typer.echo(text)
    if output is not None:
        _write(output, report, text)
    if not report.passed:
        raise typer.Exit(1)


def _sides(size: str) -> tuple[int, int]:
    from motes.errors import MotesError

    parts = size.lower().split("x")
    if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise MotesError(f"--size '{size}' is not a size", "write 64 or 64x96 (height x width)")
    return int(parts[0]), int(parts[-1])


def _short(names: object) -> list[str]:
    """Names with ``loss_0 ... loss_9`` as one."""
    first = [n for n in names if not n.rpartition("_")[2].isdigit() or n.endswith("_0")]  # type: ignore[attr-defined]
    return [f"{n[:-2]}_k" if n.endswith("_0") else n for n in first]


def _table(report: Alignment) -> str:
    from motes.cli.tables import text_table

    def number(value: float | None) -> str | None:
        return None if value is None else f"{value:.2e}"

    rows = [
        [
            r.name,
            "x".join(map(str, r.shape)) or "scalar",
            number(r.largest),
            number(r.max_difference),
            number(r.mean_difference),
            number(r.limit),
            f"FAILED: {r.problem}" if r.problem else "ok",
        ]
        for r in report.rows
    ]
    columns = ["tensor", ">shape", ">largest", ">max difference", ">mean difference", ">limit", "result"]
    good = sum(not r.problem for r in report.rows)
    end = f"{report.what} against {report.reference}: {good} of {len(rows)} tensors agree"
    return f"{text_table(columns, rows)}\n\n{end}"


def _write(output: Path, report: Alignment, text: str) -> None:
    import json

    from motes.imaging import atomic_path

    if output.suffix.lower() == ".json":
        text = json.dumps(report.to_dict(), indent=2)
    with atomic_path(output) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
