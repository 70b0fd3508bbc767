"""Leaderboards: networks and training-free methods, or detectors, in a table for each (data set, split, protocol)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motes.benchmark.box_board import BOX_CAVEATS, box_blocks, gathered, published_box_blocks
from motes.benchmark.box_standing import box_cost
from motes.benchmark.complexity import complexity
from motes.benchmark.page import Block, Heading, Picture, Points, Table, Text, write_page
from motes.benchmark.pictures import plot_cost, plot_overlays
from motes.benchmark.standing import Entrant, Standing, plain, published, slug, stand
from motes.cards import Card, list_models, model_card
from motes.checkpoints import read_card
from motes.checkpoints.loading import load_network, sha256
from motes.classical import METHODS, classical_backend
from motes.data import Sample
from motes.errors import CardError, CheckpointError, MotesError
from motes.inference import load_backend
from motes.inference.backend import find_weights
from motes.metrics import BOX_PROTOCOLS, PROTOCOLS, BoxProtocol, Protocol, box_protocol, protocol
from motes.metrics.plotting import plot_roc
from motes.naming import look_up

CURVES = 8
"""At most so many methods in the ROC picture, the best ones: more lines cannot be told apart."""

SHOWN = 4
"""Frames in the picture of overlays."""

CAVEATS = {
    "sirst": (
        "44 of the 86 official test frames are in the training half of the 50:50 lists that DNANet and RepISD-Net's "
        "rivals use: a number on `test_v1` and one on a 50:50 list are of different data.",
        "51 of the 341 official training frames resemble a test frame (32x32 thumbnails correlate above 0.9), so every "
        "number of a network trained on all of them flatters it.",
        "Most published networks chose their epoch on the test frames.",
    ),
    "noisysirst": (
        "The noise is ours (`motes data noisy`): that of the published files has an unknown seed and clipping.",
    ),
    **BOX_CAVEATS,
}
"""What a reader of a data set's page must know; for every set whose name begins so."""

FINDS = {"irstd": "maps of targets", "detection": "boxes"}
"""What the networks of a task give, of the tasks that leaderboards are of."""

COLUMNS = (
    ">#", "method", "kind", ">IoU", ">nIoU", ">Pd", ">Fa, 1e-6", ">hIoU", ">AUC", ">params", ">MACs, 256x256",
    ">CPU ms / frame", "published IoU",
)  # fmt: skip


@dataclass(frozen=True)
class Board:
    """The rows of one (data set, split, protocol), best IoU (of detectors, mAP12) first; unfinished trainings apart."""

    data: str
    split: str | None
    protocol: str
    rows: tuple[Standing, ...]
    unfinished: tuple[Standing, ...]
    task: str = "irstd"


def entrant(text: str) -> Entrant:
    """What ``[LABEL=]TARGET[@MODEL[:VARIANT]]`` means.

    TARGET is a training-free method, a shipped network, an ``.onnx`` file, a weight file or a run folder.

    Raises:
        MotesError: no such target, or weights of another network.
    """
    label, equals, target = text.partition("=")
    if not equals or "/" in label:
        label, target = "", text
    if target in METHODS:
        backend = classical_backend(target)
        return Entrant(label or METHODS[target].title, backend, "training-free")
    target, _, named = target.partition("@")
    if not target:
        raise MotesError(f"'{text}' names nothing to score", "for instance 'ACM (authors)=acm.pth@acm:port-unet'")
    model, _, variant = named.partition(":")
    path = Path(target)
    epochs = None
    if path.is_dir():
        path = path / "best.safetensors"
        if not path.is_file():
            raise CheckpointError(f"{target}: no best.safetensors in this folder", "give a run folder of motes train")
        epochs = epochs_of_run(path.parent)
    if not path.is_file() or path.suffix.lower() == ".onnx":
        found = load_backend(str(path) if path.is_file() else target)
        if found.card.task == "detection":
            epochs, (params, macs) = epochs_of_card(found.card), box_cost(found.card)
        else:
            cost = found.card.complexity.get(found.card.variant or found.card.form, {})
            params, macs = cost.get("params"), cost.get("macs_256")
        return Entrant(
            label or title(found.card), found, kind(found.card), sha256(find_weights(target)), epochs, params, macs
        )
    from motes.models.backend import TorchBackend

    net, card = load_network(path, model or None, variant or None)
    if card.task == "detection":
        params, macs = box_cost(card, net)
    else:
        params = sum(p.numel() for p in net.parameters())
        macs = complexity(net).macs if (card.input.max_size or 256) >= 256 else None
    epochs = epochs or epochs_of_card(card)
    return Entrant(label or title(card), TorchBackend(net, card), kind(card), card.source_sha256, epochs, params, macs)


