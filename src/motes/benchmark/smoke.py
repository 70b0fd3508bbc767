"""The whole way of a network, from fresh weights to targets found by its exported file, in a minute.

train -> evaluate -> resume -> merge -> export -> infer, on generated frames, through the code that ``motes train``,
``evaluate``, ``convert``, ``export`` and ``detect`` run. Every step is checked, not only run; the first that fails ends
the chain. It says that a network works from one end to the other, nothing about how good it is.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from motes.benchmark import deployed
from motes.cards import Card, InputSpec, model_card
from motes.checkpoints import load_network, read_state
from motes.checkpoints.matching import skeleton
from motes.data import Sample, open_dataset
from motes.data.synthesize import write_dataset
from motes.errors import MotesError
from motes.evaluation import evaluate
from motes.export import ParityReport, convert, export_onnx, synthetic_tiles
from motes.export.parity import Tile, bounds_of, difference, fitting, probabilities
from motes.imaging import network_input, read_image, read_mask
from motes.models.backend import TorchBackend
from motes.training.loop import train
from motes.training.recipe import Recipe, parse_recipe
from motes.training.run import Run
from motes.training.selection import Frames

STEPS = ("train", "evaluate", "resume", "merge", "export", "infer")

FALL = 0.7
"""The loss must end at this share of where it began, or lower."""

LOGIT = 1e-4
"""Largest difference between the logits of the file and of the network, relative to the largest logit. A network that
selects says how much more it may be (``export_bounds``)."""

BESIDE = 3.0
"""px between a found target's centroid and the nearest pixel of the mask that it belongs to."""

FRAMES = 4

SETTLED = 40
"""Steps after which a network finds in eval mode what it finds in training. Running statistics of batch norms forget a
tenth of their start a step; before that, at this learning rate, logits of ABC in eval mode are in the hundreds."""


@dataclass(frozen=True)
class Step:
    """One line of the log; ``status`` is ``ok``, ``skipped``, ``not exported`` or ``failed``."""

    model: str
    name: str
    status: str
    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.model:14} {self.name:9} {self.status:13} {self.seconds:6.1f} s  {self.text}"


@dataclass(frozen=True)
class Settings:
    """What is trained: ``steps`` optimiser steps (AdamW at ``lr``) per seed on frames of ``size`` px.

    ``size`` is enlarged to the smallest side that the network takes. ``backbone``: of aerial networks, one of timm's;
    None: the published one.
    """

    steps: int = 80
    seeds: int = 3
    size: int = 64
    lr: float = 5e-3
    backbone: str | None = "resnet18"


def smoke(
    name: str,
    variant: str | None,
    folder: Path,
    settings: Settings | None = None,
    say: Callable[[Step], object] = print,
) -> list[Step]:
    """Runs the chain for one network and returns its steps; the last one has failed, or none has.

    Args:
        name, variant: as for ``create_model``.
        folder: gets the run, the export, ``status.log`` (a line a step) and, after a failure, ``traceback.txt``.
        settings: how much to train.
        say: called with every step when it is done.

    Raises:
        CardError: no such network, variant or backbone.
    """
    card, settings = model_card(name), settings or Settings()
    skeleton(name, variant)
    if card.task == "aerial":
        from motes.benchmark.smoke_aerial import AerialChain

        chain: Chain = AerialChain(name, variant, folder, settings)
        _ = chain.spec  # complains about the backbone
    elif card.task == "detection":
        from motes.benchmark.smoke_boxes import BoxChain

        chain = BoxChain(name, variant, folder, settings)
        _ = chain.spec
    else:
        chain = Chain(name, variant, folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Step] = []
    for step in STEPS:
        started = time.perf_counter()
        try:
            status, text = "ok", getattr(chain, step)()
        except LeftOutError as reason:
            status, text = reason.status, str(reason)
        except Exception as error:  # whatever a network does wrong is a result here, and --all goes on
            status, text = "failed", " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, MotesError):
                text = f"{type(error).__name__}: {text}"
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        done.append(Step(f"{name}-{variant}" if variant else name, step, status, text, time.perf_counter() - started))
        with (folder / "status.log").open("a", encoding="utf-8") as log:
            log.write(f"{done[-1]}\n")
        say(done[-1])
        if status == "failed":
            break
    return done


class LeftOutError(Exception):
    """A step that this network has no use for."""

    def __init__(self, reason: str, status: str = "skipped") -> None:
        super().__init__(reason)
        self.status = status


