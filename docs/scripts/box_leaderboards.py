"""The page of DenseSIRST for leaderboards.py: detectors trained here, and, apart from them, the published table.

Rows that were measured once are kept in docs/leaderboards/rows and stay on the page without their runs: whoever has the
repository alone can write the page anew. To drop a row, remove its folder there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import with_kept  # beside this file

from motes.benchmark.box_board import published_box_blocks
from motes.benchmark.complexity import complexity
from motes.benchmark.leaderboard import (
    Board,
    caveat_blocks,
    entrant,
    epochs_of_run,
    make_board,
    measure_board,
    rows_folder,
    write_board_page,
)
from motes.benchmark.page import Block, Heading, Table, Text, write_page
from motes.benchmark.published_cost import SIDE
from motes.benchmark.standing import Entrant
from motes.cards import list_models, model_card
from motes.checkpoints import read_card
from motes.cli.progress import progress
from motes.data import open_dataset
from motes.errors import CardError
from motes.inference.mask_boxes import MaskBoxes
from motes.metrics import box_protocol
from motes.models import create_model
from motes.training.network import make_network
from motes.training.recipe import load_recipe, recipe_names
from motes.training.run import Run

NAME, FOLDER, SPLIT, RULES = "DenseSIRST", "densesirst", "test_v1", ("exact", "deepir")

RECIPE = "densesirst_short"

OWN_BACKBONE = ("efficientdet", "pvt_t")
"""RetinaNet's head on a backbone of their own: with the recipe's they would be RetinaNet."""

NO_OPTIONS = ("motes_det",)
"""As it is, it is meant for that length; the recipe's options would put it on a ResNet-18."""

TRAINING_FREE = ("tophat",)
"""Methods that stand beside, measured with the first run: what boxes are had for nothing."""

NOTE = (
    "427 of the 1,024 frames of DenseSIRST, those on backgrounds of SIRST: 341 to train on (`trainval_v1`), 86 to test "
    "(`test_v1`). Networks are trained here, by the recipe that their row names, and no row is what its authors would "
    "get. CPU ms: processor time of the network itself, on one core. motes-det stands on a backbone of its own. Boxes "
    "of masks are what bounds the parts of a map above its threshold; the manual's page on motes-det says how that "
    "network was trained."
)


def is_detector(target: str) -> bool:
    """Whether ``[LABEL=]RUN``, or a weight file in the place of the run, is for the page of boxes.

    Those are networks that find boxes, and runs of others that learned the masks of the same frames.
    """
    path = path_of(target)
    if path.is_dir():
        recipe = Run.open(path)[1]
        return recipe.task == "detection" or recipe.data.name == NAME
    card = read_card(path) if path.is_file() else None
    return card is not None and card.task == "detection"


def write_box_page(pages: Path, data: Path, targets: Sequence[str]) -> Path:
    """Measures the detectors ``targets`` on ``data``/densesirst and writes ``pages``/densesirst.md and .html.

    Args:
        pages: folder of the page, its pictures and its rows.
        data: folder of data sets; only needed for what is not measured yet.
        targets: runs or weight files; runs without weights yet are listed with the epochs they have done.
    """
    begun, ready = {}, []
    for target in targets:
        folder = path_of(target)
        if folder.is_dir() and not (folder / "best.safetensors").is_file():
            done = epochs_of_run(folder)
            print(f"{folder} has no weights yet: not measured")
            if done:
                begun[Run.open(folder)[1].model.name] = f"no weights yet, {done[0]:g} of {done[1]} epochs"
        else:
            ready.append(target)
    free = [("", method) for method in TRAINING_FREE if ready]
    boards = measured(pages, data / FOLDER, [*distinct(ready), *free])
    rest = untrained(boards, begun)
    if boards:
        # No frames are given to draw: DenseSIRST states no licence, so its frames stay out of this repository.
        return write_board_page(boards, (), pages, " ".join([NOTE, *recipe_note()]), rest)
    blocks: list[Block] = [Heading(1, NAME), Text(" ".join(["**Not measured yet.**", NOTE, *recipe_note()])), *rest]
    file = pages / f"{FOLDER}.md"
    write_page([*blocks, *published_box_blocks(NAME), *caveat_blocks(NAME)], file)
    return file


