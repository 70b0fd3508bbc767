"""Does the exported file compute what the network computes? The same tiles through both, differences counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from motes.cards import Card, InputSpec
from motes.errors import MotesError

SIZES = ((64, 64), (50, 70), (256, 256), (233, 311), (96, 128), (96, 128))
"""Sides of the synthetic tiles (px), odd ones among them; the last two run as one batch."""


@dataclass(frozen=True)
class Bounds:
    """What an export may differ by.

    ``logit``: largest logit difference, plus ``relative`` times the largest logit of the tile. ``probability``: largest
    difference of a probability. ``changed``: share of all pixels that may cross the threshold (at least one pixel).
    ``outliers``: share of the tiles that may differ by more, their logits by up to ``outlier`` times the largest of the
    tile; for networks that select, where rounding can exchange two nearly equal candidates.

    Two correct float32 runs differ because sums are taken in another order and because a bilinear resize rounds its
    coordinates: RepISD-Net in torch is itself up to 2.3e-5 of its largest logit away from the same network in float64.
    """

    logit: float = 1e-4
    relative: float = 5e-5
    probability: float = 5e-4
    changed: float = 1e-5
    outliers: float = 0.0
    outlier: float = 0.0


def bounds_of(net: object) -> Bounds:
    """What exports of a network may differ by: its ``export_bounds`` (fields of Bounds) over the default."""
    return Bounds(**getattr(net, "export_bounds", {}))


@dataclass(frozen=True)
class Tile:
    """A batch as the network takes it, [B, C, H, W] float32, and where it is from."""

    name: str
    batch: np.ndarray


@dataclass(frozen=True)
class Row:
    """One tile compared: its largest logit, the largest differences, and the pixels of the mask that changed.

    ``logit`` and ``probability``: the file against the network. ``reference_error`` and ``file_error``: logits of
    either against the network in float64 (None where not asked for): which of the two is nearer to the truth.
    """

    tile: str
    shape: tuple[int, ...]
    largest_logit: float
    logit: float
    probability: float
    reference_error: float | None
    file_error: float | None
    positive: int
    changed: int
    pixels: int
    passed: bool


@dataclass
class ParityReport:
    """All tiles of one export."""

    bounds: Bounds
    threshold: float
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        return sum(r.changed for r in self.rows)

    @property
    def pixels(self) -> int:
        return sum(r.pixels for r in self.rows)

    @property
    def passed(self) -> bool:
        allowed = math.ceil(self.bounds.changed * self.pixels)
        failed = [r for r in self.rows if not r.passed]
        near = all(math.isfinite(r.logit) and r.logit <= self.bounds.outlier * r.largest_logit for r in failed)
        few = len(failed) <= self.bounds.outliers * len(self.rows)
        return bool(self.rows) and near and few and self.changed <= allowed

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "threshold": self.threshold,
            "bounds": asdict(self.bounds),
            "changed": self.changed,
            "pixels": self.pixels,
            **self.facts,
            "rows": [{**asdict(r), "shape": list(r.shape)} for r in self.rows],
        }

    def worst(self) -> str:
        """One line for the error message."""
        row = max(self.rows, key=lambda r: (not r.passed, r.logit / max(r.largest_logit, 1e-9), r.changed))
        return (
            f"tile '{row.tile}' {list(row.shape)}: logits differ by up to {row.logit:.3g} of {row.largest_logit:.3g}, "
            f"probabilities by {row.probability:.3g}, {self.changed} of {self.pixels} mask pixels changed"
        )


class Runs(Protocol):
    """What is compared: [B, C, H, W] float32 -> logits [B, K, H, W]."""

    def run(self, batch: np.ndarray) -> np.ndarray: ...


def compare(
    reference: Runs,
    candidate: Runs,
    tiles: Iterable[Tile],
    bounds: Bounds,
    threshold: float = 0.5,
    exact: Runs | None = None,
) -> ParityReport:
    """Runs every tile through both and reports the differences.

    Args:
        reference: the network.
        candidate: what was made from it.
        tiles: what to run.
        bounds: how much may differ.
        threshold: of the mask, for one class; several classes are compared by their argmax.
        exact: the network in float64, for the report.
    """
    report = ParityReport(bounds, threshold)
    for tile in tiles:
        expected, found = reference.run(tile.batch), candidate.run(tile.batch)
        if expected.shape != found.shape:
            raise MotesError(f"tile '{tile.name}': output shape {list(found.shape)}, expected {list(expected.shape)}")
        truth = exact.run(tile.batch) if exact else None
        report.rows.append(row(tile, expected, found, truth, bounds, threshold))
    return report


def row(
    tile: Tile, expected: np.ndarray, found: np.ndarray, truth: np.ndarray | None, bounds: Bounds, threshold: float
) -> Row:
    p, q = probabilities(expected), probabilities(found)
    if expected.shape[1] == 1:
        mask, other = p > threshold, q > threshold
    else:
        mask, other = p.argmax(1), q.argmax(1)
    largest = float(np.abs(expected).max())
    logit, probability = difference(expected, found), difference(p, q)
    return Row(
        tile=tile.name,
        shape=tile.batch.shape,
        largest_logit=largest,
        logit=logit,
        probability=probability,
        reference_error=None if truth is None else difference(expected, truth),
        file_error=None if truth is None else difference(found, truth),
        positive=int(np.count_nonzero(mask)),
        changed=int(np.count_nonzero(mask != other)),
        pixels=mask.size,
        passed=logit <= bounds.logit + bounds.relative * largest and probability <= bounds.probability,
    )


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute difference; infinite if either has a NaN."""
    largest = float(np.abs(a.astype(np.float64) - b).max())
    return math.inf if math.isnan(largest) else largest


