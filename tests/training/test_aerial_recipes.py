"""The shipped recipes of aerial data: the authors' settings, and two steps on a miniature of the data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import motes
from motes.checkpoints import load_network
from motes.data import Sample
from motes.data.aerial_scenes import write_aerial
from motes.data.classes import class_table
from motes.metrics import class_protocol
from motes.training import start
from motes.training.recipe import DataPart, load_recipe, recipe_names
from motes.training.selection import carve, source_image

LAYOUTS = {
    "iSAID": "isaid", "GaoFen-IMG": "gaofen-img", "GaoFen-SAR": "gaofen-sar", "Potsdam": "potsdam",
    "Vaihingen": "vaihingen",
}  # fmt: skip
STANDALONE = ("aerial_overfit",)
AERIAL = [n for n in recipe_names() if load_recipe(n).task == "aerial" and n not in STANDALONE]
ISSUED = ("factseg_isaid", "farseg_isaid", "pfnet_isaid", "pfnet_gaofen_img", "pfnet_gaofen_sar")


def test_every_aerial_network_has_a_recipe_for_every_aerial_data_set() -> None:
    data = ("isaid", "gaofen_img", "gaofen_sar", "potsdam", "vaihingen")
    assert set(AERIAL) == {f"{n}_{d}" for n in motes.list_models("aerial") for d in data}
    assert set(ISSUED) < set(AERIAL)


@pytest.mark.parametrize("name", AERIAL)
def test_names_what_exists_and_starts_from_imagenet(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.name in LAYOUTS and recipe.transform.name == "aerial"
    assert class_table(str(recipe.data.classes)).names
    assert class_protocol(recipe.validation.protocol)
    assert recipe.model.backbone_weights == "imagenet"
    assert recipe.validation.selects_on_test is False and recipe.validation.metric == "miou"
    assert recipe.schedule.shift == 0 and recipe.schedule.name == "poly" and recipe.schedule.power == 0.9
    options = recipe.optimizer.options
    assert (recipe.optimizer.name, options["momentum"], options["weight_decay"]) == ("SGD", 0.9, 1e-4)


SETTINGS = [
    ("factseg_isaid", "loop.steps", 60000), ("factseg_isaid", "loop.clip_norm", 35),
    ("factseg_isaid", "loop.seed", 2333),
    ("factseg_isaid", "loop.keep_every_steps", 5000), ("factseg_isaid", "loop.batch_size", 8),
    ("factseg_isaid", "optimizer.lr", 0.007), ("factseg_isaid", "data.windows.rule", "window"),
    ("factseg_isaid", "data.windows.patch", 896), ("factseg_isaid", "data.windows.stride", 512),
    ("factseg_isaid", "transform.fit", "pad"), ("factseg_isaid", "transform.blur", 0),
    ("farseg_isaid", "loop.steps", 60000), ("farseg_isaid", "transform.rotate", True),
    ("pfnet_isaid", "loop.epochs", 16), ("pfnet_isaid", "loop.steps", None), ("pfnet_isaid", "loop.batch_size", 16),
    ("pfnet_isaid", "schedule.unit", "epoch"), ("pfnet_isaid", "loop.clip_norm", None),
    ("pfnet_isaid", "transform.fit", "resize"), ("pfnet_isaid", "transform.blur", 1),
    ("pfnet_isaid", "transform.blur_sigma", (0.15, 1.3)), ("pfnet_isaid", "data.windows.rule", "split"),
    ("pfnet_isaid", "validation.protocol", "pfnet"),
    ("pfnet_gaofen_img", "model.variant", "gaofen-r2n101"), ("pfnet_gaofen_img", "transform.crop", 512),
    ("pfnet_gaofen_img", "loop.epochs", 64), ("pfnet_gaofen_img", "optimizer.lr", 0.001),
    ("pfnet_gaofen_sar", "model.variant", "gaofen-r2n101"), ("pfnet_gaofen_sar", "loop.batch_size", 8),
    ("pfnet_gaofen_sar", "data.windows", None), ("pfnet_gaofen_sar", "data.root", "gaofen/sar"),
    ("pfnet_potsdam", "optimizer.lr", 0.01), ("pfnet_potsdam", "loop.epochs", 100),
    ("pfnet_potsdam", "transform.fit", "crop"),
    ("pfnet_vaihingen", "loop.epochs", 200), ("pfnet_vaihingen", "transform.crop", 768),
    ("pfnet_vaihingen", "data.windows.patch", 768),
]  # fmt: skip


@pytest.mark.parametrize(("name", "key", "value"), SETTINGS, ids=[f"{n} {k}" for n, k, _ in SETTINGS])
def test_the_authors_settings(name: str, key: str, value: object) -> None:
    found: object = load_recipe(name)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("name", ["factseg_isaid", "pfnet_gaofen_sar", "pfnet_potsdam"])
def test_trains_two_steps_on_a_miniature(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(name)
    write_aerial(tmp_path / "set", LAYOUTS[recipe.data.name], 6, (72, 80))
    small = [
        f"data.root={tmp_path / 'set'}", "model.backbone_weights=none", "model.options={backbone: test_resnet}",
        "transform.crop=64", "loop.batch_size=2", "loop.max_steps=2", "loop.workers=0", "loop.precision=32-true",
        "validation.protocol=patch", "data.val=null", "data.val_fraction=0.3",
    ]  # fmt: skip
    if recipe.data.windows is not None:
        small += ["data.windows.patch=64", "data.windows.stride=48"]
    if recipe.model.variant:
        small += ["model.variant=null"]  # its port needs 448 px
    folder = start(name, small, None, tmp_path / "runs")
    assert folder is not None
    net, card = load_network(folder / "best.safetensors")
    assert card.training["recipe"] == name and card.classes == class_table(str(recipe.data.classes)).names
    assert all(torch.isfinite(p).all() for p in net.parameters())


LOSSES = {"factseg": "factseg.joint", "pfnet": "pfnet.joint", "semantic_fpn": "cross_entropy"}


@pytest.mark.parametrize("model", LOSSES)
def test_the_overfitting_recipe_takes_any_network_and_a_handful_of_patches(model: str, tmp_path: Path) -> None:
    """All images are trained on, none selects, and the last weights are those that count."""
    torch.set_num_threads(1)
    write_aerial(tmp_path / "set", "patches", 2, 80)
    changed = [
        f"data.root={tmp_path / 'set'}", f"model.name={model}", f"losses=[{{name: {LOSSES[model]}}}]",
        "model.options={backbone: test_resnet}", "transform.crop=64", "loop.batch_size=2", "loop.steps=2",
    ]  # fmt: skip
    folder = start("aerial_overfit", changed, None, tmp_path / "runs")
    assert folder is not None
    _, card = load_network(folder / "best.safetensors")
    assert card.name == model and card.training["recipe"] == "aerial_overfit"
    assert load_recipe("aerial_overfit").transform.centred == 1


def test_patches_of_an_image_are_never_on_both_sides() -> None:
    samples = [
        Sample(f"P{i:04d}_0_896_{x}_{x + 896}", Path(f"{i}_{x}.png")) for i in range(20) for x in (0, 512, 1024, 1536)
    ]
    train, val = carve(samples, DataPart(classes="isaid", val_fraction=0.2), seed=3)
    assert len(train) == 64 and len(val) == 16
    assert not {source_image(s.name) for s in train} & {source_image(s.name) for s in val}
    assert source_image("P0001") == "P0001" and source_image("2_10") == "2_10"
