"""The chain of ``motes smoke`` for networks of aerial images: labels of several classes, a deployment folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from motes.benchmark.smoke import FRAMES, Chain, LeftOutError, Settings, expect_file, in_the_field
from motes.cards import Card
from motes.data import Sample, open_dataset
from motes.data.aerial_scenes import scene
from motes.data.classes import ClassTable, class_table
from motes.data.labels import read_labels, write_labels
from motes.errors import MotesError
from motes.export import ParityReport, write_deployment
from motes.export.parity import bounds_of
from motes.imaging import read_image, write_image
from motes.models.backend import TorchBackend
from motes.training.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from motes.training.selection import Frames

DATA = "isaid"
"""Whose classes the generated scenes have."""

CHANGED = 1e-3
"""Share of the pixels whose class may differ between the file and the network; a network that selects may say more."""


class AerialChain(Chain):
    """As ``Chain``, on generated scenes and with the losses of the network's recipe."""

    def __init__(self, name: str, variant: str | None, folder: Path, settings: Settings) -> None:
        super().__init__(name, variant, folder, settings)
        self.options = {"backbone": settings.backbone} if settings.backbone else {}

    def train(self) -> str:
        text = super().train()
        return f"{text}, backbone {self.settings.backbone or 'as published'}"

    def evaluate(self) -> str:
        from motes.evaluation.classes import evaluate_classes

        out = self.folder / "evaluation"
        result = evaluate_classes(
            TorchBackend(*self.trained), self.samples, self.table, data="generated", split=None, rule="patch", out=out
        )
        expect_file(out / "metrics.json")
        miou, oa = result.metrics["miou"], result.metrics["oa"]
        if miou.value is None or oa.value is None or not (0 <= miou.value <= 1 and 0 <= oa.value <= 1):
            raise MotesError(f"mIoU is {miou.value}, overall accuracy {oa.value}")
        return f"mIoU {miou.value:.3f}, {oa.numerator:g} of {oa.denominator:g} pixels right"

    def export(self) -> str:
        return f"deploy/, {super().export()}"

    def write_export(self, net: nn.Module, card: Card) -> ParityReport:
        report = write_deployment(net, card, self.onnx.parent, self.tiles)
        for name in ("model.yml", "model.parity.json"):
            expect_file(self.onnx.parent / name)
        return report

    def infer(self) -> str:
        """Two scenes of an awkward size through the deployment folder, in a process that cannot import PyTorch."""
        if not self.onnx.is_file():
            raise LeftOutError("nothing was exported")
        height, width = self.awkward
        chosen = self.samples[:2]
        frames = np.stack([read_image(s.image).pixels[:height, :width] for s in chosen])
        truth = np.stack([read_labels(s.mask, self.table)[:height, :width] for s in chosen if s.mask])
        found = in_the_field(self.onnx, frames, self.folder)
        memory, differs = self.compare(frames, found)
        labels = found["labels"]
        if labels.shape != truth.shape:
            raise MotesError(f"the class maps are {list(labels.shape)}, the images {list(truth.shape)}")
        other = float(np.mean(labels != memory.argmax(1)))
        if other > max(CHANGED, bounds_of(self.trained[0]).changed):
            raise MotesError(f"{other:.1%} of the pixels have another class than in memory")
        objects = truth > 0
        hits = int(np.count_nonzero((labels == truth) & objects))
        if not hits:
            raise MotesError("no pixel of an object has its class", self.more_steps())
        return (
            f"batch of 2, {height}x{width} px: logits within {differs:.1e} of the largest, "
            f"{hits} of {np.count_nonzero(objects)} object pixels right"
        )

    @cached_property
    def table(self) -> ClassTable:
        return class_table(DATA)

    @cached_property
    def samples(self) -> list[Sample]:
        root = self.folder / "scenes" / "train"
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        for i in range(FRAMES):
            pixels, ids = scene((0, i), (self.side, self.side), self.table)
            write_image(root / "images" / f"P{i:04d}.png", pixels)
            write_labels(root / "masks" / f"P{i:04d}_instance_color_RGB.png", ids)
        return open_dataset(root.parent, classes=self.table).split("train")

    @property
    def frames(self) -> Frames:
        return Frames("generated", tuple(self.samples), (), (1.0,) * len(self.samples), self.table)

    @property
    def onnx(self) -> Path:
        return self.folder / "deploy" / "model.onnx"

    def recipe(self, seed: int) -> Recipe:
        """The scenes as they are, all of them in every step: an epoch is a step."""
        settings, own = self.settings, f"{self.name}_{DATA}"
        losses: list[dict[str, Any]] = [{"name": "cross_entropy"}]
        if own in recipe_names():
            losses = [p.model_dump() for p in load_recipe(own).losses]
        values = {
            "name": "smoke",
            "model": {"name": self.name, "variant": self.variant, "options": dict(self.options)},
            "data": {"classes": DATA},
            "transform": {"crop": self.side, "flip": 0, "blur": 0},
            "losses": losses,
            "optimizer": {"name": "AdamW", "lr": settings.lr},
            "schedule": {"name": "constant"},
            "loop": {
                "epochs": settings.steps, "batch_size": FRAMES, "workers": 0, "accelerator": "cpu", "seed": seed,
            },
        }  # fmt: skip
        return parse_recipe(values, "motes smoke")
