"""Recipes: what is shipped is valid, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from motes.errors import MotesError
from motes.training.recipe import dump_recipe, load_recipe, parse_recipe, recipe_names

SMALL = {"model": {"name": "repisdnet"}, "losses": [{"name": "dice"}], "loop": {"epochs": 1}}


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_survive_a_round_trip(name: str) -> None:
    import yaml

    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "dump") == recipe


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("loop.epochs=7", "loop.epochs", 7),
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("optimizer.options.weight_decay=1e-5", "optimizer.options", {"weight_decay": 1e-5}),
        ("transform.scale=[0.9, 1.1]", "transform.scale", (0.9, 1.1)),
        ("loop.ema=null", "loop.ema", None),
        ("data.root=some/where", "data.root", "some/where"),
    ],
)
def test_overrides(override: str, path: str, value: object) -> None:
    found: object = load_recipe("repisdnet_sirst_small_crops", [override])
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: load_recipe("repisdnet_sirts"), "repisdnet_sirst"),
        (lambda: load_recipe("nowhere.yaml"), "no recipe file"),
        (lambda: load_recipe("repisdnet_sirst", ["loop.epoch=3"]), "loop.epochs|'epochs'"),
        (lambda: load_recipe("repisdnet_sirst", ["optimiser.lr=3"]), "optimizer"),
        (lambda: load_recipe("repisdnet_sirst", ["loop.epochs=many"]), "loop.epochs"),
        (lambda: load_recipe("repisdnet_sirst", ["loop.epochs"]), "key=value"),
        (lambda: load_recipe("repisdnet_sirst", ["input.men=[1.0]"]), "mean"),
        (lambda: parse_recipe({**SMALL, "losses": []}, "x"), "losses"),
    ],
)
def test_what_is_wrong_is_named(call, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        call()


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    for text in ("[1, 2", "- a", ""):
        file.write_text(text)
        with pytest.raises(MotesError, match=r"r\.yaml"):
            load_recipe(str(file))
