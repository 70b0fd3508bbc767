"""Leaderboards: rows are measured once, sorted, told apart by how they came about, and drawn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniatures import miniature
from motes.benchmark.leaderboard import COLUMNS, Board, board_blocks, cells, entrant, measure_board, published_blocks
from motes.benchmark.page import Heading, Picture, Points, Table, Text, as_html, as_markdown
from motes.benchmark.standing import Standing, published, read_standing, slug
from motes.data import open_dataset
from motes.errors import MotesError
from motes.evaluation import score_samples
from motes.metrics import protocol


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature(tmp_path_factory.mktemp("board") / "set", "plain", 6)


@pytest.fixture(scope="module")
def board(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, Path]:
    out = tmp_path_factory.mktemp("out")
    entrants = [entrant("max-median"), entrant("Best=tophat")]
    return measure_board(entrants, open_dataset(root).split(), "Mine", None, protocol("native"), out), out


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    from motes.cli.app import main

    monkeypatch.setattr(sys, "argv", ["motes", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_rows_hold_what_an_evaluation_gives(board: tuple[Board, Path], root: Path) -> None:
    rows = {row.label: row for row in board[0].rows}
    assert set(rows) == {"Best", "Max-Median"}
    assert [r.value("iou") for r in board[0].rows] == sorted((r.value("iou") for r in rows.values()), reverse=True)
    direct = score_samples(entrant("tophat").backend, open_dataset(root).split()).compute()
    for key in ("iou", "niou", "pd", "fa", "auc", "hiou"):
        assert rows["Best"].metrics[key]["value"] == direct[key].value
    assert rows["Best"].kind == "training-free" and rows["Best"].ms > 0 and rows["Best"].params is None


def test_rows_are_kept_and_measured_again_only_when_something_changed(
    board: tuple[Board, Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, out = board
    samples = open_dataset(root).split()
    again = measure_board([entrant("Best=tophat")], samples, "Mine", None, protocol("native"), out)
    assert again.rows[0].ms == next(r.ms for r in first.rows if r.label == "Best")
    fewer = measure_board([entrant("Best=tophat")], samples[:3], "Mine", None, protocol("native"), out)
    assert fewer.rows[0].run["images"] == 3
    place = out / "rows" / "mine-all-native" / "best"
    (place / "row.npz").write_bytes(b"cut")
    assert read_standing(place) is None
    assert (
        measure_board([entrant("Best=tophat")], samples, "Mine", None, protocol("native"), out).rows[0].run["images"]
        == 6
    )


def test_a_kept_row_is_read_as_it_was_written(board: tuple[Board, Path], root: Path) -> None:
    out = board[1]
    measure_board([entrant("Again=tophat")], open_dataset(root).split(), "Mine", None, protocol("native"), out)
    row = read_standing(out / "rows" / "mine-all-native" / "again")
    assert row.masks and all(m.dtype == bool for m in row.masks.values())
    assert row.score.compute()["iou"].value == row.metrics["iou"]["value"]


@pytest.mark.parametrize(("done", "finished"), [(None, True), ((249.0, 500), False), ((250.0, 500), True)])
def test_short_trainings_stand_apart(board: tuple[Board, Path], done: object, finished: bool) -> None:
    row = replace(board[0].rows[0], epochs=done, kind="trained here")
    assert row.finished is finished
    if done:
        assert f"{done[0]:g} of 500 epochs" in str(cells(1, row)[2])


def test_unfinished_rows_get_a_table_of_their_own(board: tuple[Board, Path], root: Path, tmp_path: Path) -> None:
    best, other = board[0].rows
    blocks = board_blocks(
        replace(board[0], rows=(best,), unfinished=(replace(other, epochs=(1.0, 100)),)),
        open_dataset(root).split(),
        tmp_path,
    )
    tables = [b for b in blocks if isinstance(b, Table)]
    assert len(tables) == 2 and any(isinstance(b, Heading) and b.text == "Unfinished" for b in blocks)
    assert best.label in str(tables[0].rows) and other.label in str(tables[1].rows)
    for picture in (b for b in blocks if isinstance(b, Picture)):
        assert (tmp_path / picture.file).stat().st_size > 1000


def test_published_results_are_found_whatever_the_spelling() -> None:
    assert published("repisdnet", "nudt_sirst") == published("repisdnet", "NUDT-SIRST") != []
    assert published("repisdnet", "nothing") == published("neither", "SIRST") == published("max-mean", "SIRST") == []
    (_, _, table) = published_blocks("irstd1k")
    assert any(row[0] == "RepISD-Net" and row[3] == "0.6545" for row in table.rows)
    rows = [row for row in table.rows if row[0] == "WSLCM"]
    assert [row[3:] for row in rows] == [["0.0099", None, "0.7003", "15027", "BasicIRSTD"]]


def test_published_results_stand_beside_measured_ones_of_networks_and_methods(board: tuple[Board, Path]) -> None:
    (row,) = [row for row in board[0].rows if row.model == "tophat"]
    at = COLUMNS.index("published IoU")
    assert cells(1, row)[at] == ""
    assert cells(1, replace(row, data="SIRST"))[at] == "0.0714 (BasicIRSTD, 50:50)"
    assert str(cells(1, replace(row, data="nudt-sirst"))[at]).endswith("\n0.2083 (Sci. Rep. 2023)")
    network = replace(row, model="dnanet", variant="gray", data="IRSTD-1k")
    assert cells(1, network)[at] == "0.6573 (BasicIRSTD, gray, 80:20)"


def test_a_page_in_both_languages() -> None:
    blocks = [
        Heading(1, "A & B"),
        Text("see `x<y` and **bold**"),
        Points(["[one](1.md)", "[two](https://a.org/b.md)"]),
        Table(["name", ">n"], [["a|b", "1\n2"], [None, 3]]),
        Picture("p.png", "what"),
    ]
    text, page = as_markdown(blocks), as_html(blocks, "A & B")
    assert "| a\\|b | 1<br>2 |" in text and "| --- | ---: |" in text and "![what](p.png)" in text
    assert "<h1>A &amp; B</h1>" in page and "<code>x&lt;y</code>" in page and "<b>bold</b>" in page
    assert "- [one](1.md)" in text
    assert '<a href="1.html">one</a>' in page and '<a href="https://a.org/b.md">two</a>' in page
    assert '<td class="right">1<br><small>2</small></td>' in page


def test_the_command_writes_a_page_and_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", root, "-p", "native", "-p", "dnanet", "-o", tmp_path / "out", "--name", "My set"]
    assert run(monkeypatch, "leaderboard", "tophat", *words) == 0
    assert run(monkeypatch, "leaderboard", "tophat", "B=max-median", *words) == 0
    text = (tmp_path / "out" / "myset.md").read_text()
    assert text.count("**Top-Hat**") == 2 and text.count("**B**") == 2 and "protocol `dnanet`" in text
    assert (tmp_path / "out" / "myset.html").is_file()
    assert "IoU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tophatt"], "did you mean 'tophat'?"),
        (["tophat", "tophat"], "two entries are called 'Top-Hat'"),
        (["X="], "names nothing to score"),
        (["tophat", "-p", "nativ"], "did you mean 'native'?"),
        (["tophat", "--split", "tset"], "unknown split 'tset'"),
        (["no/run.pth"], "no such file"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, "leaderboard", *words, "--data", root, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_reproduce_puts_measured_beside_published(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import motes
    from motes.checkpoints import write_safetensors

    net = motes.create_model("repisdnet")
    file = tmp_path / "net.safetensors"
    write_safetensors(file, {k: v.numpy() for k, v in net.state_dict().items()}, net.card)
    words = ["reproduce", "repisdnet", "--weights", file, "--data", root, "--name", "SIRST"]
    assert run(monkeypatch, *words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["protocol"] for r in rows[::4]] == ["repisdnet", "native"]
    iou = next(r for r in rows if r["protocol"] == "repisdnet" and r["metric"] == "iou")
    assert {c["value"] for c in iou["published"]} == {0.7781, 0.77862}
    assert run(monkeypatch, *words) == 0
    assert "0.77810" in capsys.readouterr().out
    assert run(monkeypatch, "reproduce", "acm", *words[2:]) == 2
    assert "repisdnet" in capsys.readouterr().err


def test_labels_become_folders() -> None:
    assert slug("RepISD-Net (authors), v1.0") == "repisd-net-authors-v1.0"
    assert slug("***") == "row"
    with pytest.raises(MotesError):
        entrant("nothing-like-this")


def test_rows_without_a_value_come_last() -> None:
    def row(label: str, iou: float | None) -> Standing:
        return Standing(label, "training-free", "tophat", None, "d", None, {}, {"iou": {"value": iou}}, "k")

    assert np.isnan(row("x", None).value("iou"))
    ranked = sorted([row("none", None), row("low", 0.0), row("high", 0.9)], key=lambda r: r.rank)
    assert [r.label for r in ranked] == ["high", "low", "none"]


def test_a_shipped_network_has_the_cost_of_its_own_size() -> None:
    import motes
    from motes.export import reparameterize

    small = reparameterize(motes.create_model("motes_seg", "s", contrast=True))
    assert entrant("motes-s").params == sum(p.numel() for p in small.parameters())
