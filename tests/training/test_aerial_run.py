"""Trainings on labels of several classes: resumed, in two processes, from backbone weights, stopped by bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import motes.training.loop as loop_module
from motes.cards import Card, model_card
from motes.checkpoints import load_network, write_safetensors
from motes.data import open_dataset
from motes.data.aerial_scenes import scene
from motes.data.classes import class_table
from motes.data.labels import write_labels
from motes.errors import InterruptedRun, MotesError
from motes.evaluation.classes import score_classes
from motes.imaging import write_image
from motes.layers.backbone import create_backbone
from motes.models import create_model
from motes.models.backend import TorchBackend
from motes.models.class_order import AUTHORS_CLASSES, reorder_classes
from motes.training import start
from motes.training.labelled import LabelledSet
from motes.training.network import load_start, make_network
from motes.training.recipe import TransformPart, parse_recipe

TINY = {"backbone": "test_resnet"}  # of timm, 0.4 million parameters
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 images to train on, 3 that select: an odd count. The second has no foreground and another size."""
    root, table = tmp_path_factory.mktemp("data"), class_table("isaid")
    for split, sizes in (("train", [(48, 70)] * 4), ("val", [(40, 40), (33, 50), (40, 40)])):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i, size in enumerate(sizes):
            pixels, ids = scene((len(sizes), i), size, table)
            if split == "val" and i == 1:
                ids[:] = 0
            write_image(root / split / "images" / f"P{len(sizes)}{i}.png", pixels)
            write_labels(root / split / "masks" / f"P{len(sizes)}{i}_instance_color_RGB.png", ids)
    return root


def recipe(root: Path, model: str = "semantic_fpn", loss: str = "cross_entropy", **parts: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": {"name": model, "options": TINY},
        "data": {
            "root": str(root), "classes": "isaid", "train": "train", "val": "val",
            "windows": {"patch": 32, "stride": 24},
        },
        "transform": {"crop": 32, "rotate": True, "blur": 0.5},
        "losses": [{"name": loss}],
        "optimizer": {"name": "SGD", "lr": 0.007, "options": {"momentum": 0.9, "weight_decay": 1e-4}},
        "schedule": {"name": "poly"},
        "loop": {
            "steps": 4, "batch_size": 2, "workers": 0, "accelerator": "cpu", "clip_norm": 35.0, "keep_every_steps": 2,
            "checkpoint_every": 1,
        },
        "validation": {"every_steps": 2},
    }  # fmt: skip
    for key, part in parts.items():
        values[key] = {**values[key], **part} if isinstance(part, dict) else part
    return values