def measured(pages: Path, root: Path, targets: Sequence[tuple[str, str]]) -> list[Board]:
    """A board for each protocol: rows of (label, target), and those that are kept of others."""
    torch.set_num_threads(1)
    samples = open_dataset(root).split(SPLIT) if targets else []
    entrants: list[Entrant] = []
    for label, target in targets:
        loaded = with_boxes(entrant(target))
        entrants.append(replace(loaded, label=label) if label else loaded)
    boards = []
    for name in RULES:
        rule = box_protocol(name)
        rows = []
        if entrants:
            with progress(f"{NAME}, {name}", len(entrants) * len(samples)) as advance:
                board = measure_board(entrants, samples, NAME, SPLIT, rule, pages, advance)
            rows = [*board.rows, *board.unfinished]
        rows = with_kept(rows, rows_folder(pages, NAME, SPLIT, rule.name))
        if rows:
            boards.append(make_board(rows))
    return boards


def with_boxes(entrant: Entrant) -> Entrant:
    """A network that segments targets, as one of boxes; its cost is then that of a frame of 512x512, as the others'."""
    card = entrant.backend.card
    if card.task == "detection":
        return entrant
    macs = None
    if card.name in list_models("irstd"):
        with torch.device("meta"):
            macs = complexity(create_model(card.name, card.variant, **card.options), SIDE, SIDE).macs
    backend: Any = MaskBoxes(entrant.backend)
    return replace(entrant, label=f"{entrant.label}, boxes of its masks", backend=backend, macs=macs)


def distinct(targets: Sequence[str]) -> list[tuple[str, str]]:
    """(label or nothing, target): several runs of one network are told apart by the names of their folders."""
    networks = [network_of(t) for t in targets]
    return [
        (f"{model_card(n).title}, {path_of(t).name}" if networks.count(n) > 1 and n and "=" not in t else "", t)
        for n, t in zip(networks, targets, strict=True)
    ]


def untrained(boards: Sequence[Board], begun: dict[str, str]) -> list[Block]:
    """The detectors without a row, and what trains them."""
    have = {row.model for board in boards for row in (*board.rows, *board.unfinished)}
    rest = [name for name in list_models("detection") if name not in have]
    if not rest:
        return []
    rows = [[model_card(n).title, begun.get(n, "not trained here"), f"`{' '.join(command(n))}`"] for n in rest]
    text = (
        f"{len(rest)} of the {len(list_models('detection'))} detectors have no row. With `data.root=` where DenseSIRST "
        "lies, these commands train them; `python docs/scripts/leaderboards.py DATA --runs RUN ...` adds their rows."
    )
    return [Heading(2, "Not trained here"), Text(text), Table(["network", "state", "command"], rows)]


def command(name: str) -> list[str]:
    """The command that trains a detector: some have no width, some are another one's network but for their backbone."""
    words = ["motes", "train", RECIPE, f"model.name={name}"]
    if name in NO_OPTIONS:
        return [*words, "model.options={}"]
    if name in OWN_BACKBONE:
        return [*words, "model.options='{width: 64}'"]
    if RECIPE in recipe_names():
        try:
            with torch.device("meta"):
                make_network(load_recipe(RECIPE, words[3:]))
        except CardError:
            words.append("model.options='{backbone: resnet18}'")
    return words


def recipe_note() -> list[str]:
    """What the recipe says of itself."""
    if RECIPE not in recipe_names():
        return []
    recipe = load_recipe(RECIPE)
    return [f"`{RECIPE}`, {recipe.loop.epochs} epochs: {recipe.note.strip()}"]


def network_of(target: str) -> str:
    path = path_of(target)
    card = read_card(path / "best.safetensors" if path.is_dir() else path)
    return card.name if card else ""


def path_of(target: str) -> Path:
    label, equals, path = target.partition("=")
    return Path(path if equals and "/" not in label else target)
