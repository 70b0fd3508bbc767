"""Whole trainings through the command line: killed and resumed, in two processes, stopped by what goes wrong."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from motes.benchmark.leaderboard import epochs_of_run
from motes.checkpoints import load_network
from motes.data import open_dataset
from motes.data.synthesize import write_dataset
from motes.errors import MotesError
from motes.evaluation import score_samples
from motes.imaging import write_image
from motes.models.backend import TorchBackend
from motes.training.loop import Trainer, make_fabric
from motes.training.recipe import load_recipe
from motes.training.run import Run
from motes.training.samples import Order, loader, start
from motes.training.selection import select_frames

MOTES = [sys.executable, "-c", "from motes.cli.app import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 frames to train on, 5 that select: an odd count, of which the last two have no target."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, "plain", 18, seed=3, height=48, width=56, targets=(1, 2), snr=(12, 20), bits=8)
    ids = sorted(p.stem for p in (root / "images").iterdir())
    (root / "train.txt").write_text("\n".join(ids[:13]))
    (root / "val.txt").write_text("\n".join(ids[13:]))
    for name in ids[-2:]:
        write_image(root / "masks" / f"{name}.png", np.zeros((48, 56, 1), np.uint8))
    return root


def recipe(folder: Path, data: Path, **loop: object) -> Path:
    values = {
        "model": {"name": "repisdnet"},
        "data": {"root": str(data), "train": str(data / "train.txt"), "val": str(data / "val.txt")},
        "transform": {"name": "target", "crop": 32, "rotate": True, "gain": 0.2, "noise": 0.02},
        "losses": [{"name": "soft_iou"}, {"name": "bce"}],
        "optimizer": {"name": "AdamW", "lr": 1e-3},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "loop": {"epochs": 4, "batch_size": 2, "workers": 0, "accelerator": "cpu", **loop},
        "validation": {"every": 2},
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def motes(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MOTES, *map(str, arguments)], capture_output=True, text=True, timeout=240, env=ENVIRONMENT, **options
    )


def tensors(run: Path) -> dict[str, torch.Tensor]:
    flat: dict[str, torch.Tensor] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif isinstance(value, dict):
            for k, v in value.items():
                walk(v, f"{name}.{k}")

    walk(torch.load(run / "last.ckpt", weights_only=True), "")
    return flat


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(data: Path, tmp_path: Path) -> None:
    chosen = load_recipe(str(recipe(tmp_path, data)), [])
    runs = [Run.create(chosen, tmp_path / "runs") for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    assert all(Run.open(run.folder)[1] == chosen for run in runs)


def test_killed_three_times_and_resumed_ends_bit_equal(data: Path, tmp_path: Path) -> None:
    file = recipe(tmp_path, data, workers=2, accumulate=2, ema=0.9, clip_norm=1.0, checkpoint_every=2)
    whole = motes("train", file, "--runs", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    (expected,) = (tmp_path / "whole").glob("*/*")
    assert len((expected / "metrics.csv").read_text().splitlines()) == 1 + 12  # 13 // 4 = 3 steps an epoch, 4 epochs

    kills = sorted(random.Random(int(time.time())).sample(range(1, 12), 3))
    command = [*MOTES, "train", str(file), "--runs", str(tmp_path / "killed")]
    for step in kills:
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline:
            logs = list((tmp_path / "killed").glob("*/*/metrics.csv"))
            rows = logs[0].read_text().splitlines() if logs else []
            if len(rows) > step and rows[-1].split(",")[0].isdigit() and int(rows[-1].split(",")[0]) >= step:
                break
            time.sleep(0.002)
        assert process.poll() is None, f"ended before step {step} of {kills}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (run,) = (tmp_path / "killed").glob("*/*")
        command = [*MOTES, "train", "--resume", str(run)]
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=240).returncode == 0

    first, second = tensors(expected), tensors(run)
    assert first.keys() == second.keys() and len(first) > 600
    different = [k for k in first if not torch.equal(first[k], second[k])]
    assert not different, f"killed at {kills}: {different[:3]}"
    losses = [[row.split(",")[:4] for row in (r / "metrics.csv").read_text().splitlines()] for r in (expected, run)]
    assert losses[0] == losses[1]
    best = [(r / "best.safetensors").read_bytes() for r in (expected, run)]
    assert best[0] == best[1]


def test_what_first_weights_learned_counts(data: Path, tmp_path: Path) -> None:
    """Two runs, the second on other frames and resumed once: its card tells the epochs and the frames of both."""
    file = recipe(tmp_path, data, epochs=2)
    assert motes("train", file, "--runs", tmp_path / "first").returncode == 0
    (first,) = (tmp_path / "first" / "small").iterdir()
    begun = ["train", file, "--runs", tmp_path / "second", f"model.init={first / 'best.safetensors'}"]
    changed = [f"data.train={data / 'val.txt'}", f"data.val={data / 'train.txt'}"]
    assert motes(*begun, *changed, "loop.max_steps=2").returncode == 0
    (second,) = (tmp_path / "second" / "small").iterdir()
    kept = (second / "recipe.yaml").read_text()
    (second / "recipe.yaml").write_text(kept.replace("max_steps: 2", "max_steps: null"))
    assert motes("train", "--resume", second).returncode == 0
    learned = [load_network(run / "best.safetensors")[1].training for run in (first, second)]
    assert [known.get("epochs_before") for known in learned] == [None, learned[0]["epochs"]]
    assert len(learned[0]["frames"]) == 13 and len(learned[1]["frames"]) == 18
    assert set(learned[0]["frames"]) < set(learned[1]["frames"])
    assert epochs_of_run(second) == (4, 2)


def test_two_processes_score_as_one(data: Path, tmp_path: Path) -> None:
    """gloo, 5 validation frames over 2 processes (3 and 2), one of which has a frame without any target."""
    file = recipe(tmp_path, data, epochs=1, batch_size=2, devices=2, ema=0.5)
    script = tmp_path / "go.py"
    script.write_text("from motes.cli.app import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), "train", str(file), "validation.every=1", "--runs", str(tmp_path / "runs")],
        capture_output=True, text=True, timeout=240, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (tmp_path / "runs").glob("*/*")
    with (run / "metrics.csv").open() as stream:
        logged = list(csv.DictReader(stream))[-1]
    net, card = load_network(run / "best.safetensors")
    samples = [s for s in open_dataset(data).split(None) if s.name in (data / "val.txt").read_text().split()]
    assert len(samples) == 5
    alone = score_samples(TorchBackend(net, card), samples).compute(intervals=False)
    for key in ("iou", "niou", "pd", "fa"):
        assert float(logged[f"val_{key}"]) == alone[key].value
    assert alone["fa"].numerator > 0 or alone["iou"].numerator > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_so_and_keeps_its_checkpoint(number: int, data: Path, tmp_path: Path) -> None:
    file = recipe(tmp_path, data, epochs=500, workers=1)
    process = subprocess.Popen(
        [*MOTES, "train", str(file), "--runs", str(tmp_path / "runs")],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.time() + 120
    while not list((tmp_path / "runs").glob("*/*/metrics.csv")) and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # to the workers too, as a terminal and a scheduler do
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said and said.strip().splitlines()[-1].startswith("motes: error: interrupted")
    (run,) = (tmp_path / "runs").glob("*/*")
    saved = torch.load(run / "last.ckpt", weights_only=True)
    assert saved["step"] >= 1
    written = json.loads((run / "environment.json").read_text())
    assert written["packages"]["torch"] == torch.__version__.split("+")[0] or written["packages"]["torch"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["repisdnet_sirts"], "repisdnet_sirst"),
        (["repisdnet_sirst", "data.root=/nowhere"], "/nowhere"),
        ([], "--resume"),
        (["--resume", "."], "recipe.yaml"),
        (["repisdnet_sirst", "loop.epochz=3"], "epochs"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = motes("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line
    assert not (tmp_path / "runs").exists()


def test_a_nan_loss_names_the_batch(data: Path, tmp_path: Path) -> None:
    file = recipe(tmp_path, data, epochs=3)
    done = motes(
        "train",
        file,
        "optimizer.name=SGD",
        "optimizer.lr=1e30",
        "schedule.warmup_epochs=0",
        "--runs",
        tmp_path / "runs",
    )
    assert done.returncode == 2
    assert "the loss became" in done.stderr and "on the batch" in done.stderr


def test_one_gradient_that_is_not_finite_is_left_out_and_five_are_an_error(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = load_recipe(str(recipe(tmp_path, data, clip_norm=1.0)))
    trainer = Trainer(make_fabric(chosen), chosen, select_frames(chosen), Run(tmp_path, task="irstd"))
    batches = start(loader(trainer.data, Order(trainer.frames.repeats, 2, 40, 0, 0, 1), 0))
    weights = list(trainer.net.parameters())

    def step(spoilt: bool) -> bool:
        """Whether the weights move."""
        before = [w.detach().clone() for w in weights]
        handle = weights[0].register_hook(lambda g: g * float("inf") if spoilt else g)
        try:
            trainer.optimizer_step([next(batches)])
        finally:
            handle.remove()
        trainer.step += 1
        assert all(torch.isfinite(w).all() for w in weights)
        return any(not torch.equal(w, b) for w, b in zip(weights, before, strict=True))

    moved = [step(spoilt) for spoilt in (False, True, True, True, True, False, True)]
    assert moved == [True, *[False] * 4, True, False]
    assert capsys.readouterr().err.count("left out, its gradient was not finite") == 5
    assert [step(True) for _ in range(3)] == [False] * 3
    with pytest.raises(MotesError, match="not finite in 5 steps in a row, the last of them step 10"):
        step(True)


def test_masks_of_another_size_are_named(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_dataset(root, "plain", 4, seed=1, height=40, width=40, bits=8)
    victim = sorted((root / "masks").iterdir())[0]
    write_image(victim, np.zeros((20, 40, 1), np.uint8))
    values = yaml.safe_load(recipe(tmp_path, data).read_text())
    values["data"] = {"root": str(root), "val_fraction": 0}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    done = motes("train", tmp_path / "small.yaml", "--runs", tmp_path / "runs")
    assert done.returncode == 2 and victim.stem in done.stderr and "20x40" in done.stderr
