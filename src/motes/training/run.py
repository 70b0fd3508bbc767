"""A run's folder: recipe, environment, log, checkpoints."""

from __future__ import annotations

import csv
import io
import json
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch

from motes.errors import CheckpointError, MotesError
from motes.imaging import atomic_path
from motes.training.recipe import Recipe, dump_recipe, parse_recipe

SHOWN = {
    "irstd": ("iou", "niou", "pd", "fa"),
    "aerial": ("miou", "miou_foreground", "oa"),
    "detection": ("map12", "map07", "recall"),
}
"""Metrics of a validation that metrics.csv, the report and the weights' card keep, by task; the first is shown."""


class Run:
    """``{recipe.yaml, environment.json, metrics.csv, tensorboard/, last.ckpt, best.safetensors, step-*.safetensors}``.

    Only the main process writes; ``quiet`` ones keep still.
    """

    def __init__(self, folder: Path, quiet: bool = False, task: str = "irstd") -> None:
        self.folder, self.quiet = folder, quiet
        self.columns = ("step", "epoch", "lr", "loss", "seconds", *(f"val_{k}" for k in SHOWN[task]))
        self._board: Any = None

    @classmethod
    def create(cls, recipe: Recipe, root: Path, quiet: bool = False) -> Run:
        """A new folder ``root/<recipe>/<UTC time>``; ``-2`` and on where a run began in the same second."""
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        run = cls(root / recipe.name / now, quiet, recipe.task)
        if not quiet:
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            for number in count(2):
                try:
                    run.folder.mkdir()
                    break
                except FileExistsError:
                    run.folder = root / recipe.name / f"{now}-{number}"
            with atomic_path(run.folder / "recipe.yaml") as temporary:
                temporary.write_text(dump_recipe(recipe), encoding="utf-8")
            with atomic_path(run.folder / "environment.json") as temporary:
                temporary.write_text(json.dumps(environment(), indent=1), encoding="utf-8")
        return run

    @classmethod
    def open(cls, folder: Path, quiet: bool = False) -> tuple[Run, Recipe]:
        """An existing run and its recipe, to go on with."""
        file = folder / "recipe.yaml"
        if not file.is_file():
            raise MotesError(f"{folder} is no run: it has no recipe.yaml", "give the folder that motes train printed")
        import yaml

        recipe = parse_recipe(yaml.safe_load(file.read_text(encoding="utf-8")), str(file))
        return cls(folder, quiet, recipe.task), recipe

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.folder / "last.ckpt").is_file()

    def note(self, key: str, value: str, aloud: bool = False) -> None:
        """Adds a fact to environment.json and, ``aloud``, says it on the terminal."""
        if self.quiet:
            return
        file = self.folder / "environment.json"
        facts = {**self.facts(), key: value}
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        if aloud:
            print(f"{key} {value}", file=sys.stderr)

    def facts(self) -> dict[str, Any]:
        """What environment.json holds."""
        file = self.folder / "environment.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return found

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        file = io.BytesIO()  # torch hides a full disk behind an error of its own
        torch.save(state, file)
        with atomic_path(self.folder / "last.ckpt") as temporary:
            temporary.write_bytes(file.getbuffer())

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        file = self.folder / "last.ckpt"
        if not file.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
        except (EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError):
            state = {}
        if not isinstance(state, dict) or not {"step", "net", "optimizer"} <= state.keys():
            raise CheckpointError(
                f"{file}: cut short, damaged or no checkpoint of a run; nothing in it was executed",
                "delete it to start the run anew",
            ) from None
        return state

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.csv and TensorBoard."""
        if self.quiet:
            return
        file = self.folder / "metrics.csv"
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, extrasaction="ignore", lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=row["step"])
        for key in row.keys() - {"step", "epoch"}:
            if row[key] is not None:
                self._board.add_scalar(key.replace("val_", "val/"), row[key], row["step"])

    def rows(self) -> list[dict[str, str]]:
        """What metrics.csv holds."""
        file = self.folder / "metrics.csv"
        if not file.exists():
            return []
        with file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def forget_after(self, step: int) -> None:
        """Drops the rows of steps that a resumed training will do again."""
        if self.quiet or not (self.folder / "metrics.csv").exists():
            return
        kept = [r for r in self.rows() if r["step"].isdigit() and int(r["step"]) <= step]
        file = self.folder / "metrics.csv"
        with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)

    @contextmanager
    def progress(self, total: int, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A bar on the terminal; yields what to call with every row."""
        if self.quiet:
            yield lambda row: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("step", total=total, completed=done)
            best = ""

            def update(row: dict[str, Any]) -> None:
                nonlocal best
                for key, name in (("val_iou", "IoU"), ("val_miou", "mIoU"), ("val_map12", "mAP12")):
                    if row.get(key) is not None:
                        best = f"  val {name} {row[key]:.4f}"
                text = f"epoch {row['epoch']:.1f}  loss {row['loss']:.4f}{best}"
                bar.update(task, completed=row["step"], description=text)

            yield update


def environment() -> dict[str, Any]:
    """What the run ran on: versions, machine, command, commit."""
    packages = ("motes", "torch", "torchvision", "lightning", "numpy", "opencv-python-headless", "pillow")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    here = Path(__file__).parent
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        commit = git.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "packages": versions,
        "commit": commit,
    }
