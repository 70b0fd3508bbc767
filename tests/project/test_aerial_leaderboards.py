"""docs/leaderboards/isaid.md and gaofen.md say what the cards say, and take measured rows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "scripts" / "aerial_leaderboards.py"


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("aerial_leaderboards", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "aerial_leaderboards", module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(boards: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["aerial_leaderboards.py", "--check"])
    assert boards.main() == 0, "run python docs/scripts/aerial_leaderboards.py"


@pytest.mark.parametrize(
    ("file", "network", "value", "protocol"),
    [
        ("isaid", "FactSeg", "64.80", "window"),
        ("isaid", "FactSeg", "64.64", "window"),
        ("isaid", "FarSeg", "63.71", "window"),
        ("isaid", "PFNet", "66.90", "pfnet"),
        ("isaid", "PFNet, jittor-r50", "66.30", "pfnet"),
        ("gaofen", "PFNet, gaofen-r2n101", "96.1223", "gaofen"),
        ("gaofen", "PFNet, gaofen-r2n101", "97.0155", "gaofen"),
    ],
)
def test_published_values_with_their_protocol(file: str, network: str, value: str, protocol: str) -> None:
    text = (SCRIPT.parents[1] / "leaderboards" / f"{file}.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    columns = next(row for row in rows if "classes" in row)
    (found,) = [row for row in rows if row[0] == network and value in row]
    named = dict(zip(columns, found, strict=True))
    assert named["protocol"] == protocol and named["classes"] and named["source"]
    assert named["measured here"] == "not measured here"
    assert "**Not measured here**" in text and "`motes evaluate RUN --data" in text


def test_a_measured_file_becomes_a_row(boards: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boards, "PAGES", tmp_path)
    run = {"model": "factseg", "variant": None, "data": "isaid", "split": "val", "protocol": "window"}
    metrics = {"miou": {"value": 0.61234}, "miou_foreground": {"value": 0.59}}
    (tmp_path / "aerial").mkdir()
    file = tmp_path / "aerial" / "isaid-factseg.json"
    file.write_text(json.dumps({"run": run, "metrics": metrics}), encoding="utf-8")
    boards.write_pages()
    text = (tmp_path / "isaid.md").read_text(encoding="utf-8")
    assert "| factseg | iSAID | val | window | 61.23 | 59.00 |" in text
    rows = [line for line in text.splitlines() if line.startswith("| FactSeg")]
    assert rows and all("| 61.23 |" in row for row in rows)
    assert all("not measured here" in line for line in text.splitlines() if line.startswith(("| FarSeg", "| PFNet")))
    assert "**Not measured here**" in (tmp_path / "gaofen.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["aerial_leaderboards.py", "--check"])
    assert boards.main() == 0
    file.unlink()
    assert boards.main() == 1
