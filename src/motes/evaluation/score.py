"""Scores a backend on samples under a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.data import Sample
from motes.errors import DataError
from motes.imaging import read_image, read_mask, resize
from motes.inference import Detector
from motes.inference.backend import Backend
from motes.interrupts import raise_swallowed_interrupt
from motes.metrics import Protocol, SegmentationScore, protocol


@dataclass(frozen=True)
class Prediction:
    """One sample at the size it is scored at: counts [H, W, C], probability [H, W] float32, label [H, W] bool."""

    sample: Sample
    pixels: np.ndarray
    probability: np.ndarray
    label: np.ndarray


def score_samples(
    backend: Backend,
    samples: Iterable[Sample],
    rule: str | Protocol = "native",
    each: Callable[[Prediction], object] | None = None,
    masks: Mapping[str, Path] | None = None,
) -> SegmentationScore:
    """The accumulated score of a backend.

    Args:
        backend: what runs the network.
        samples: frames with masks.
        rule: a protocol or its name; it fixes the size at which the network runs and is scored.
        each: called with every prediction, for tables and pictures.
        masks: other mask files for some samples, by name.
    """
    detector = Detector(backend=backend)
    score = SegmentationScore(rule)
    for sample in samples:
        raise_swallowed_interrupt()
        prediction = predict(detector, sample, score.protocol, (masks or {}).get(sample.name))
        score.update(prediction.probability, prediction.label, name=sample.name)
        if each is not None:
            each(prediction)
    return score


def predict(
    detector: Detector, sample: Sample, rule: str | Protocol = "native", mask: Path | None = None
) -> Prediction:
    """Runs one sample at the size the protocol fixes; DataError where image and mask do not belong together."""
    rule = protocol(rule)
    mask = mask or sample.mask
    if mask is None:
        raise DataError(f"{sample.image} has no mask, so it cannot be scored")
    pixels, label = read_image(sample.image).pixels, read_mask(mask)
    if rule.resolution is not None:
        pixels = resize(pixels, rule.resolution, rule.image_filter)
        label = resize(label.astype(np.uint8), rule.resolution, rule.mask_filter).astype(bool)
    elif label.shape != pixels.shape[:2]:
        raise DataError(
            f"{mask} is {label.shape[0]}x{label.shape[1]} px, its image {pixels.shape[0]}x{pixels.shape[1]}",
            "`motes data check` lists all such pairs",
        )
    return Prediction(sample, pixels, detector.probability(pixels), label)