def task_of(entrants: Sequence[Entrant]) -> str:
    """The task of a board's entrants, ``irstd`` or ``detection``.

    Raises:
        CardError: there are several, or one that no leaderboard is of.
    """
    for entrant in entrants:
        card, first = entrant.backend.card, entrants[0].backend.card
        if card.task not in FINDS:
            raise CardError(
                f"'{entrant.label}' is a network for the task '{card.task}', leaderboards are of maps of targets or of "
                "boxes",
                "motes evaluate scores it",
            )
        if card.task != first.task:
            raise CardError(
                f"'{entrants[0].label}' gives {FINDS[first.task]} and '{entrant.label}' {FINDS[card.task]}, which "
                "cannot stand in one leaderboard",
                "make two, with an output folder each",
            )
    return entrants[0].backend.card.task


def find_rules(names: Sequence[str], task: str) -> list[Protocol] | list[BoxProtocol]:
    """The protocols of these names for a task; without names its own default.

    Raises:
        MotesError: an unknown name, or a protocol of the other task.
    """
    known = BOX_PROTOCOLS if task == "detection" else PROTOCOLS
    for name in names:
        look_up("protocol", name, [*PROTOCOLS, *BOX_PROTOCOLS])
        if name not in known and name != "native":
            raise MotesError(
                f"protocol '{name}' is not for {FINDS[task]}, which these entries give", f"known: {', '.join(known)}"
            )
    if task == "detection":
        return list(dict.fromkeys(box_protocol(n) for n in names or ("exact",)))
    return list(dict.fromkeys(protocol(n) for n in names or ("native",)))


def measure_board(
    entrants: Sequence[Entrant],
    samples: Sequence[Sample],
    data: str,
    split: str | None,
    rule: Protocol | BoxProtocol,
    out: Path,
    advance: Callable[[], object] | None = None,
) -> Board:
    """Scores all entrants, which are of one task; rows are kept below ``out``/rows, so an interrupted or extended board
    goes on.

    Raises:
        MotesError: networks of several tasks, a protocol of another one, two entrants of one label.
    """
    task = task_of(entrants)
    if isinstance(rule, BoxProtocol) != (task == "detection"):
        find_rules([rule.name], task)
    twice = {e.label for e in entrants if sum(slug(o.label) == slug(e.label) for o in entrants) > 1}
    if twice:
        raise MotesError(f"two entries are called '{min(twice)}'", "give them labels: LABEL=TARGET")
    folder = rows_folder(out, data, split, rule.name)
    chosen = shown_frames(samples)
    return make_board([stand(e, samples, data, split, rule, folder, chosen, advance) for e in entrants])


def make_board(rows: Sequence[Standing]) -> Board:
    """Rows of one data set, split and protocol, sorted."""
    first = rows[0]
    ranked = sorted(rows, key=lambda row: row.rank)
    finished, unfinished = (tuple(r for r in ranked if r.finished is f) for f in (True, False))
    return Board(first.data, first.split, first.run["protocol"], finished, unfinished, first.task)


def rows_folder(out: Path, data: str, split: str | None, rule: str) -> Path:
    """Where the rows of a board are kept."""
    return out / "rows" / "-".join(plain(p) for p in (data, split or "all", rule))


