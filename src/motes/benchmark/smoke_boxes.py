"""The chain of ``motes smoke`` for detectors: boxes and sky maps instead of masks, losses of the network's own."""

from __future__ import annotations

import importlib
import inspect
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from motes.benchmark.smoke import FRAMES, Chain, LeftOutError, Settings, in_the_field
from motes.cards import model_card
from motes.data import Sample, open_dataset
from motes.data.annotations import read_boxes
from motes.data.synthesize import write_dataset
from motes.errors import MotesError
from motes.evaluation.boxes import score_boxes
from motes.imaging import read_image
from motes.inference.box_detector import BoxDetector
from motes.models.backend import TorchBackend
from motes.training.recipe import Recipe, parse_recipe
from motes.training.selection import BoxRules, Frames

RATE, RATES = 1e-3, {"pvt_t": 3e-4}
"""Of AdamW, where no other is asked for: what suits masks is too much for towers of group norms, and what suits these
throws a transformer that starts from chance off (the loss of PVT-T is at 5.8 after 40 steps, from 1.8)."""

TARGETS = (12, 22)
"""px: so large that every published head has something to learn; at 4 px most have not."""

REPLACED = "resnet50"
"""The backbone whose place a smaller one takes; of PVT-T, for one, nothing but RetinaNet is left without its own."""

CHANGED = 0.02
"""Share of the boxes that rounding may exchange: doubles or proposals that score nearly alike."""

NEAR, ALIKE = 0.05, 1e-3
"""px and score within which two boxes are the same."""


class BoxChain(Chain):
    """As ``Chain``; the exported file ends before the suppression of doubles."""

    def __init__(self, name: str, variant: str | None, folder: Path, settings: Settings) -> None:
        super().__init__(name, variant, folder, settings)
        self.backbone = settings.backbone
        if settings.backbone == Settings.backbone and own_backbone(name) != REPLACED:
            self.backbone = None
        self.options = {"backbone": self.backbone} if self.backbone else {}

    def train(self) -> str:
        return f"{super().train()}, backbone {self.backbone or own_backbone(self.name)}"

    def evaluate(self) -> str:
        detector = self.detector
        for sample in self.samples:
            boxes, scores, *_ = detector.boxes(read_image(sample.image))
            if not (np.isfinite(boxes).all() and boxes.shape == (len(scores), 4)):
                raise MotesError(f"the boxes of {sample.name} are {list(boxes.shape)} for {len(scores)} scores")
            if len(scores) and not 0 <= scores.min() <= scores.max() <= 1:
                raise MotesError(f"scores lie between {scores.min():g} and {scores.max():g}")
        values = score_boxes(detector, self.samples, "exact", contrast=False).compute(intervals=False)
        recall, precision = values["recall"], values["map12"]
        if recall.value is None or not math.isfinite(recall.value):
            raise MotesError(f"recall is {recall.value}")
        return f"mAP12 {precision.value:.3f}, {recall.numerator:g} of {recall.denominator:g} targets found"

    def export(self) -> str:
        net, card = self.trained
        if reason := getattr(net, "not_exported", None):
            raise LeftOutError(reason, "not exported")
        from motes.export.boxes import export_boxes

        report = export_boxes(net.eval(), card, self.onnx)
        score, box = (max(getattr(row, k) for row in report.rows) for k in ("score", "box"))
        return f"{self.onnx.stat().st_size / 1e6:.1f} MB, scores within {score:.1e}, boxes within {box:.1e} px"

    def infer(self) -> str:
        """Two frames of an awkward size through the file, in a process that cannot import PyTorch."""
        if not self.onnx.is_file():
            raise LeftOutError("nothing was exported")
        height, width = self.awkward
        frames = np.stack([read_image(s.image).pixels[:height, :width] for s in self.samples[:2]])
        found, total = in_the_field(self.onnx, frames, self.folder), 0
        for i, frame in enumerate(frames):
            boxes, scores, *_ = self.detector.boxes(frame)
            total += len(boxes)
            away = unlike(boxes, scores, found[f"boxes{i}"], found[f"scores{i}"])
            if away > CHANGED * max(len(boxes), 1):
                raise MotesError(f"{away} of {len(boxes)} boxes of frame {i} are not those in memory")
        return f"2 frames of {height}x{width} px: {total} boxes as in memory"

    @property
    def rate(self) -> float:
        return RATES.get(self.name, RATE) if self.settings.lr == Settings.lr else self.settings.lr

    @property
    def detector(self) -> BoxDetector:
        return BoxDetector(backend=TorchBackend(*self.trained, as_is=True))

    @cached_property
    def samples(self) -> list[Sample]:
        root = self.folder / "frames"
        options: dict[str, Any] = {"kind": "sky", "bits": 8, "targets": (1, 2), "snr": (25, 40), "extended": 1.0}
        write_dataset(root, "sirstdevkit", FRAMES, height=self.side, width=self.side, size=TARGETS, **options)
        samples = open_dataset(root).split(None)
        if not any(len(read_boxes(s).boxes) for s in samples):
            raise MotesError("none of the generated frames has a target", "try a larger --size")
        return samples

    @property
    def frames(self) -> Frames:
        return Frames("generated", tuple(self.samples), (), (1.0,) * len(self.samples), boxes=BoxRules())

    def recipe(self, seed: int) -> Recipe:
        """The frames as they are, all of them in every step: an epoch is a step."""
        settings = self.settings
        values = {
            "name": "smoke",
            "model": {"name": self.name, "variant": self.variant, "options": dict(self.options)},
            "transform": {"flip": 0},
            "optimizer": {"name": "AdamW", "lr": self.rate},
            "schedule": {"name": "constant"},
            "loop": {
                "epochs": settings.steps, "batch_size": FRAMES, "workers": 0, "accelerator": "cpu", "seed": seed,
                "clip_norm": 10.0,
            },
        }  # fmt: skip
        return parse_recipe(values, "motes smoke")


def own_backbone(name: str) -> str:
    """What a detector stands on where nothing is said."""
    make = getattr(importlib.import_module(f"motes.models.{name}"), model_card(name).class_name)
    return str(inspect.signature(make).parameters["backbone"].default)


def unlike(boxes: np.ndarray, scores: np.ndarray, other_boxes: np.ndarray, other_scores: np.ndarray) -> int:
    """How many boxes of either side have no like on the other."""
    if not len(boxes) or not len(other_boxes):
        return len(boxes) + len(other_boxes)
    same = np.abs(boxes[:, None] - other_boxes[None]).max(-1) <= NEAR
    same &= np.abs(scores[:, None] - other_scores[None]) <= ALIKE
    return int((~same.any(1)).sum() + (~same.any(0)).sum())
