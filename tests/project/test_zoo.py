"""docs/zoo.md is what the cards say, and its script notices when it is not."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from motes.cards import list_models
from motes.inference.backend import list_weights

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "scripts" / "zoo.py"


@pytest.fixture
def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo.py", "--check"])
    assert zoo.main() == 0, "run python docs/scripts/zoo.py"


def test_check_notices_a_change_and_writes_nothing(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "zoo.md"
    monkeypatch.setattr(zoo, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["zoo.py", "--check"])
    assert zoo.main() == 1 and not page.exists()
    monkeypatch.setattr(sys, "argv", ["zoo.py"])
    assert zoo.main() == 0
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("0.", "1.", 1), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["zoo.py", "--check"])
    assert zoo.main() == 1
    assert "out of date" in capsys.readouterr().err


def test_every_network_and_every_shipped_file_is_in_it(zoo: ModuleType) -> None:
    text = zoo.page()
    names = [*list_models("irstd"), *list_models("aerial")]
    assert set(zoo.AUTHORS_FILES) == {name for name in names if zoo.model_card(name).paper}  # not of our own
    for name in names:
        assert text.count(f"\n## {zoo.model_card(name).title}\n") == 1
    for name, file in list_weights().items():
        assert f"`{name}`" in text
        assert hashlib.sha256(file.read_bytes()).hexdigest() in text