def probabilities(logits: np.ndarray) -> np.ndarray:
    """[B, K, H, W] logits -> probabilities, float64: sigmoid for one channel, softmax over several."""
    z = logits.astype(np.float64)
    if z.shape[1] == 1:
        return 0.5 * (1 + np.tanh(z / 2))
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def synthetic_tiles(card: Card, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Tile]:
    """Synthetic 8-bit scenes of the card's task as the network takes them; equal sizes in a row become one batch."""
    from motes.imaging import network_input

    spec, tiles, pending = card.input, [], []
    for seed, size in enumerate(sizes):
        height, width = (fitting(n, spec) for n in size)
        pending.append(network_input(synthetic_pixels(card, height, width, seed), spec))
        if seed + 1 == len(sizes) or sizes[seed + 1] != size:
            name = f"synthetic {seed + 1 - len(pending)}" + (f"-{seed}" if len(pending) > 1 else "")
            tiles.append(Tile(name, np.stack(pending)))
            pending = []
    return tiles


def synthetic_pixels(card: Card, height: int, width: int, seed: int) -> np.ndarray:
    """Counts [H, W, C] uint8."""
    if card.task != "aerial":
        from motes.data.synthesize import scene

        return scene(height, width, seed, bits=8).pixels
    from motes.data.aerial_scenes import scene as aerial_scene
    from motes.data.classes import class_table

    pixels, _ = aerial_scene(seed, (height, width), class_table("isaid"))
    return pixels if card.input.channels in (1, 3) else pixels[..., :1]


def frames_of(card: Card, root: str | Path, split: str | None = None, count: int = 8) -> list[Tile]:
    """``count`` frames of a data set, evenly spaced through its split, cropped to the card's tile size."""
    from motes.data import open_dataset
    from motes.imaging import network_input, read_image

    spec = card.input
    samples = open_dataset(root).split(split)
    if not samples:
        raise MotesError(f"{root}: no frames in it to compare on")
    step = max(1, len(samples) // count)
    tiles = []
    for sample in samples[::step][:count]:
        planes = network_input(read_image(sample.image), spec)
        height, width = (min(n, spec.tile) // spec.stride * spec.stride for n in planes.shape[1:])
        if min(height, width) >= spec.min_size:
            tiles.append(Tile(sample.name, planes[None, :, :height, :width]))
    return tiles


def fitting(length: int, spec: InputSpec) -> int:
    """The side of at least ``length`` that a network takes, or the largest it takes."""
    side = -(-max(length, spec.min_size) // spec.stride) * spec.stride
    return side if spec.max_size is None else min(side, spec.max_size)
