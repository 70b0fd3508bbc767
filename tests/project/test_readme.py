"""README's two commands are there, run by .ci/run as they stand, and what it links to exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_two_commands() -> None:
    spec = importlib.util.spec_from_file_location("readme", REPOSITORY / ".ci" / "readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.commands(README) == ["pip install . && motes demo", "pip install '.[test]' && pytest"]
    assert README.count("```sh") == 1


def test_opens_with_a_picture() -> None:
    lines = [line for line in README.splitlines() if line]
    assert lines[0] == "# motes"
    assert re.match(r"!\[.+\]\(docs/images/demo\.png\)", lines[1])


def test_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_every_command_is_in_the_table() -> None:
    from motes.cli.app import COMMANDS

    table = set(re.findall(r"\[`motes (\w+)`\]", README))
    assert set(COMMANDS) - table == {"recipes"}
