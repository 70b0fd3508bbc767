"""``motes models``: the networks, from their cards alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from motes.cards import Card, InputSpec

RESULTS = {
    "iou": "IoU", "niou": "nIoU", "pd": "Pd", "fa": "Fa x1e-6", "miou": "mIoU", "ap": "AP", "map07": "mAP07",
    "map12": "mAP12", "recall": "recall",
}  # fmt: skip

HELD_OUT = ("held out", "about", "protocol", ">threshold", ">frames", ">IoU", ">Pd", ">false blobs a frame", ">a Mpx")
"""Columns of `held_out_cells`, as `motes.cli.tables.text_table` takes them."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("models", epilog="Example: motes models repisdnet")(models)


def models(
    name: Annotated[str, typer.Argument(help="One network, or a pattern such as 'rep*'.")] = "*",
    task: Annotated[str | None, typer.Option(help="Only networks for irstd, aerial or detection.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Count parameters and MACs now (needs PyTorch).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the networks: parameters, multiply-accumulates, paper, published results.

    One name, also that of shipped weights or of a training-free method, shows the whole card. MACs are those of the
    convolutions at 256x256.
    """
    from motes.cards import list_models, model_card
    from motes.errors import CardError
    from motes.inference.backend import list_weights
    from motes.inference.onnx_card import read_onnx_card
    from motes.naming import look_up

    if task is not None:
        look_up("task", task, sorted({model_card(n).task for n in list_models()}), CardError)
    pattern = any(c in name for c in "*?[")
    names = list_models(task, name)
    if not names:
        if pattern:
            raise CardError(f"no network matches '{name}'", f"known: {', '.join(list_models(task))}")
        from motes.classical import METHODS

        methods = METHODS if task in (None, "irstd") else {}
        look_up("model", name, [*list_models(task), *list_weights(), *methods], CardError)
        if name in methods:
            cards = [methods[name].card.replace(published=methods[name].published)]
        else:
            cards = [read_onnx_card(list_weights()[name])]
    else:
        cards = [model_card(n) for n in names]
    if measure:
        cards = [c if c.form == "classical" else c.replace(complexity=_measured(c.name)) for c in cards]
    if as_json:
        import json

        typer.echo(json.dumps([c.to_dict() for c in cards], indent=2))
    elif pattern:
        typer.echo(_overview(cards))
    else:
        typer.echo(_details(cards[0]))


def _measured(name: str) -> Mapping[str, Any]:
    try:
        from motes.benchmark.complexity import complexity_of_forms
    except ModuleNotFoundError:
        from motes.errors import MissingExtraError

        raise MissingExtraError("motes models --measure", "train") from None
    return complexity_of_forms(name)


def _overview(cards: list[Card]) -> str:
    from motes.cli.tables import text_table

    rows = []
    for card in cards:
        first, last = _ends(card.complexity)
        best = card.published[0] if card.published else {}
        rows.append(
            [
                card.name,
                card.task,
                _change(first.get("params"), last.get("params"), "M"),
                _macs(first, last),
                f"{card.venue} {card.year or ''}".strip() or None,
                _result(best) or None,
            ]
        )
    return text_table(["name", "task", ">params", ">MACs 256x256", "paper", "published"], rows)


def _sides(spec: InputSpec) -> str:
    return f"at least {spec.min_size}" if spec.max_size is None else f"{spec.min_size} to {spec.max_size}"


def _details(card: Card) -> str:
    from motes.cli.tables import text_table

    spec = card.input
    facts = [
        ("name", card.name),
        ("task", card.task),
        ("paper", card.paper or card.title),
        ("venue", f"{card.venue} {card.year or ''}".strip()),
        ("code", card.url),
        ("variants", ", ".join(card.variants)),
        ("classes", ", ".join(card.classes)),
        ("input", f"{spec.channels} channels, sides a multiple of {spec.stride}, {_sides(spec)} px"),
        ("scaling", f"{spec.scaling.method}, deeper than 8 bits: {spec.scaling_deep.method}"),
        ("mean, std", f"{_numbers(spec.mean)}; {_numbers(spec.std)}"),
        ("settings", ", ".join(f"{k}={_setting(v)}" for k, v in card.options.items() if card.form == "classical")),
    ]
    parts = ["\n".join(f"{k:10} {v}" for k, v in facts if v)]
    if card.complexity:
        sides = [side for side in (256, 512) if any(f"macs_{side}" in v for v in card.complexity.values())]
        rows = [
            [form, f"{v['params']:,}", *(f"{v[key]:,}" if (key := f"macs_{side}") in v else None for side in sides)]
            for form, v in card.complexity.items()
        ]
        parts.append(text_table(["form", ">parameters", *(f">MACs {side}x{side}" for side in sides)], rows))
    held = [row for row in card.measured if row.get("held_out")]
    rest = [row for row in card.measured if not row.get("held_out")]
    parts += [_results("published", card.published), _results("measured here", rest)]
    if held:
        title = "measured here on frames that it was neither trained nor selected on"
        parts.append(f"{title}\n{text_table(HELD_OUT, [held_out_cells(row) for row in held])}")
    return "\n\n".join(p for p in parts if p)


def held_out_cells(row: Mapping[str, Any]) -> list[str | None]:
    """A held-out row of ``Card.measured`` under the columns `HELD_OUT`: rates with what they are made of."""
    false, frames, size = row["false_blobs"], row["frames"], row["megapixels"]
    threshold = " / ".join(f"{row[k]:g}" for k in ("threshold", "target_threshold") if k in row)
    return [
        row["data"], row["about"], row["protocol"], threshold, str(frames),
        f"{row['iou']:.3f}" if "iou" in row else None,
        f"{row['targets']} = {row['pd']:.3f}" if "targets" in row else None,
        f"{false}/{frames} = {false / frames:.2f}",
        f"{false}/{size:.3g} = {false / size:.2f}" if size else None,
    ]  # fmt: skip


def _results(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    from motes.cli.tables import text_table

    rows = [row for row in rows if any(k in row for k in RESULTS)]  # others say what a network costs
    if not rows:
        return ""
    keys = [k for k in RESULTS if any(k in row for row in rows)]
    cells = [
        [row.get("data"), row.get("split"), row.get("protocol"), *(_value(row, k) for k in keys), row.get("source")]
        for row in rows
    ]
    columns = ["data", "split", "protocol", *(f">{RESULTS[k]}" for k in keys), "source"]
    return f"{title}\n{text_table(columns, cells)}"


def _ends(complexity: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What training costs, and what is run in the end, if that is less."""
    train = complexity.get("train", {})
    return train, complexity.get("deploy", train)


def _change(first: float | None, last: float | None, unit: str) -> str | None:
    from motes.cli.tables import size_of

    if first == last:
        return size_of(last, unit)
    return f"{size_of(first, unit)} -> {size_of(last, unit)}"


def _macs(first: Mapping[str, Any], last: Mapping[str, Any]) -> str | None:
    """Of 256x256 px; where that is too small a frame, of 512x512, which is said."""
    if "macs_256" in first or "macs_512" not in first:
        return _change(first.get("macs_256"), last.get("macs_256"), "G")
    return f"{_change(first['macs_512'], last.get('macs_512'), 'G')} at 512"


def _result(row: Mapping[str, Any]) -> str:
    values = [f"{RESULTS[k]} {_value(row, k)}" for k in ("iou", "miou", "ap", "map07", "pd") if k in row]
    return " ".join([str(row[k]) for k in ("data", "split") if k in row] + values)


def _value(row: Mapping[str, Any], key: str) -> str | None:
    if key not in row:
        return None
    if key != "fa":
        return f"{row[key]:.4f}"
    return f"{row[key] * 1e6:.{'3g' if row[key] < 1e-3 else '0f'}}"


def _setting(value: Any) -> str:
    """As ``--set`` takes it."""
    if isinstance(value, tuple):
        return ",".join(_setting(v) for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:g}" for v in values)
