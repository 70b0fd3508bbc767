"""Published results of training-free methods: the table of the reference, and shown by `motes models`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from motes.cards import Card
from motes.classical import METHODS, classical_backend

TITLES = {method.title: method for method in METHODS.values()}
COLUMNS = (("SIRST", "50:50"), ("NUDT-SIRST", "50:50"), ("IRSTD-1k", "80:20"))


def test_the_table_of_the_reference(reference_root: Path) -> None:
    text = (reference_root / "classical" / "spec.md").read_text(encoding="utf-8")
    table = text.split("## Published numbers")[1].split("## Measured cost")[0]
    found = 0
    for line in table.splitlines():
        name, *cells = (part.strip() for part in line.strip("|").split("|"))
        if name not in TITLES or len(cells) != 3:
            continue
        for (data, split), cell in zip(COLUMNS, cells, strict=True):
            iou, pd, fa = (float(number) for number in cell.split("/"))
            (row,) = [r for r in TITLES[name].published if r["source"] == "BasicIRSTD" and r["data"] == data]
            assert (row["split"], row["protocol"]) == (split, "basicirstd")
            assert [row["iou"] * 100, row["pd"] * 100, row["fa"] * 1e6] == pytest.approx([iou, pd, fa], abs=1e-9), name
            found += 1
    assert found == 27
    assert found == sum(r["source"] == "BasicIRSTD" for method in METHODS.values() for r in method.published)
    # The other sources: every number of a row is in the text as printed there.
    numbers = set(re.findall(r"\d+(?:\.\d+)?", table))
    for method in METHODS.values():
        for row in method.published:
            unit = 1e5 if row["source"].startswith("Sci. Rep.") else 1e6
            for value in (row.get("iou", 0) * 100, row["pd"] * 100, row["fa"] * unit):
                assert value == 0 or {f"{value:.{digits}f}" for digits in range(4)} & numbers, (method.name, row)


@pytest.mark.parametrize("name", METHODS)
def test_rows_are_those_of_a_card(name: str) -> None:
    method = METHODS[name]
    card = Card.from_dict({**method.card.to_dict(), "published": [dict(r) for r in method.published]})
    assert card.published == method.published
    for row in card.published:
        assert (
            {"data", "pd", "fa", "source"} <= row.keys() <= {"data", "split", "protocol", "iou", "pd", "fa", "source"}
        )
        assert 0 < row.get("iou", 0.5) < 1 and 0 < row["pd"] < 1 and 0 < row["fa"] < 0.5
    assert classical_backend(name).card.published == ()  # every detection reads this card


def test_models_shows_a_method(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from motes.cli.app import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["motes", "models", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    code, out, _ = run("rlcm")
    assert code == 0
    assert "settings   size=9, pairs=2,4,5,9,9,16, rule=mean+7std" in out
    (line,) = [line for line in out.splitlines() if line.startswith("NUDT-SIRST")]
    assert line.split() == ["NUDT-SIRST", "50:50", "basicirstd", "0.1514", "0.6635", "163", "BasicIRSTD"]
    code, _, error = run("rlmc")
    assert code == 2 and "did you mean 'rlcm'?" in error
    assert run("tophat", "--measure", "--json")[0] == 0
