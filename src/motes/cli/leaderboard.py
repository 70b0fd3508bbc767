"""``motes leaderboard`` and ``motes reproduce``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from motes.cli.progress import progress
from motes.errors import DataError, MissingExtraError


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        epilog="Example: motes leaderboard runs/acm_sirst/20261121-100000 'RDIAN (authors)=best.pth' repisdnet-sirst "
        "tophat pstnn --data ~/data/sirst --split test_v1 -p native -p repisdnet -o boards"
    )(leaderboard)
    app.command(
        epilog="Example: motes reproduce repisdnet --weights model_SIRST.pth --data ~/data/sirst --split test_v1"
    )(reproduce)


def leaderboard(
    entries: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABEL=]TARGET[@MODEL[:VARIANT]]...",
            help="Run folders, weight files, .onnx files, shipped networks, training-free methods; `classical`: all of "
            "the last. Detectors by themselves.",
        ),
    ],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the page, its pictures and its rows.")],
    split: Annotated[str | None, typer.Option(help="Its split; default: all frames.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", "-p", help="The rules; several are fine. Of boxes: exact, deepir.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The data set's name in print; default: its folder's.")] = None,
) -> None:
    """Put networks and training-free methods, or detectors, into one table, with intervals, cost and pictures.

    Rows are kept in OUTPUT/rows: what was interrupted goes on, and what is added later measures only the new rows.
    """
    _need_the_lab("motes leaderboard")
    from motes.benchmark.leaderboard import entrant, find_rules, measure_board, task_of, write_board_page
    from motes.classical import METHODS
    from motes.data import open_dataset
    from motes.imaging import check_writable
    from motes.metrics import BOX_PROTOCOLS, PROTOCOLS
    from motes.naming import look_up

    for rule in protocol or ():  # a typo is found before networks are loaded
        look_up("protocol", rule, [*PROTOCOLS, *BOX_PROTOCOLS])
    samples = open_dataset(data).split(split)
    if not samples:
        raise DataError(f"{data}: split '{split}' is empty")
    check_writable(output)
    texts = [text for e in entries for text in (METHODS if e == "classical" else [e])]
    entrants = [entrant(text) for text in texts]
    rules = find_rules(protocol or (), task_of(entrants))
    title = name or data.resolve().name
    with progress("scoring", len(rules) * len(entrants) * len(samples)) as advance:
        boards = [measure_board(entrants, samples, title, split, rule, output, advance) for rule in rules]
    file = write_board_page(boards, samples, output)
    for board in boards:
        typer.echo(f"{title} {split or ''}, protocol {board.protocol}")
        shown = {"map12": "mAP12", "recall": "recall"} if board.task == "detection" else {"iou": "IoU", "pd": "Pd"}
        for n, row in enumerate((*board.rows, *board.unfinished), 1):
            values = "  ".join(f"{shown_as} {row.value(key):.4f}" for key, shown_as in shown.items())
            rank = f"{n:3}" if row.finished else "  -"
            typer.echo(f"{rank}  {values}  {row.label}{'' if row.finished else ', unfinished'}")
    typer.echo(f"written: {file} and {file.with_suffix('.html').name}")


def reproduce(
    model: Annotated[str, typer.Argument(help="The network; see `motes models`.")],
    weights: Annotated[Path, typer.Option(help="Its authors' weight file.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    split: Annotated[str | None, typer.Option(help="Its split; default: all frames.")] = None,
    variant: Annotated[str | None, typer.Option(help="The network's variant, where the file does not tell.")] = None,
    name: Annotated[str | None, typer.Option(help="The data set's name in print; default: its folder's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Score an official checkpoint under its authors' protocols and under ours, beside what they published."""
    _need_the_lab("motes reproduce")
    from motes.benchmark.reproduction import reproduction, reproduction_rules
    from motes.data import open_dataset

    samples = open_dataset(data).split(split)
    title = name or data.resolve().name
    rules = reproduction_rules(model, title)
    with progress("scoring", len(rules) * len(samples)) as advance:
        rows = reproduction(model, variant, weights, samples, title, split, rules, advance)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1))
    else:
        typer.echo(_table(rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, one line for each published value, or one where nothing was published."""
    from motes.cli.tables import text_table

    lines = []
    for row in rows:
        scale, digits = (1e6, 3) if row["metric"] == "fa" else (1.0, 5)

        def show(value: float | None, scale: float = scale, digits: int = digits) -> str | None:
            return None if value is None else f"{value * scale:.{digits}f}"

        for claim in row["published"] or [{}]:
            said, measured = claim.get("value"), row["measured"]
            off = None if said is None or measured is None else f"{(measured - said) * scale:+.{digits}f}"
            source = ", ".join(str(claim[k]) for k in ("source", "split") if claim.get(k)) or None
            lines.append([row["protocol"], row["metric"], show(measured), show(said), off, source])
    return text_table(["protocol", "metric", ">measured", ">published", ">difference", "source, split"], lines)


def _need_the_lab(command: str) -> None:
    try:
        import matplotlib  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError(command, "train") from None