def write_board_page(
    boards: Sequence[Board], samples: Sequence[Sample], out: Path, note: str = "", more: Sequence[Block] = ()
) -> Path:
    """The page of one data set, with its pictures, as Markdown and HTML; returns the Markdown file.

    Args:
        boards: of one task.
        samples: frames that may be drawn.
        out: folder of the page.
        note: a paragraph below the title.
        more: what comes between the boards and what others published.
    """
    data = boards[0].data
    file = out / f"{plain(data)}.md"
    blocks: list[Block] = [Heading(1, data)]
    if note:
        blocks.append(Text(note))
    for board in boards:
        blocks += box_blocks(board, samples, out) if board.task == "detection" else board_blocks(board, samples, out)
    blocks += more
    blocks += published_box_blocks(data) if boards[0].task == "detection" else published_blocks(data)
    blocks += caveat_blocks(data)
    write_page(blocks, file)
    return file


def caveat_blocks(data: str) -> list[Block]:
    """What a reader of a data set's page must know."""
    caveats = [line for name, lines in CAVEATS.items() if plain(data).startswith(name) for line in lines]
    return [Heading(2, "Read this before comparing"), Points(caveats)] if caveats else []


def board_blocks(board: Board, samples: Sequence[Sample], out: Path) -> list[Block]:
    """Tables and pictures of one board."""
    facts = next(iter((*board.rows, *board.unfinished))).run
    stem = "-".join(plain(p) for p in (board.data, board.split or "all", board.protocol))
    blocks: list[Block] = [
        Heading(2, f"{board.split or 'all frames'}, protocol `{board.protocol}`"),
        Text(
            f"{facts['images']} frames, {facts['targets']} targets. Below each value its 95 % interval or its counts. "
            "Milliseconds are the median over the frames of the network or filter alone, on the machine that made "
            "this page."
        ),
    ]
    if board.rows:
        blocks.append(Table(COLUMNS, [cells(n, row) for n, row in enumerate(board.rows, 1)]))
    if board.unfinished:
        blocks += [
            Heading(3, "Unfinished"),
            Text("Trained for less than half of their recipe's epochs: no measure of the network."),
            Table(COLUMNS, [cells(None, row) for row in board.unfinished]),
        ]
    if warnings := gathered((*board.rows, *board.unfinished)):
        blocks.append(Points(warnings))
    scores = {row.label: row.score for row in board.rows[:CURVES] if row.score is not None}
    if scores:
        plot_roc(scores, out / f"{stem}-roc.png")
        blocks.append(Picture(f"{stem}-roc.png", f"ROC of pixels and of targets, the best {len(scores)} methods"))
    if sum(row.macs is not None for row in board.rows) > 1:
        plot_cost(board.rows, out / f"{stem}-cost.png")
        blocks.append(Picture(f"{stem}-cost.png", "Accuracy over cost"))
    if plot_overlays(board.rows[:6], samples, out / f"{stem}-overlays.png"):
        blocks.append(Picture(f"{stem}-overlays.png", "Truth blue, prediction orange"))
    return blocks


def published_blocks(data: str) -> list[Block]:
    """What others published on this data set: of all networks by their cards, and of the training-free methods."""
    titles = {name: model_card(name).title for name in list_models("irstd")}
    titles |= {name: method.title for name, method in METHODS.items()}
    rows = [
        [title, r.get("split"), r.get("protocol"), *(_published(r, k) for k in ("iou", "niou", "pd", "fa")),
         r.get("source")]
        for name, title in titles.items()
        for r in published(name, data)
    ]  # fmt: skip
    if not rows:
        return []
    columns = ["method", "split", "protocol", ">IoU", ">nIoU", ">Pd", ">Fa, 1e-6", "source"]
    return [
        Heading(2, "Published by others"),
        Text(
            "As printed; splits, sizes and rules differ from row to row, and the threshold rule alone moves the IoU of "
            "a training-free method by a factor of two to four. BasicIRSTD's rows of those methods are not what their "
            "published codes give under the rule that it names."
        ),
        Table(columns, rows),
    ]


def write_unmeasured_page(data: str, recipe_data: str, out: Path) -> Path:
    """The page of a data set that is not here: published columns, and the command that fills the others."""
    command = f"motes leaderboard RUN... --data {recipe_data} --split test -o {out.name}"
    blocks: list[Block] = [
        Heading(1, data),
        Text(
            f"**Not measured here**: the data set is not at hand where this page was made. `motes train NETWORK_"
            f"{recipe_data} data.root={recipe_data}` trains a network, `{command}` measures runs, weight files and "
            "training-free methods and writes this page anew."
        ),
        *published_blocks(data),
    ]
    file = out / f"{plain(data)}.md"
    write_page(blocks, file)
    return file


