"""Leaderboards of detectors: rows counted by hand, kept, drawn; the command; what is refused."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from miniatures import miniature
from motes.benchmark.box_board import gathered, published_box_blocks
from motes.benchmark.box_standing import alarm_curve, box_cost
from motes.benchmark.leaderboard import Board, entrant, find_rules, measure_board, task_of, write_board_page
from motes.benchmark.page import Heading, Table
from motes.benchmark.standing import Entrant, read_standing
from motes.cards import Card, InputSpec, model_card
from motes.checkpoints import write_safetensors
from motes.data import open_dataset
from motes.errors import CardError, MotesError
from motes.imaging import write_image
from motes.metrics import BoxScore, box_protocol, protocol
from motes.training.recipe import dump_recipe, load_recipe

SPOTS = [[(10, 12), (44, 50)], [(20, 30)], [(40, 20), (46, 60), (12, 70)], [(8, 40), (50, 8)]]
"""Row and column of the bright pixel of every target of every frame: 4 in the upper half, 4 below."""


class Toy:
    """Finds bright pixels above row ``most`` as boxes of 4x4 px, and a false alarm in the corner of score ``alarm``."""

    def __init__(self, title: str, most: int = 64, alarm: float = 0.0, sky: bool = False) -> None:
        spec = InputSpec(channels=1, stride=32)
        self.card = Card("toy", "detection", title, input=spec, classes=("Target",), threshold=0.3)
        self.most, self.alarm, self.sky, self.calls = most, alarm, sky, 0

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        rows, columns = np.nonzero(batch[0, 0, : self.most] > 0.9)
        boxes = np.stack([columns - 1, rows - 1, columns + 3, rows + 3], axis=1).astype(np.float32)
        boxes = np.concatenate([boxes, [[60, 0, 64, 4]]]).astype(np.float32)
        scores = np.array([*np.linspace(0.9, 0.6, len(rows)), self.alarm], np.float32)
        found = {"boxes": boxes[None], "scores": scores[None, :, None], "levels": np.array([len(boxes)])}
        if self.sky:
            found["sky"] = np.full((1, 1, *batch.shape[2:]), 5.0, np.float32)
        return found


def toys(*backends: Toy) -> list[Entrant]:
    return [
        Entrant(b.card.title, b, "trained here", params=10**6 * n, macs=10**9 * n) for n, b in enumerate(backends, 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = miniature(tmp_path_factory.mktemp("boxes") / "kit", "sirstdevkit", len(SPOTS))
    for sample, spots in zip(open_dataset(root).split(), SPOTS, strict=True):
        pixels, mask = np.full((64, 80), 20, np.uint8), np.zeros((64, 80), np.uint8)
        for row, column in spots:
            pixels[row, column] = 255
            mask[row - 1 : row + 3, column - 1 : column + 3] = 255
        write_image(sample.image, pixels)
        write_image(sample.mask, mask)
        sample.boxes.unlink()  # then boxes are those of the masks
    return root


@pytest.fixture(scope="module")
def board(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, Path]:
    out = tmp_path_factory.mktemp("out")
    entrants = toys(Toy("Upper", 32, 0.7), Toy("Whole", sky=True))
    return measure_board(entrants, open_dataset(root).split(), "DenseSIRST", None, box_protocol("exact"), out), out


def test_rows_are_what_counting_by_hand_gives(board: tuple[Board, Path]) -> None:
    best, other = board[0].rows
    assert (board[0].task, best.label, other.label) == ("detection", "Whole", "Upper")
    for key in ("map12", "map07", "recall", "centre_ap", "pd@1", "pd"):
        assert best.metrics[key]["value"] == 1, key
    assert best.metrics["fa"]["value"] == 0 and other.metrics["recall"]["value"] == other.metrics["pd"]["value"] == 0.5
    assert other.metrics["fa"]["value"] == 4 * 16 / (4 * 64 * 80)  # the false box of 4x4 px in each of four frames
    assert best.ms > 0 and best.run["protocol"] == "exact" and best.run["targets"] == 8
    curve = other.curves
    assert curve["recall"].max() == 0.5 and curve["alarms"].tolist()[-1] == 1 and curve["pd"][-1] == 0.5


def test_kept_rows_cost_no_run_and_hold_no_annotation(board: tuple[Board, Path], root: Path) -> None:
    out, samples, again = board[1], open_dataset(root).split(), Toy("Whole", sky=True)
    (entry,) = toys(again)
    rule = box_protocol("exact")
    (row,) = measure_board([entry], samples, "DenseSIRST", None, rule, out).rows
    assert again.calls == 0 and row.value("map12") == 1
    (row,) = measure_board([replace(entry, epochs=(12.0, 20))], samples, "DenseSIRST", None, rule, out).rows
    assert again.calls == 0 and row.epochs == (12.0, 20)
    place = out / "rows" / "densesirst-all-exact" / "whole"
    with np.load(place / "row.npz") as arrays:
        assert {name.split("/")[0] for name in arrays.files} == {"curve", "boxes"}
        assert sum(len(arrays[f]) for f in arrays.files if f.startswith("boxes/")) == 8  # found ones, no truths
    kept = read_standing(place)
    assert kept.task == "detection" and kept.score is None and kept.curves["pd"].max() == 1
    measure_board([entry], samples[:2], "DenseSIRST", None, rule, out)
    assert again.calls == 2  # other frames
    (place / "row.npz").write_bytes(b"cut")
    measure_board([entry], samples, "DenseSIRST", None, rule, out)
    assert again.calls == 6


def test_the_curve_meets_pd_at_one_false_alarm() -> None:
    drawn = np.random.default_rng(4)
    score = BoxScore("exact", ["a", "b"])
    for k in range(6):
        corners = drawn.uniform(0, 40, (12, 2))
        truths = np.concatenate([corners[:7], corners[:7] + 4], axis=1)
        found = np.concatenate([corners, corners + 4], axis=1) + drawn.normal(0, 1.5, (12, 1))
        scores = drawn.integers(1, 20, 12) / 20  # many are equal
        ignored = np.arange(7) == 3
        score.update(
            found, scores, drawn.integers(0, 2, 12), truths, drawn.integers(0, 2, 7), ignored, (64, 64), f"f{k}"
        )
    alarms, pd = alarm_curve(score)
    assert (np.diff(alarms) >= 0).all() and (np.diff(pd) >= 0).all() and 0 < pd[-1] < 1 < alarms[-1]
    assert pd[alarms <= 1].max() == pytest.approx(score.compute()["pd@1"].value)


def test_a_page_with_everything(board: tuple[Board, Path], root: Path, tmp_path: Path) -> None:
    best, other = board[0].rows
    short = replace(other, label="Short", epochs=(3.0, 20), warnings=("odd",))
    made = replace(board[0], unfinished=(short,), rows=(best, replace(other, epochs=(20.0, 20), warnings=("odd",))))
    text = write_board_page([made], open_dataset(root).split(), tmp_path).read_text(encoding="utf-8")
    ours, published = text.split("## Published by others")
    assert "not comparable" in published.splitlines()[0]
    assert "| BAFE-Net |  | test_v2 | deepir | 0.274 |  | 0.342 |" in published and "0.274" not in ours
    assert "50.291" in published and "a floor of mAP07" in published
    assert "mAP07 | mAP12 | recall" in ours
    finished, unfinished = ours.split("### Unfinished")
    assert "**Upper**" in finished and "20 of 20 epochs" in finished and "**Short**" not in finished
    assert "3 of 20 epochs" in unfinished and "4 / 8" in unfinished and "- Short, Upper: odd" in unfinished
    for kind in ("curves", "cost", "overlays"):
        assert (tmp_path / f"densesirst-all-exact-{kind}.png").stat().st_size > 1000
    assert (tmp_path / "densesirst.html").is_file()
    bare = write_board_page([replace(made, rows=())], (), tmp_path / "bare")
    assert "### Unfinished" in bare.read_text(encoding="utf-8") and not list((tmp_path / "bare").glob("*.png"))


def test_sky_has_a_column_where_it_was_scored(board: tuple[Board, Path], tmp_path: Path) -> None:
    _, other = board[0].rows
    lines = write_board_page([board[0]], (), tmp_path).read_text(encoding="utf-8").splitlines()
    cells = {line.split("|")[2].strip().split("<br>")[0]: line.split("|") for line in lines if line.count("|") > 12}
    at = cells["network"].index(" sky IoU ")
    assert cells["**Whole**"][at].startswith(" 1.000<br>") and cells["**Upper**"][at].strip() == ""
    page = write_board_page([replace(board[0], rows=(other,))], (), tmp_path)
    assert "sky IoU" not in page.read_text(encoding="utf-8")


def test_nothing_is_published_on_other_data() -> None:
    assert published_box_blocks("Mine") == []
    heading, _, table, *_ = published_box_blocks("dense_sirst")
    assert isinstance(heading, Heading) and isinstance(table, Table)
    assert [row[4:7] for row in table.rows if row[0] == "BAFE-Net"] == [
        ["0.274", None, "0.342"], [None, "0.248", "0.338"], ["0.270", None, "0.332"], [None, "0.236", "0.329"],
    ]  # fmt: skip


def test_a_warning_of_all_rows_is_said_once(board: tuple[Board, Path]) -> None:
    a, b = board[0].rows
    assert gathered([replace(a, warnings=("x", "y")), replace(b, warnings=("x",))]) == ["All: x", "Whole: y"]
    assert gathered([replace(a, warnings=("x",))]) == ["Whole: x"]


def test_cost_is_of_the_network_that_was_trained() -> None:
    params, macs = box_cost(model_card("fcos"))
    assert params == 32_113_227 and macs == pytest.approx(50.291e9, rel=1e-2)  # the published table's
    with torch.device("meta"):
        net = motes.create_model("fcos", "small", backbone="test_resnet", width=32)
    cost = box_cost(net.card.replace(complexity={"train": {"params": 1, "macs_256": 1}}))
    assert cost == box_cost(net.card, net) and cost[0] == sum(p.numel() for p in net.parameters())
    assert box_cost(Toy("x").card) == (None, None)


@pytest.mark.parametrize(
    ("names", "task", "expected"),
    [
        ((), "detection", ["exact"]),
        ((), "irstd", ["native"]),
        (("native", "deepir", "exact"), "detection", ["exact", "deepir"]),
        (("repisdnet",), "detection", "'repisdnet' is not for boxes"),
        (("deepir",), "irstd", "'deepir' is not for maps of targets"),
        (("deepri",), "detection", "did you mean 'deepir'"),
    ],
)
def test_rules_belong_to_a_task(names: Sequence[str], task: str, expected: list[str] | str) -> None:
    if isinstance(expected, list):
        assert [r.name for r in find_rules(names, task)] == expected
    else:
        with pytest.raises(MotesError, match=expected):
            find_rules(names, task)


def test_one_board_is_of_one_task(root: Path, tmp_path: Path) -> None:
    (box,) = toys(Toy("Boxes"))
    aerial = Toy("Aerial")
    aerial.card = aerial.card.replace(task="aerial")
    with pytest.raises(CardError, match="'Top-Hat' gives maps of targets and 'Boxes' boxes"):
        task_of([entrant("tophat"), box])
    with pytest.raises(CardError, match="'Aerial' is a network for the task 'aerial'"):
        task_of(toys(aerial))
    samples = open_dataset(root).split()
    with pytest.raises(MotesError, match="'basicirstd' is not for boxes"):
        measure_board([box], samples, "d", None, protocol("basicirstd"), tmp_path)
    with pytest.raises(MotesError, match="two entries are called 'Boxes'"):
        measure_board([box, box], samples, "d", None, box_protocol("exact"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``fcos``: a weight file; ``run``: a run of retinanet after 6 of its recipe's epochs."""
    folder = tmp_path_factory.mktemp("weights")
    recipe = load_recipe("retinanet_densesirst")
    run = folder / "run"
    run.mkdir()
    for name, file, training in (
        ("fcos", folder / "fcos.safetensors", {}),
        ("retinanet", run / "best.safetensors", {"recipe": recipe.name, "epochs": 5, "reader": "exact"}),
    ):
        torch.manual_seed(0)
        net = motes.create_model(name, "small", backbone="test_resnet", width=32)
        card = net.card.replace(training=training)
        write_safetensors(file, {k: v.numpy() for k, v in net.state_dict().items()}, card)
    (run / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    with (run / "metrics.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["step", "epoch"], [1, 0.5], [12, 6.0]])
    return {"fcos": folder / "fcos.safetensors", "run": run, "epochs": recipe.loop.epochs}


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    from motes.cli.app import main

    monkeypatch.setattr(sys, "argv", ["motes", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_command(
    weights: dict, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", root, "--split", "test", "-p", "exact", "-p", "deepir", "-o", tmp_path / "out", "--name", "Mine"]
    entries = [weights["fcos"], f"Mine={weights['run']}"]
    assert call(monkeypatch, "leaderboard", *entries, *words) == 0
    shown = capsys.readouterr().out
    assert shown.count("mAP12") == 4 and "protocol deepir" in shown
    text = (tmp_path / "out" / "mine.md").read_text(encoding="utf-8")
    assert text.count("**FCOS**") == text.count("**Mine**") == 2
    assert text.count(f"trained here<br>6 of {weights['epochs']} epochs<br>retinanet_densesirst") == 2
    assert "fcos, small, test_resnet, 32 channels" in text
    monkeypatch.setattr("motes.models.backend.TorchBackend.candidates", None)  # kept rows run nothing
    assert call(monkeypatch, "leaderboard", *entries, *words) == 0
    assert (tmp_path / "out" / "mine.md").read_text(encoding="utf-8") == text
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["FCOS", "tophat"], "cannot stand in one leaderboard (make two, with an output folder each)"),
        (["tophat", "FCOS"], "'Top-Hat' gives maps of targets and 'FCOS' boxes"),
        (["FCOS", "-p", "repisdnet"], "'repisdnet' is not for boxes, which these entries give (known: exact, deepir)"),
        (["tophat", "-p", "deepir"], "'deepir' is not for maps of targets"),
        (["FCOS", "-p", "deepri"], "did you mean 'deepir'?"),
        (["FCOS", "FCOS"], "two entries are called 'FCOS'"),
        (["FCOS", "--data", "BARE"], "has neither boxes nor a mask, so it cannot be scored; so have 3 others of 4"),
        (["FCOS", "--split", "tset"], "unknown split 'tset'"),
        (["EMPTY"], "no best.safetensors in this folder"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    words: list[str], says: str, weights: dict, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bare, empty = tmp_path / "bare", tmp_path / "empty"
    empty.mkdir()
    shutil.copytree(root, bare)
    for file in bare.glob("SIRST/*/*"):
        file.unlink()
    named = {"FCOS": weights["fcos"], "BARE": bare, "EMPTY": empty}
    words = [str(named.get(w, w)) for w in words]
    data = [] if "--data" in words else ["--data", root]
    assert call(monkeypatch, "leaderboard", *words, *data, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
