"""Lists of ids as recipes and ``motes evaluate --split`` name them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from miniatures import miniature
from motes.data import open_dataset
from motes.data.lists import listed, read_ids
from motes.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature(tmp_path_factory.mktemp("lists") / "small", "plain", 5)


@pytest.fixture(scope="module")
def names(root: Path) -> list[str]:
    return list(open_dataset(root).samples)


def test_remarks_suffixes_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# chosen by hand\nMisc_1 0.99\n\nimages/Misc_2.png\tMisc_7\nMisc_3#dim\n")
    assert read_ids(str(tmp_path / "a.txt")) == ["Misc_1", "Misc_2", "Misc_3"]


def test_a_shipped_list_is_found_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(read_ids("lists/sirst_hold.txt")) == 44
    with pytest.raises(DataError, match="did you mean 'lists/sirst_hold"):
        read_ids("lists/sirst_holt.txt")


def test_order_of_the_list_each_once(root: Path, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join([names[3], names[1], names[3]]))
    assert [s.name for s in listed(open_dataset(root), str(tmp_path / "a.txt"))] == [names[3], names[1]]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    from motes.cli.app import main

    monkeypatch.setattr(sys, "argv", ["motes", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_evaluate_takes_a_list_in_the_current_folder(
    root: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dim.txt").write_text(f"{names[4]}\n{names[0]}\n")
    assert run(monkeypatch, "evaluate", "tophat", "--data", root, "--split", "dim.txt") == 0
    record = json.loads(Path("evaluate/tophat-small-dim-native/metrics.json").read_text())
    assert record["run"]["split"] == "dim"
    assert record["run"]["images"] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no list of ids at list.txt"),
        ("", "list.txt lists no ids"),
        ("nothing_1\n", "list.txt: 1 of 1 ids are not in"),
        ("a\0b", "list.txt is not a text file"),
    ],
)
def test_a_bad_list_is_named(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("list.txt").write_text(text)
    assert run(monkeypatch, "evaluate", "tophat", "--data", root, "--split", "list.txt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not Path("evaluate").exists()
