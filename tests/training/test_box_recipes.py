"""Two steps of every recipe for boxes, on a miniature of DenseSIRST."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import torch
from box_frames import write_boxes

from motes.cards import list_models, model_card
from motes.layers.box_backbone import batch_norms
from motes.training.loop import Trainer, make_fabric
from motes.training.network import make_network
from motes.training.recipe import load_recipe, recipe_names
from motes.training.run import Run
from motes.training.samples import Order, loader, start
from motes.training.selection import check_frames, select_frames

DETECTORS = list_models("detection")
SIDE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("densesirst"), 8, SIDE)


def test_every_detector_has_both() -> None:
    assert len(DETECTORS) == 26
    names = recipe_names()
    assert {f"{d}_{r}" for d in DETECTORS for r in ("densesirst", "densesirst_published")} <= set(names)
    assert "acm_densesirst" not in names and "fcos_sirst" not in names


OTHERS = pytest.mark.slow  # published settings are the same for all but a few
CASES = [
    *((name, "densesirst") for name in DETECTORS),
    *(
        pytest.param(name, "densesirst_published", marks=() if name in ("bafenet", "ssd", "detr") else OTHERS)
        for name in DETECTORS
    ),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_two_steps(name: str, kind: str, data: Path, tmp_path: Path) -> None:
    changes = [
        f"data.root={data}", "model.backbone_weights=none", "transform.crop=64", "loop.batch_size=2", "loop.workers=0",
        "loop.accelerator=cpu", "loop.max_steps=2",
    ]  # fmt: skip
    network = getattr(importlib.import_module(f"motes.models.{name}"), model_card(name).class_name)
    if "backbone" in inspect.signature(network).parameters:
        changes.append("model.options={backbone: resnet18}")
    if kind == "densesirst_published":
        pytest.importorskip("dadaptation")
        changes.append("transform.resize=[64, 64]")
    recipe = load_recipe(f"{name}_{kind}", changes)
    assert recipe.task == "detection" and recipe.model.variant == (None if "published" in kind else "small")
    frames = select_frames(recipe)
    check_frames(frames, recipe.validation.protocol)
    assert frames.train and frames.val
    torch.manual_seed(0)
    trainer = Trainer(make_fabric(recipe), recipe, frames, Run(tmp_path, quiet=True, task="detection"))
    before = {k: v.clone() for k, v in trainer.net.module.named_parameters()}
    batches = start(loader(trainer.data, Order(frames.repeats, 2, 3, 0, 0, 1), 0))
    for trainer.step in (300, 301):  # past the warm-up of sensible ones
        value, rate = trainer.optimizer_step([next(batches)])
        assert value == value and rate > 0 and trainer.loss.parts
    moved = [k for k, v in trainer.net.module.named_parameters() if not torch.equal(v, before[k])]
    assert any("backbone" in k for k in moved) and any("backbone" not in k for k in moved)


def test_the_short_one_takes_any_of_them_with_a_pyramid() -> None:
    for name in ("bafenet", "fcos", "gfl", "centernet"):
        net = make_network(load_recipe("densesirst_short", [f"model.name={name}"]))
        assert 1e7 < sum(p.numel() for p in net.parameters()) < 1.3e7


@pytest.mark.parametrize(("changes", "backbone"), [([], "BoxBackbone"), (["model.options={}"], "FineBackbone")])
def test_the_short_one_takes_ours_with_its_own_backbone_too(changes: list[str], backbone: str) -> None:
    net = make_network(load_recipe("densesirst_short", ["model.name=motes_det", *changes]))
    assert type(net.backbone).__name__ == backbone


@pytest.mark.parametrize("name", ["fcos", "atss", "detr"])
def test_a_backbone_from_chance_is_trained_whole(name: str) -> None:
    changes = ["model.options={backbone: resnet18}", "model.variant=null"]
    usual = make_network(load_recipe(f"{name}_densesirst", changes)).backbone.train()
    fresh = make_network(load_recipe(f"{name}_densesirst", [*changes, "model.backbone_weights=none"])).backbone.train()
    assert not all(p.requires_grad for p in usual.parameters()) and all(p.requires_grad for p in fresh.parameters())
    assert not any(n.training for n in batch_norms(usual)) and all(n.training for n in batch_norms(fresh))
    assert not any(n.training for n in batch_norms(fresh.eval()))