class Chain:
    """The steps by name; each returns what it found in a few words, or raises."""

    options: Mapping[str, Any] = {}
    """Of the network's constructor."""

    def __init__(self, name: str, variant: str | None, folder: Path, settings: Settings) -> None:
        self.name, self.variant, self.folder, self.settings = name, variant, folder, settings
        self.half = max(settings.steps - 2, 1)
        self.first = folder / "run"

    def train(self) -> str:
        losses = []
        for seed in range(self.settings.seeds):
            run = Recorder(self.first if seed == 0 else self.folder / "other seed", self.half)
            train(self.recipe(seed), self.frames, run)
            losses.append((run.losses[0], run.losses[-1]))
            if seed:
                shutil.rmtree(run.folder)
        text = ", ".join(f"{start:.3g} -> {end:.3g}" for start, end in losses)
        if not all(math.isfinite(end) and end <= FALL * start for start, end in losses):
            raise MotesError(f"the loss did not fall to {FALL} of its start: {text} in {self.settings.steps} steps")
        expect_file(self.weights)
        return f"loss {text} in {self.settings.steps} steps on {FRAMES} frames of {self.side}x{self.side} px"

    def evaluate(self) -> str:
        out = self.folder / "evaluation"
        result = evaluate(TorchBackend(*self.trained), self.samples, data="generated", split=None, out=out)
        expect_file(out / "metrics.json")
        iou, pd = result.metrics["iou"], result.metrics["pd"]
        if iou.value is None or not math.isfinite(iou.value):
            raise MotesError(f"IoU is {iou.value}")
        return f"IoU {iou.value:.3f}, Pd {pd.numerator:g}/{pd.denominator:g}"

    def resume(self) -> str:
        again = Recorder(self.folder / "resumed", self.settings.steps + 1)
        shutil.move(self.first / "last.ckpt", again.folder / "last.ckpt")
        train(self.recipe(0), self.frames, again)
        if len(again.losses) != self.settings.steps - self.half:
            raise MotesError(f"the resumed training did {len(again.losses)} steps, expected the rest after {self.half}")
        before, after = read_state(self.weights), read_state(again.folder / "best.safetensors")
        other = [n for n, value in before.items() if not np.array_equal(value, after.get(n), equal_nan=True)]
        if before.keys() != after.keys():
            other = sorted(before.keys() ^ after.keys())
        if other:
            raise MotesError(f"{len(other)} of {len(before)} tensors differ from the uninterrupted run: {other[0]} ...")
        shutil.rmtree(again.folder)
        return f"from step {self.half}: {len(before)} tensors bit-equal"

    def merge(self) -> str:
        net, _ = self.trained
        if not hasattr(net, "reparameterize") or getattr(net, "form", "train") == "deploy":
            raise LeftOutError("nothing to re-parameterise")
        report = convert(self.weights, self.folder / "deploy.safetensors", self.name, "deploy", self.tiles)
        before, after = report.facts["params"]
        return f"{before:,} -> {after:,} parameters, logits within {relative(report):.1e} of the largest"

    def export(self) -> str:
        net, card = self.trained
        if reason := getattr(net, "not_exported", None):
            raise LeftOutError(reason, "not exported")
        report = self.write_export(net, card)
        return f"{report.facts['bytes'] / 1e6:.1f} MB, logits within {relative(report):.1e} of the largest"

    def write_export(self, net: nn.Module, card: Card) -> ParityReport:
        return export_onnx(net, card, self.onnx, self.tiles)

    def infer(self) -> str:
        """Two frames of an awkward size through the file, in a process that cannot import PyTorch."""
        if not self.onnx.is_file():
            raise LeftOutError("nothing was exported")
        height, width = self.awkward
        chosen = self.samples[:2]
        frames = np.stack([read_image(s.image).pixels[:height, :width] for s in chosen])
        masks = [read_mask(s.mask)[:height, :width] for s in chosen if s.mask]
        found = in_the_field(self.onnx, frames, self.folder)
        _, differs = self.compare(frames, found)
        bounds = bounds_of(self.trained[0])
        alone = difference(probabilities(found["logits"])[:, 0], found["probability"])
        if not alone <= max(bounds.probability, bounds.outlier):
            raise MotesError(f"a frame's probabilities differ by {alone:.1e} with what else is in its batch")
        hits = sum(near(found[f"centroids{i}"], mask) for i, mask in enumerate(masks))
        total = sum(len(found[f"centroids{i}"]) for i in range(len(masks)))
        if not hits:
            raise MotesError(f"{total} targets found, none of them where one is", self.more_steps())
        return f"batch of 2, {height}x{width} px: logits within {differs:.1e} of the largest, {hits} targets found"

    def more_steps(self) -> str:
        """What to do where nothing is found."""
        steps = self.settings.steps
        if steps >= SETTLED:
            return "more --steps may help"
        return f"after {steps} steps running statistics of batch norms still trail the weights, try --steps {SETTLED}"

    def compare(self, frames: np.ndarray, found: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Logits of the frames in memory, and how far the file's are from them, of the largest; fails if too far."""
        net, card = self.trained
        batch = np.stack([network_input(f, card.input) for f in frames])
        memory = TorchBackend(net, card, as_is=True).run(batch)
        if memory.shape != found["logits"].shape:
            raise MotesError(f"the file's logits are {list(found['logits'].shape)}, the network's {list(memory.shape)}")
        largest = float(np.abs(memory).max())
        differs = difference(memory, found["logits"]) / max(largest, 1e-12)
        allowed = max(LOGIT, bounds_of(net).outlier)
        if not differs <= allowed:
            raise MotesError(f"logits differ by {differs:.1e} of the largest, {largest:.3g}; allowed are {allowed:g}")
        return memory, differs

    @property
    def awkward(self) -> tuple[int, int]:
        """Height and width that are no multiples of the stride."""
        height = awkward(self.side, self.spec)
        return height, awkward(height, self.spec)

    @cached_property
    def samples(self) -> list[Sample]:
        """The fixed batch: easy targets, so that a few steps are enough."""
        options: dict[str, Any] = {"kind": "sky", "bits": 8, "targets": (2, 3), "snr": (25, 40), "extended": 1.0}
        root = self.folder / "frames"
        write_dataset(root, "plain", FRAMES, height=self.side, width=self.side, size=(3, 5), **options)
        return open_dataset(root).split(None)

    @property
    def frames(self) -> Frames:
        return Frames("generated", tuple(self.samples), (), (1.0,) * len(self.samples))

    @cached_property
    def spec(self) -> InputSpec:
        """How the network's input is made; its size limits may depend on the variant."""
        import torch

        from motes.models import create_model

        with torch.device("meta"):
            spec: InputSpec = create_model(self.name, self.variant, **self.options).card.input
        return spec

    @property
    def side(self) -> int:
        return fitting(self.settings.size, self.spec)

    @cached_property
    def trained(self) -> tuple[nn.Module, Card]:
        return load_network(self.weights)

    @property
    def weights(self) -> Path:
        return self.first / "best.safetensors"

    @property
    def onnx(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    @property
    def tiles(self) -> list[Tile]:
        """One frame, and two of another size as one batch."""
        card, other = self.trained[1], (self.side + 1, self.side + 9)
        return synthetic_tiles(card, ((self.side, self.side), other, other))

    def recipe(self, seed: int) -> Recipe:
        """The frames as they are, all of them in every step: an epoch is a step."""
        settings = self.settings
        values = {
            "name": "smoke",
            "model": {"name": self.name, "variant": self.variant},
            "transform": {
                "name": "target", "crop": self.side, "scale": (1, 1), "centred": 0, "flip": 0, "blur": 0,
            },
            # Target pixels weigh a tenth of all others at least, so that they are found before the background is quiet:
            # at 256 px, with their share as small as it is there, the loss falls by the background alone.
            "losses": [
                {"name": "bce", "options": {"positive_weight": 50.0 * max(1.0, (self.side / 128) ** 2)}},
                {"name": "soft_iou", "options": {"per_image": True}},
            ],
            "optimizer": {"name": "AdamW", "lr": settings.lr},
            "schedule": {"name": "constant"},
            "loop": {
                "epochs": settings.steps, "batch_size": FRAMES, "workers": 0, "accelerator": "cpu", "seed": seed,
            },
        }  # fmt: skip
        return parse_recipe(values, "motes smoke")


class Recorder(Run):
    """A run that keeps its losses in memory and saves one checkpoint: large networks write a gigabyte each time."""

    def __init__(self, folder: Path, save_at: int) -> None:
        super().__init__(folder, quiet=True)
        self.save_at = save_at
        self.losses: list[float] = []
        folder.mkdir(parents=True)

    def log(self, row: dict[str, Any]) -> None:
        self.losses.append(row["loss"])

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        if state["step"] == self.save_at:
            super().save_checkpoint(state)


def in_the_field(model: Path, frames: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """What ``deployed.py`` finds in the frames [N, H, W, C] with nothing but the file."""
    given, found = folder / "frames.npz", folder / "found.npz"
    np.savez(given, frames=frames)
    command = [sys.executable, "-P", deployed.__file__, str(model), str(given), str(found)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise MotesError(f"inference from {model.name} alone ended with code {done.returncode}: {lines[-1:]}")
    with np.load(expect_file(found)) as arrays:
        return dict(arrays)


def relative(report: ParityReport) -> float:
    return max(row.logit / max(row.largest_logit, 1e-12) for row in report.rows)


def expect_file(path: Path) -> Path:
    if not path.is_file():
        raise MotesError(f"{path.name} was not written")
    return path


def awkward(side: int, spec: InputSpec) -> int:
    """The next smaller side that is odd and no multiple of the network's stride."""
    return next(n for n in range(side - 2, 0, -1) if n % 2 and (spec.stride == 1 or n % spec.stride))


def near(centroids: np.ndarray, mask: np.ndarray) -> int:
    """How many of the centroids [N, 2] (x, y) lie on a target of the mask, or close to it."""
    rows, columns = np.nonzero(mask)
    if not len(rows) or not len(centroids):
        return 0
    distance = np.hypot(centroids[:, :1] - columns, centroids[:, 1:] - rows)
    return int(np.count_nonzero(distance.min(1) <= BESIDE))
