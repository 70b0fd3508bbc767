"""Scores a backend on samples under a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol as Interface

import numpy as np

from motes.cards import Card
from motes.data import Sample
from motes.errors import DataError
from motes.imaging import network_input, read_image, read_mask, resize
from motes.metrics import SegmentationScore, protocol


class Runs(Interface):
    """What evaluation needs of a backend."""

    card: Card

    def run(self, batch: np.ndarray) -> np.ndarray: ...


def score_samples(
    backend: Runs,
    samples: Iterable[Sample],
    protocol_name: str = "native",
    each: Callable[[Sample, np.ndarray, np.ndarray], None] | None = None,
) -> SegmentationScore:
    """The accumulated score; ``each`` gets every sample with its probability map and label, at the protocol's size."""
    score = SegmentationScore(protocol_name)
    for sample in samples:
        probability, label = predict(backend, sample, protocol_name)
        score.update(probability, label, name=sample.name)
        if each is not None:
            each(sample, probability, label)
    return score


def predict(backend: Runs, sample: Sample, protocol_name: str = "native") -> tuple[np.ndarray, np.ndarray]:
    """Probability map float32 and label bool, both [H, W] at the resolution the protocol fixes (native by default)."""
    rule = protocol(protocol_name)
    image = read_image(sample.image)
    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask, so it cannot be scored")
    label = read_mask(sample.mask)
    if rule.resolution is None:
        if label.shape != image.pixels.shape[:2]:
            raise DataError(
                f"{sample.mask} is {label.shape[0]} x {label.shape[1]} px, its image {image.pixels.shape[0]} x {image.pixels.shape[1]}",
                "`motes data check` lists all such pairs",
            )
        pixels = image.pixels
    else:
        pixels = resize(image.pixels, rule.resolution, rule.image_filter)
        label = resize(label.astype(np.uint8), rule.resolution, rule.mask_filter).astype(bool)
    logits = backend.run(network_input(pixels, backend.card.input)[None])[0, 0]
    return sigmoid(logits), label


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, float32, without overflow."""
    e = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, e) / (1 + e)