def cells(rank: int | None, row: Standing) -> list[object]:
    """One row of a board's table."""
    kind_of = row.kind
    if row.epochs is not None:
        kind_of += f"\n{row.epochs[0]:g} of {row.epochs[1]} epochs"
    name = f"**{row.label}**" + (f"\n{row.model}, {row.variant}" if row.variant else "")
    others = [
        f"{r['iou']:.4f} ({', '.join(str(r[k]) for k in ('source', 'split') if k in r)})" for r in published_rows(row)
    ]
    return [
        rank, name, kind_of, _rate(row, "iou"), _rate(row, "niou", counts=False), _rate(row, "pd"), _rate(row, "fa"),
        _rate(row, "hiou", counts=False), _rate(row, "auc", counts=False), _large(row.params, 1e6, "M"),
        _large(row.macs, 1e9, "G"), None if row.ms is None else f"{row.ms:.3g}", "\n".join(others),
    ]  # fmt: skip


def published_rows(row: Standing) -> list[Any]:
    """Published results of the same method (and variant) on the same data set that have an IoU."""
    found = published(row.model, row.data)
    return [r for r in found if "iou" in r and r.get("variant") in (None, row.variant)]


def kind(card: Card) -> str:
    """Whether weights were trained with this toolbox."""
    return "trained here" if card.training.get("recipe") else "published weights"


def title(card: Card) -> str:
    """The name of weights in a table, where none is given."""
    name = card.title or card.name
    told = card.variant and card.form == "train" and card.task != "detection"  # tables of detectors say it below
    return f"{name} ({card.variant})" if told else name


def epochs_of_run(folder: Path) -> tuple[float, int] | None:
    """Epochs a run and its first weights have done, and those of its recipe as shipped, or of its copy if more."""
    from motes.training.run import Run

    _, recipe = Run.open(folder)
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
            done = max(float(row["epoch"]) for row in csv.DictReader(stream))
    except (OSError, ValueError):
        return None
    planned = max(_planned(recipe.name), recipe.loop.epochs or 0)
    best = folder / "best.safetensors"
    if best.is_file() and (card := read_card(best)):
        done += card.training.get("epochs_before", 0)
    return (round(done, 1), planned) if planned else None


def epochs_of_card(card: Card) -> tuple[float, int] | None:
    """The same of a weight file alone: the epoch its weights are of."""
    recipe, done = card.training.get("recipe"), card.training.get("epochs")
    if not recipe or done is None:
        return None
    planned = _planned(str(recipe))
    return (float(done + card.training.get("epochs_before", 0)), planned) if planned else None


def shown_frames(samples: Sequence[Sample]) -> list[str]:
    """Frames for the picture, evenly spaced in the split."""
    step = max(1, len(samples) // SHOWN)
    return [s.name for s in samples[step // 2 :: step]][:SHOWN]


def _planned(recipe: str) -> int:
    """Epochs of a shipped recipe; 0 of another one, and of one that counts steps."""
    from motes.training.recipe import load_recipe, recipe_names

    return (load_recipe(recipe).loop.epochs or 0) if recipe in recipe_names() else 0


def _rate(row: Standing, key: str, counts: bool = True) -> str | None:
    metric = row.metrics.get(key)
    if metric is None or metric["value"] is None:
        return None
    scale, digits = (1e6, 1) if key == "fa" else (1.0, 4)
    text = f"{metric['value'] * scale:.{digits}f}"
    if metric["interval"]:
        text += "\n{:.{d}f} to {:.{d}f}".format(*(end * scale for end in metric["interval"]), d=min(digits, 3))
    if counts:
        text += f"\n{metric['numerator']:,.0f} / {metric['denominator']:,.0f}"
    return text


def _published(row: Any, key: str) -> str | None:
    if row.get(key) is None:
        return None
    if key != "fa":
        return f"{row[key]:.4f}"
    return f"{row[key] * 1e6:.{'3g' if row[key] < 1e-3 else '0f'}}"


def _large(number: int | None, unit: float, letter: str) -> str | None:
    return None if number is None else f"{number / unit:.3g} {letter}"
