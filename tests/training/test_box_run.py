"""Trainings on boxes as commands: resumed bit for bit, in two processes, and what is said of bad input."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from box_frames import write_boxes

from motes.checkpoints import load_network
from motes.checkpoints.reading import read_card
from motes.data import open_dataset
from motes.errors import MotesError
from motes.evaluation.boxes import score_boxes
from motes.imaging import write_image
from motes.inference.box_detector import BoxDetector
from motes.models.backend import TorchBackend
from motes.training import start

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 frames to train on, one of them without a target; 3 that select."""
    root = write_boxes(tmp_path_factory.mktemp("boxes"), 10)
    for stem, take in (("trainval_v1", slice(7)), ("test_v1", slice(7, None))):
        names = sorted(p.stem for p in (root / "PNGImages").iterdir())
        (root / "Splits" / f"{stem}.txt").write_text("\n".join(names[take]))
    return root


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(folder: Path, data: Path, **changes: object) -> Path:
    values = {
        "model": {"name": "fcos", "variant": "small", "options": {"backbone": "test_resnet", "depth": 1}},
        "data": {"root": str(data), "train": "trainval_v1", "val": "test_v1"},
        "transform": {"paste": 0.5, "fit": "crop", "crop": 48, "gain": 0.1},
        "losses": [{"name": "loss_bbox", "weight": 2.0}],
        "optimizer": {"name": "AdamW", "lr": 1e-3, "decay": "weights"},
        "schedule": {"name": "step", "milestones": [2], "warmup_steps": 3},
        "loop": {"epochs": 2, "batch_size": 2, "workers": 0, "accelerator": "cpu", "clip_norm": 10.0},
        **changes,
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("optimizer", ["AdamW", "DAdaptAdam"])
def test_a_stopped_training_goes_on_bit_for_bit(optimizer: str, data: Path, tmp_path: Path) -> None:
    if optimizer == "DAdaptAdam":
        pytest.importorskip("dadaptation")
    file = recipe(tmp_path, data, optimizer={"name": optimizer, "lr": 1e-3 if optimizer == "AdamW" else 1.0})
    whole = start(str(file), [], None, tmp_path / "whole")
    cut = start(str(file), ["loop.max_steps=2"], None, tmp_path / "cut")
    assert whole is not None and cut is not None and len(rows(whole)) == 6 and len(rows(cut)) == 2
    text = (cut / "recipe.yaml").read_text().replace("max_steps: 2", "max_steps: null")
    (cut / "recipe.yaml").write_text(text)
    start(None, [], cut, tmp_path)
    kept = ("step", "lr", "loss", "val_map12", "val_map07", "val_recall")
    assert [[r[k] for k in kept[:3]] for r in rows(whole)] == [[r[k] for k in kept[:3]] for r in rows(cut)]
    assert [rows(whole)[-1][k] for k in kept] == [rows(cut)[-1][k] for k in kept]
    first, second = (torch.load(r / "last.ckpt", weights_only=True)["net"] for r in (whole, cut))
    assert all(torch.equal(first[k], second[k]) for k in first)
    card = read_card(whole / "best.safetensors")
    assert card is not None and card.task == "detection" and card.training["reader"] == "exact"
    assert "mAP12" in (whole / "report.md").read_text()


def test_two_processes_score_as_one(data: Path, tmp_path: Path) -> None:
    file = recipe(tmp_path, data, loop={"epochs": 1, "batch_size": 1, "workers": 0, "accelerator": "cpu", "devices": 2})
    script = tmp_path / "go.py"
    script.write_text("from motes.cli.app import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), "train", str(file), "--runs", str(tmp_path / "runs")],
        capture_output=True, text=True, timeout=300, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (tmp_path / "runs").glob("*/*")
    net, card = load_network(run / "best.safetensors")
    detector = BoxDetector(backend=TorchBackend(net, card))
    alone = score_boxes(detector, open_dataset(data).split("test_v1"), contrast=False).compute(intervals=False)
    for key in ("map12", "map07", "recall"):
        assert float(rows(run)[-1][f"val_{key}"]) == pytest.approx(alone[key].value, abs=1e-12)


def without_sky(root: Path) -> None:
    shutil.rmtree(root / "SkySeg")


def outside(root: Path) -> None:
    edit(root, "xmin", "900")


def unnamed(root: Path) -> None:
    edit(root, "name", "Plane")


def edit(root: Path, tag: str, value: str) -> None:
    import re

    file = root / "SIRST/BBox/synthetic_00001.xml"
    file.write_text(re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", file.read_text(), count=1))


def cut_off(root: Path) -> None:
    file = root / "SIRST/BBox/synthetic_00001.xml"
    file.write_text(file.read_text()[:60])


def other_size(root: Path) -> None:
    write_image(root / "SkySeg/BinaryMask/synthetic_00001_pixels0.png", np.zeros((9, 9, 1), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "changes", "says"),
    [
        (without_sky, [], "has no sky map"),
        (
            without_sky,
            ["transform.paste=0", "model.name=bafenet", "model.options={backbone: test_resnet}"],
            "no sky map",
        ),
        (outside, [], "synthetic_00001"),
        (unnamed, [], "'Plane', expected Target"),
        (cut_off, [], "not readable as XML"),
        (other_size, [], "9x9 px"),
        (None, ["losses=[{name: loss_box}]"], "did you mean 'loss_bbox'"),
        (None, ["validation.metric=map"], "map"),
        (None, ["validation.protocol=exakt"], "exact"),
        (None, ["data.reader=deepr"], "deepir"),
        (None, ["transform.paste_mode=skye"], "transform.paste_mode"),
        (None, ["optimizer.name=DAdaptAdm"], "DAdaptAdam"),
        (None, ["model.name=acm"], "losses|option|variant"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_written(
    spoil, changes: list[str], says: str, data: Path, tmp_path: Path
) -> None:
    root = data
    if spoil is not None:
        root = tmp_path / "spoilt"
        shutil.copytree(data, root)
        spoil(root)
    with pytest.raises(MotesError, match=says) as caught:
        start(str(recipe(tmp_path, root)), changes, None, tmp_path / "runs")
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()
