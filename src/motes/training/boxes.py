"""Training frames with boxes, their batches, and the sum of a detector's losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from motes.cards import InputSpec, Scaling
from motes.data import Sample
from motes.data.annotations import mask_of_boxes, noted, read_boxes, read_sky
from motes.errors import DataError
from motes.imaging import fix_scaling, network_input, read_image, read_mask, scale
from motes.naming import look_up
from motes.training.box_transforms import Scene, augment_boxes
from motes.training.recipe import Recipe, TransformPart
from motes.training.samples import Batch, Key
from motes.training.selection import BoxRules, no_sky
from motes.training.transforms import blurred, intensity

BoxItem = tuple[np.ndarray, dict[str, np.ndarray], str]

KEPT = 512
"""Decoded frames that a process keeps."""


class BoxSet(Dataset[BoxItem]):
    """Augmented frames [C, H, W] float32 with targets ``{"boxes", "labels", "sky"?}`` as detectors take them.

    Item (epoch, index) is the same whoever asks, whenever, as of ``TrainingSet``. Boxes marked as difficult are left
    out. A frame may have no box at all.

    Args:
        samples: the frames.
        rules: how their boxes are read.
        spec: how pixels become the network's input.
        transform: the augmentation.
        seed: with (epoch, index), all that decides an item.
    """

    def __init__(
        self, samples: Sequence[Sample], rules: BoxRules, spec: InputSpec, transform: TransformPart, seed: int
    ) -> None:
        self.samples, self.rules, self.spec, self.transform, self.seed = list(samples), rules, spec, transform, seed
        self.scaled_spec = replace(spec, scaling_deep=Scaling("fixed", 0.0, 1.0))
        self._load = lru_cache(maxsize=KEPT)(self._read)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> BoxItem:
        index = key[1]
        rng = np.random.default_rng((self.seed, *key))
        scene = augment_boxes(self.scene(index), self.transform, rng, lambda: self.scene(self._other(index, rng)))
        pixels = scene.pixels
        if self._counts(pixels):
            pixels = scale(pixels, self.spec.scaling)
        pixels = intensity(blurred(pixels, self.transform.blur, rng), self.transform, rng)
        targets = {"boxes": scene.boxes, "labels": scene.labels}
        if scene.sky is not None:
            targets["sky"] = np.ascontiguousarray(scene.sky)
        pixels = np.ascontiguousarray(pixels, np.float32)
        return network_input(pixels, self.scaled_spec), targets, self.samples[index].name

    def scene(self, index: int) -> Scene:
        """A frame before augmentation: scaled by its own statistics, where its scaling has any."""
        scene = self._load(index)
        if self._counts(scene.pixels):
            return scene
        return replace(scene, pixels=scale(scene.pixels, fix_scaling(scene.pixels, self.spec).scaling))

    def _counts(self, pixels: np.ndarray) -> bool:
        """Whether the frame is augmented as the counts it was read as: 8-bit ones that are all scaled alike."""
        return pixels.dtype == np.uint8 and self.spec.scaling.method in ("range", "bits", "fixed")

    def _other(self, index: int, rng: np.random.Generator) -> int:
        """Another frame; the same one where there is no other."""
        count = len(self.samples)
        return (index + int(rng.integers(1, max(count, 2)))) % count

    def _read(self, index: int) -> Scene:
        sample = self.samples[index]
        pixels = read_image(sample.image).pixels
        with noted():  # said before the run began
            truth = read_boxes(sample, self.rules.names, self.rules.reader)
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        sky = read_sky(sample) if sample.sky is not None else None
        if sky is None and self.rules.sky:
            raise no_sky(sample)
        mask = None
        if self.transform.paste:
            mask = read_mask(sample.mask) if sample.mask is not None else mask_of_boxes(truth.boxes, size)
            if mask.shape != size:
                raise DataError(
                    f"{sample.image} is {size[0]}x{size[1]} px but its mask is {mask.shape[0]}x{mask.shape[1]}",
                    "`motes data check` lists all such pairs",
                )
        counted = ~truth.ignored
        return Scene(pixels, truth.boxes[counted], truth.labels[counted], sky, mask)

    @staticmethod
    def collate(items: list[BoxItem]) -> Batch:
        """Frames with zeros to the right and below where others of the batch are larger; sky is not known there."""
        images, targets, names = zip(*items, strict=True)
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        batch = torch.zeros(len(images), images[0].shape[0], height, width)
        truth = []
        for i, (image, target) in enumerate(zip(images, targets, strict=True)):
            batch[i, :, : image.shape[1], : image.shape[2]] = torch.from_numpy(image)
            tensors = {k: torch.from_numpy(v) for k, v in target.items()}
            if "sky" in tensors:
                bottom, right = height - image.shape[1], width - image.shape[2]
                tensors["sky"] = nn.functional.pad(tensors["sky"], (0, right, 0, bottom), value=255)
            truth.append(tensors)
        return Batch(batch, truth, list(names))

    def __getstate__(self) -> dict[str, Any]:  # worker processes begin with an empty cache
        return {k: v for k, v in self.__dict__.items() if k != "_load"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load = lru_cache(maxsize=KEPT)(self._read)


class LossSum(nn.Module):
    """The sum of a detector's named losses, some with another weight; ``parts`` holds the last ones, weighted."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.parts: dict[str, float] = {}

    def forward(self, losses: Mapping[str, Tensor], truth: object = None) -> Tensor:
        """A scalar. MotesError where a weight is of none of the losses (the nearest is suggested)."""
        for name in self.weights:
            look_up("loss", name, losses)
        weighted = {k: v * self.weights[k] if k in self.weights else v for k, v in losses.items()}
        self.parts = {k: float(v.detach()) for k, v in weighted.items()}
        return torch.stack([v.float() for v in weighted.values()]).sum()


def check_losses(net: nn.Module, recipe: Recipe) -> None:
    """MotesError where the recipe weighs a loss that the network has not; they are computed once, of a black frame."""
    spec, weights = net.card.input, {p.name: p.weight for p in recipe.losses}
    side = -(-max(spec.min_size, 2 * spec.stride) // spec.stride) * spec.stride
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 14.0, 14.0]]),
        "labels": torch.zeros(1, dtype=torch.int64),
        "sky": torch.ones(side, side, dtype=torch.uint8),
    }
    with torch.no_grad():
        LossSum(weights)(net.eval()(torch.zeros(1, spec.channels, side, side), [target]))