def run(values: dict[str, Any], folder: Path, *overrides: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    made = start(str(file), overrides, None, folder / "runs")
    assert made is not None
    return made


KINDS = {
    "factseg": ("factseg.joint", {}),
    "farseg": ("farseg.focal", {"accumulate": 2}),
    "pfnet": ("pfnet.joint", {"clip_per": "tensor", "precision": "bf16-mixed", "ema": 0.9}),
}


@pytest.mark.parametrize("model", KINDS)
def test_interrupted_and_resumed_ends_bit_equal(
    model: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, loop = KINDS[model]
    values = recipe(data, model, loss)
    values["loop"] |= loop
    whole = run(values, tmp_path / "whole")

    end_step = loop_module.Trainer.end_step

    def interrupt(self: loop_module.Trainer, row: dict[str, Any], at_end: bool) -> None:
        end_step(self, row, at_end)
        if self.step == 3:
            self.run.log(row)
            self.save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Trainer, "end_step", interrupt)
        with pytest.raises(InterruptedRun):
            run(values, tmp_path / "halved")
    (halved,) = (tmp_path / "halved" / "runs").glob("*/*")
    assert not (halved / "step-0000004.safetensors").exists()
    start(None, [], halved, tmp_path)

    first, second = (torch.load(r / "last.ckpt", weights_only=True) for r in (whole, halved))
    assert [k for k, v in first["net"].items() if not torch.equal(v, second["net"][k])] == []
    assert {k: int(v) for k, v in first["loss"].items()} == {k: int(v) for k, v in second["loss"].items()}
    if model == "farseg":  # optimiser steps, not forwards
        assert list(first["loss"].values()) == [torch.tensor(4)]
    for name in ("best.safetensors", "step-0000002.safetensors", "step-0000004.safetensors"):
        assert (whole / name).read_bytes() == (halved / name).read_bytes()
    rows = [[r.split(",")[:4] for r in (f / "metrics.csv").read_text().splitlines()] for f in (whole, halved)]
    assert rows[0] == rows[1] and len(rows[0]) == 5


def test_an_image_that_comes_again_in_an_epoch_is_cut_anew(data: Path) -> None:
    part = TransformPart(name="aerial", crop=32, blur=0, flip=0)
    samples = open_dataset(data).split("train")
    items = LabelledSet(samples, class_table("isaid"), model_card("factseg").input, part, 0)
    first, again, third = (items[key][0] for key in ((0, 1), (0, 1, 1), (0, 1, 2)))
    assert np.array_equal(first, items[0, 1][0]) and np.array_equal(again, items[0, 1, 1][0])
    assert not np.array_equal(first, again) and not np.array_equal(again, third)


def test_the_run_says_what_it_did(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(recipe(data), tmp_path)
    assert "starts from weights drawn by chance, seed 0" in capsys.readouterr().err
    assert json.loads((made / "environment.json").read_text())["starts from"].startswith("weights drawn by chance")
    report = (made / "report.md").read_text()
    for text in (
        "starts from weights drawn by chance",
        "windows: 24, rule window, 32 px every 24",
        "steps done: 4 of 4",
    ):
        assert text in report
    net, card = load_network(made / "best.safetensors")
    table = class_table("isaid")
    assert isinstance(card, Card) and card.classes == table.names and card.training["step"] in (2, 4)
    with (made / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [bool(r["val_miou"]) for r in rows] == [False, True, False, True]
    assert [float(r["lr"]) for r in rows] == pytest.approx([0.007 * (1 - k / 4) ** 0.9 for k in range(4)])
    best = max((r for r in rows if r["val_miou"]), key=lambda r: float(r["val_miou"]))
    alone = score_classes(TorchBackend(net, card), open_dataset(data).split("val"), table, "patch")
    for key in ("miou", "miou_foreground", "oa"):
        assert float(best[f"val_{key}"]) == alone.compute(intervals=False)[key].value


def test_two_processes_score_as_one(data: Path, tmp_path: Path) -> None:
    """gloo, 3 validation images over 2 processes (2 and 1), one without foreground and of another size."""
    values = recipe(data, loop={"steps": 2, "devices": 2})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    script = tmp_path / "go.py"
    script.write_text("from motes.cli.app import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), "train", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "runs")],
        capture_output=True, text=True, timeout=400, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = (tmp_path / "runs").glob("*/*")
    with (made / "metrics.csv").open() as stream:
        logged = list(csv.DictReader(stream))[-1]
    net, card = load_network(made / "best.safetensors")
    alone = score_classes(TorchBackend(net, card), open_dataset(data).split("val"), class_table("isaid"), "patch")
    assert len(alone.images) == 3
    for key, value in alone.compute(intervals=False).items():
        if f"val_{key}" in logged:
            assert float(logged[f"val_{key}"]) == value.value


def test_starts_from_weights_that_number_the_classes_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = create_model("semantic_fpn", backbone="test_resnet").eval()
    official = net.card.classes
    assert sorted(AUTHORS_CLASSES) == sorted(official) and official != AUTHORS_CLASSES
    images = torch.randn(1, 3, 64, 64)
    before = net(images)
    reorder_classes(net, AUTHORS_CLASSES)
    file = tmp_path / "authors.safetensors"
    write_safetensors(file, {k: v.numpy() for k, v in net.state_dict().items()}, net.card)
    text = recipe(tmp_path)
    text["model"]["init"] = str(file)
    made = make_network(parse_recipe(text, "test"))
    assert "order of the data" in load_start(made, parse_recipe(text, "test"))
    assert made.card.classes == official and torch.equal(made.eval()(images), before)


def test_starts_from_a_backbone_file_and_resumes_without_it(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    body = create_backbone("test_resnet").body
    file = tmp_path / "imagenet.pth"
    torch.save({**body.state_dict(), "fc.weight": torch.zeros(1000, 96), "fc.bias": torch.zeros(1000)}, file)
    values = recipe(data, loop={"steps": 1}, optimizer={"lr": 1e-12}, validation={"every_steps": 1})
    values["model"]["backbone_weights"] = str(file)
    made = run(values, tmp_path / "a")
    net, _ = load_network(made / "best.safetensors")
    first = next(n for n, p in body.named_parameters() if p.ndim == 4)
    assert torch.allclose(net.backbone.body.state_dict()[first], body.state_dict()[first], atol=1e-6)
    assert str(file) in (made / "report.md").read_text()

    file.unlink()
    saved = made / "recipe.yaml"
    saved.write_text(saved.read_text().replace("steps: 1\n", "steps: 2\n", 1))
    assert start(None, [], made, tmp_path) == made
    assert "imagenet.pth" in (made / "report.md").read_text()


def test_imagenet_without_a_network_is_an_error_with_a_way_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import motes.layers.backbone as backbone

    class Offline:
        @staticmethod
        def list_models(*_: object, **__: object) -> list[str]:
            return []

        @staticmethod
        def create_model(*_: object, **__: object) -> None:
            raise OSError("no route to host")

    values = recipe(data)
    values["model"]["backbone_weights"] = "imagenet"
    create = backbone.create_backbone
    made = create("test_resnet")
    monkeypatch.setattr("motes.models.semantic_fpn.create_backbone", lambda *_, **__: made)
    monkeypatch.setattr(backbone, "import_timm", Offline)
    with pytest.raises(MotesError, match="cannot be had: no route to host") as error:
        run(values, tmp_path)
    assert "model.backbone_weights=PATH" in str(error.value) and "model.backbone_weights=none" in str(error.value)
    assert not (tmp_path / "runs").exists()


BAD = [
    ("model.name=repisdnet", "repisdnet is a network of the task irstd, the data are of the task aerial"),
    ("data.classes=null", "semantic_fpn is a network of the task aerial, the data are of the task irstd"),
    ("data.classes=isiad", "did you mean 'isaid'"),
    ("validation.protocol=dnanet", "unknown protocol"),
    ("validation.metric=iou", "validation metric"),
    ("loop.epochs=2 loop.steps=3 loop.epochs=4 loop.steps=null", "give either epochs or steps"),
    ("data.windows.stride=0", "data.windows.stride"),
    ("data.windows.patsh=3", "did you mean 'patch'"),
    ("model.options={backbone: resnet5}", "unknown backbone"),
    ("model.backbone_weights=nowhere.pth", "nowhere.pth"),
]


@pytest.mark.parametrize(("overrides", "says"), BAD, ids=[b for b, _ in BAD])
def test_bad_input_is_found_before_a_run_begins(overrides: str, says: str, data: Path, tmp_path: Path) -> None:
    items = [overrides] if "{" in overrides else overrides.split()
    values = recipe(data)
    if items[0].startswith("model.name"):
        values["model"].pop("options")
    with pytest.raises(MotesError) as error:
        run(values, tmp_path, *items)
    assert says in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_labels_that_are_no_class_are_counted(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    ids = np.zeros((32, 32), np.uint8)
    ids[:2, :3] = 77
    write_image(root / "train" / "images" / "P1.png", np.zeros((32, 32, 3), np.uint8))
    write_labels(root / "train" / "masks" / "P1_instance_color_RGB.png", ids)
    values = recipe(root, data={"val": None, "val_fraction": 0})
    with pytest.raises(MotesError) as error:
        run(values, tmp_path)
    assert "P1" in str(error.value) and "77" in str(error.value) and "6" in str(error.value)


def test_masks_of_another_size_are_found_before_a_run_begins(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for kind in ("images", "masks"):
        (root / "train" / kind).mkdir(parents=True)
    write_image(root / "train" / "images" / "P1.png", np.zeros((32, 32, 3), np.uint8))
    write_labels(root / "train" / "masks" / "P1_instance_color_RGB.png", np.zeros((32, 20), np.uint8))
    values = recipe(root, data={"val": None, "val_fraction": 0})
    with pytest.raises(MotesError, match=r"P1.*32x20.*32x32"):
        run(values, tmp_path)
    assert not (tmp_path / "runs").exists()
