"""``motes evaluate``: files, pictures, every checkpoint of a run, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from motes.checkpoints import write_safetensors
from motes.data import open_dataset
from motes.data.scan import digest
from motes.data.synthesize import write_dataset
from motes.evaluation.gallery import failures
from motes.evaluation.run import overlap
from motes.imaging import read_image, write_image
from motes.metrics import protocol


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate") / "small"
    write_dataset(root, "plain", 5, seed=2, height=48, width=64, bits=8, targets=(1, 2), scr=(15, 40), test=0.4, val=0)
    return root


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    net = motes.create_model("repisdnet", variant="deploy")
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    for name in ("best", "step-0000010"):
        write_safetensors(folder / f"{name}.safetensors", state, net.card)
    return folder


def evaluate(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd)


def test_files_and_pictures(data: Path, run_folder: Path, tmp_path: Path) -> None:
    done = evaluate(run_folder / "best.safetensors", "--data", data, "--show", "-o", tmp_path / "out", "--save-prob")
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["run"]["model"] == "repisdnet" and stored["run"]["protocol"] == "native"
    assert len(stored["run"]["weights_sha256"]) == 64
    assert set(stored["metrics"]["iou"]) == {"value", "numerator", "denominator", "interval"}
    with (tmp_path / "out" / "per_image.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5
    assert read_image(run_folder / "show" / "gallery.png").pixels.dtype == np.uint8
    assert len(list((run_folder / "show" / "overlays").iterdir())) == 5
    first = open_dataset(data).split(None)[0].name
    assert read_image(tmp_path / "out" / "probabilities" / f"{first}.tif").pixels.dtype == np.float32


def test_every_checkpoint_of_a_run(data: Path, run_folder: Path) -> None:
    done = evaluate(run_folder, "--all", "--data", data, "--split", "test")
    assert done.returncode == 0, done.stderr
    written = sorted(run_folder.glob("evaluate/*/*/metrics.json"))
    assert [p.parent.name for p in written] == ["best", "step-0000010"]
    first, second = (json.loads(p.read_text())["metrics"] for p in written)
    assert first == second


def test_a_training_free_method_needs_no_weights(data: Path, tmp_path: Path) -> None:
    done = evaluate("tophat", "--data", data, "-o", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--split", "tset"], "'test'"),
        (["--protocol", "natvie"], "'native'"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--mask", "x=/nowhere.png"], "NAME=FILE"),
        (["--all"], "run folder"),
    ],
)
def test_bad_input(change: list[str], says: str, data: Path, tmp_path: Path) -> None:
    done = evaluate("tophat", "--data", data, "-o", tmp_path / "out", *change)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("motes: error:") and says in line
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size(data: Path, tmp_path: Path) -> None:
    name = open_dataset(data).split(None)[0].name
    write_image(tmp_path / "mask.png", np.zeros((20, 64, 1), np.uint8))
    done = evaluate("tophat", "--data", data, "-o", tmp_path / "out", "--mask", f"{name}={tmp_path / 'mask.png'}")
    assert done.returncode == 2 and "20x64" in done.stderr and "48x64" in done.stderr


def test_frames_that_were_trained_on_are_noticed(data: Path) -> None:
    samples = open_dataset(data).split(None)
    seen = digest(read_image(samples[1].image).pixels)[:12]
    card = motes.model_card("repisdnet")
    assert overlap(card, samples) == []
    (warning,) = overlap(card.replace(training={"frames": (seen,)}), samples)
    assert warning.startswith("1 of 5") and samples[1].name in warning


def test_failures_are_told_apart() -> None:
    label, mask = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    label[2:4, 2:4] = True  # missed
    mask[30:32, 30:33] = True  # false
    label[20, 10] = label[20, 13] = mask[20, 10:14] = True  # two targets, one prediction
    found = {(kind, round(x), round(y), area) for kind, x, y, area in failures(label, mask, protocol("native"))}
    assert ("missed", 2, 2, 4) in found and ("false", 31, 30, 6) in found and ("merged", 12, 20, 4) in found
