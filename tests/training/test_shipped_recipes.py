"""Every shipped recipe trains two steps on a miniature of its data set, and ends with weights that load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import motes
from miniatures import miniature
from motes.checkpoints import load_network
from motes.training import start
from motes.training.recipe import load_recipe, recipe_names

LAYOUTS = {
    "SIRST": "sirstdevkit",
    "NoisySIRST": "sirstdevkit",
    "IRSTD-1k": "irstd1k",
    "SIRST-AUG": "serankdet",
    "NUDT-SIRST": "dnanet",
}
DATA = ("sirst", "noisy_sirst", "irstd1k", "sirst_aug", "nudt_sirst")
STANDALONE = (
    "repisdnet_sirst_small_crops",
    "repisdnet_sirst_shipped",
    "repisdnet_sirst_all",
    "sirst_short",
    "motes_seg_sensors",
)

LARGE = {"uiunet": 1, "serankdet": 0, "agpcnet": 2, "mtunet": 2}
"""Networks of ten million parameters and more: how many of their recipes are run; all are read."""

TINY = {
    "abc": ["model.options={width: 16, image_size: 64}", "transform.crop=64"],
    "agpcnet": ["transform.crop=96"],
    "alcnet": ["transform.crop=96"],
}


INFRARED = [n for n in recipe_names() if load_recipe(n).task == "irstd"]


def runs() -> list[str]:
    names = [n for n in INFRARED if n not in STANDALONE]
    left = dict(LARGE)
    chosen = []
    for name in names:
        network = name.split("_")[0]
        left[network] = left.get(network, len(names)) - 1
        if left[network] >= 0:
            chosen.append(name)
    return chosen


def test_every_infrared_network_has_a_recipe_for_every_infrared_data_set() -> None:
    assert set(INFRARED) >= {f"{n}_{d}" for n in motes.list_models("irstd") for d in DATA} | set(STANDALONE)


@pytest.mark.parametrize("name", INFRARED)
def test_names_a_network_a_loss_and_a_data_set_that_exist(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.name in motes.list_models("irstd")
    assert recipe.data.name in LAYOUTS
    assert recipe.validation.selects_on_test is False
    assert recipe.name == name


@pytest.mark.parametrize("name", runs())
def test_trains_two_steps_on_a_miniature(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(name)
    root = miniature(tmp_path / "set", LAYOUTS[recipe.data.name], 6)
    small = ["loop.batch_size=2", "loop.max_steps=2", "loop.workers=0", "validation.protocol=native"]
    small += TINY.get(recipe.model.name, ["transform.crop=64"])
    folder = start(name, [f"data.root={root}", "loop.epochs=2", *small], None, tmp_path / "runs")
    net, card = load_network(folder / "best.safetensors")
    assert card.name == recipe.model.name and card.training["recipe"] == name
    assert all(torch.isfinite(p).all() for p in net.parameters())
