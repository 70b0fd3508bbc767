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
        ("loop.steps=9", "loop.epochs", None),  # one length of a training takes the place of the other
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
        (lambda: parse_recipe({**SMALL, "loop": {}}, "x"), "x: loop: give either epochs or steps"),
        (lambda: parse_recipe({**SMALL, "loop": {"epochs": 1, "steps": 1}}, "x"), "give either epochs or steps"),
        (lambda: load_recipe("factseg_sirst"), "factseg_isaid"),
        (lambda: load_recipe("repisdnet_isaid"), "unknown recipe"),
    ],
)
def test_what_is_wrong_is_named(call, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        call()


def test_labels_of_several_classes_have_defaults_of_their_own() -> None:
    recipe = parse_recipe({**SMALL, "data": {"classes": "isaid"}}, "x")
    assert (recipe.task, recipe.transform.name) == ("aerial", "aerial")
    assert (recipe.validation.protocol, recipe.validation.metric) == ("patch", "miou")
    chosen = parse_recipe({**SMALL, "data": {"classes": "isaid"}, "validation": {"metric": "oa"}}, "x")
    assert (chosen.validation.protocol, chosen.validation.metric) == ("patch", "oa")
    assert parse_recipe(SMALL, "x").task == "irstd"


def test_recipes_are_listed_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, motes.training.recipe as r; print(len(r.recipe_names())); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and int(done.stdout) == len(recipe_names())


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    for text in ("[1, 2", "- a", ""):
        file.write_text(text)
        with pytest.raises(MotesError, match=r"r\.yaml"):
            load_recipe(str(file))
