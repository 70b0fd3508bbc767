"""Detectors as ONNX: the graph gives candidates, what suppresses doubles stays outside; compared with the network."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from motes.cards import Card
from motes.errors import MotesError
from motes.export.forms import deployable
from motes.export.onnx_file import facts_of, onnx_bytes
from motes.export.parity import Tile, fitting, synthetic_tiles
from motes.inference.box_selection import select

SIZES = ((96, 128), (128, 96), (128, 160), (96, 96), (96, 96))
"""Sides of the synthetic tiles (px); the last two run as one batch."""


@dataclass(frozen=True)
class BoxBounds:
    """What an export of a detector may differ by.

    ``score``: largest difference of a score, a second factor or a probability of sky. ``box``: largest difference of a
    coordinate, px, plus ``relative`` times the coordinate. ``outliers``: share of the candidates that may differ by
    more: where a network selects inside the graph (proposals), rounding can exchange two that are nearly equal.
    """

    score: float = 5e-4
    box: float = 1e-2
    relative: float = 2e-4
    outliers: float = 0.0


@dataclass(frozen=True)
class BoxRow:
    """One tile compared: candidates, largest differences (px for boxes), candidates beyond the bounds; detections."""

    tile: str
    shape: tuple[int, ...]
    candidates: int
    score: float
    box: float
    sky: float | None
    outside: int
    detections: int
    detections_of_file: int


@dataclass
class BoxParity:
    """All tiles of one export."""

    bounds: BoxBounds
    rows: list[BoxRow] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        beyond, of = sum(r.outside for r in self.rows), sum(r.candidates for r in self.rows)
        sky = all(r.sky is None or r.sky <= self.bounds.score for r in self.rows)
        return bool(self.rows) and beyond <= self.bounds.outliers * of and sky

    def to_dict(self) -> dict[str, Any]:
        rows = [{**asdict(r), "shape": list(r.shape)} for r in self.rows]
        return {"passed": self.passed, "bounds": asdict(self.bounds), **self.facts, "rows": rows}

    def worst(self) -> str:
        """One line for the error message."""
        row = max(self.rows, key=lambda r: (r.outside / max(r.candidates, 1), r.score))
        return (
            f"tile '{row.tile}' {list(row.shape)}: scores differ by up to {row.score:.3g}, boxes by {row.box:.3g} px, "
            f"{row.outside} of {row.candidates} candidates by more than is allowed"
        )


def export_boxes(
    net: nn.Module, card: Card, path: str | Path, tiles: Iterable[Tile] | None = None, bounds: BoxBounds | None = None
) -> BoxParity:
    """Writes a detector as ONNX: input ``image`` [B, C, H, W] float32 with sides that are multiples of the card's
    stride, outputs as ``inference.box_detector.CandidateBackend`` returns them.

    Proposals of two-stage networks are suppressed inside the graph; the detections are not.

    Args:
        net, card, path: as for ``export_onnx``.
        tiles: what to compare on; None: synthetic scenes of three sizes and a batch of two.
        bounds: how much may differ; None: what the network says (``export_bounds``), or the default.

    Raises:
        MotesError: the file and the network disagree by more than ``bounds``; no file is left then.
    """
    from motes.imaging import atomic_path
    from motes.inference.onnx_backend import OnnxBackend
    from motes.models.backend import TorchBackend

    path, data = Path(path), candidate_bytes(net, card)
    report = BoxParity(bounds or BoxBounds(**getattr(net, "export_bounds", {})))
    reference = TorchBackend(copy.deepcopy(net), card, as_is=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
        written = OnnxBackend(temporary)
        for tile in synthetic_tiles(card, SIZES) if tiles is None else tiles:
            expected, found = reference.candidates(tile.batch), written.candidates(tile.batch)
            report.rows.append(compared(tile, expected, found, card, report.bounds))
        if not report.passed:
            raise MotesError(f"{path}: not written, ONNX Runtime disagrees with the network: {report.worst()}")
    report.facts = facts_of(path, data, card)
    return report


def candidate_bytes(net: nn.Module, card: Card) -> bytes:
    """The serialised graph of a detector: its candidates as outputs, under their names."""
    merged = deployable(net)
    side = fitting(2 * card.input.stride, card.input)
    with torch.inference_mode():
        names = list(merged.candidates(torch.zeros(1, card.input.channels, side, side)))
    return onnx_bytes(Candidates(merged).eval(), card, names)


class Candidates(nn.Module):
    """A detector whose forward is what is exported: the values of ``candidates`` in their order."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.net.candidates(images).values())


def compared(
    tile: Tile, expected: dict[str, np.ndarray], found: dict[str, np.ndarray], card: Card, bounds: BoxBounds
) -> BoxRow:
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise MotesError(
                f"tile '{tile.name}': {name} has the shape {list(found[name].shape)}, expected {list(value.shape)}"
            )
    boxes = np.abs(expected["boxes"].astype(np.float64) - found["boxes"])
    scores = np.abs(expected["scores"].astype(np.float64) - found["scores"]).max(axis=2)
    if "factors" in expected:
        scores = np.maximum(scores, np.abs(expected["factors"].astype(np.float64) - found["factors"]))
    limits = bounds.box + bounds.relative * np.abs(expected["boxes"])
    # Not `>`: NaN is outside too.
    outside = ~((boxes <= limits).all(axis=2) & (scores <= bounds.score))
    sky = None
    if "sky" in expected:
        p, q = (0.5 * (1 + np.tanh(side["sky"].astype(np.float64) / 2)) for side in (expected, found))
        sky = float(np.abs(p - q).max())
    size = (tile.batch.shape[2], tile.batch.shape[3])
    counts = [sum(len(labels) for _, _, labels in select(side, card.boxes, size)) for side in (expected, found)]
    return BoxRow(
        tile.name, tile.batch.shape, outside.size, float(scores.max()), float(boxes.max()), sky,
        int(outside.sum()), *counts,
    )  # fmt: skip
