"""What was found in one frame, as columns of equal length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

_COLUMNS = {
    "boxes": (np.float64, 4),
    "centroids": (np.float64, 2),
    "centers": (np.float64, 2),
    "scores": (np.float64, 0),
    "areas": (np.int64, 0),
    "scr": (np.float64, 0),
    "labels": (np.int64, 0),
}


def _empty(name: str) -> np.ndarray:
    dtype, width = _COLUMNS[name]
    return np.zeros((0, width) if width else 0, dtype)


@dataclass(frozen=True, eq=False)
class Detections:
    """The targets of one frame, best score first.

    A pixel in column j and row i covers [j, j + 1) x [i, i + 1) in box coordinates and has its centre at (j, i) in
    point coordinates, as array indices do: a target on columns 10, 11, 12 has x1 = 10, x2 = 13 and x = 11.

    Attributes:
        boxes: [N, 4] x1, y1, x2, y2 px, half-open: x2 and y2 are one past the last pixel.
        centroids: [N, 2] x, y px, sub-pixel, weighted by the counts above the local background.
        centers: [N, 2] x, y px, the unweighted mean of the target's pixels.
        scores: [N] largest probability inside, in [0, 1].
        areas: [N] pixels.
        scr: [N] signal-to-clutter ratio, (mean of the target - mean of its surroundings) / std of the surroundings, in
            counts; negative for targets darker than their surroundings, NaN where the surroundings are constant.
        labels: [N] index into ``classes``.
        classes: class names.
        path: the file, or None.
        name: how results of this frame are named: ``frame``, or ``stack_p0003`` for a page.
        size: (height, width) of the frame, px.
        page: page of the file, from 0.
    """

    boxes: np.ndarray = field(default_factory=lambda: _empty("boxes"))
    centroids: np.ndarray = field(default_factory=lambda: _empty("centroids"))
    centers: np.ndarray = field(default_factory=lambda: _empty("centers"))
    scores: np.ndarray = field(default_factory=lambda: _empty("scores"))
    areas: np.ndarray = field(default_factory=lambda: _empty("areas"))
    scr: np.ndarray = field(default_factory=lambda: _empty("scr"))
    labels: np.ndarray = field(default_factory=lambda: _empty("labels"))
    classes: tuple[str, ...] = ("target",)
    path: Path | None = None
    name: str = ""
    size: tuple[int, int] = (0, 0)
    page: int = 0

    def __post_init__(self) -> None:
        count = len(np.asarray(self.boxes))
        for name, (dtype, width) in _COLUMNS.items():
            column = np.asarray(getattr(self, name), dtype)
            shape = (count, width) if width else (count,)
            if column.size == 0:
                column = column.reshape(0, width) if width else column.reshape(0)
            if column.shape != shape:
                raise ValueError(f"Detections.{name}: expected shape {shape}, found {column.shape}")
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Detections:
        """The chosen targets: a boolean mask, indices, a slice or one integer; always a Detections."""
        if isinstance(index, int | np.integer):
            index = [index]
        elif not isinstance(index, slice):
            index = np.asarray(index)
            if index.size == 0:
                index = index.astype(np.int64)
        return replace(self, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def to_rows(self) -> list[dict[str, Any]]:
        """One plain dictionary a target, with the columns of ``targets.csv``; SCR None where undefined."""
        image = self.name or (self.path.name if self.path else "")
        return [
            {
                "image": image,
                "x": round(float(self.centroids[i, 0]), 3),
                "y": round(float(self.centroids[i, 1]), 3),
                "x1": _plain(self.boxes[i, 0]),
                "y1": _plain(self.boxes[i, 1]),
                "x2": _plain(self.boxes[i, 2]),
                "y2": _plain(self.boxes[i, 3]),
                "area": int(self.areas[i]),
                "score": round(float(self.scores[i]), 5),
                "scr": round(float(self.scr[i]), 3) if math.isfinite(self.scr[i]) else None,
                "label": self.classes[self.labels[i]],
            }
            for i in range(len(self))
        ]

    def columns(self) -> dict[str, Any]:
        """The columns as lists that JSON can hold; `from_columns` turns them back, bit by bit."""
        return {name: _jsonable(getattr(self, name)) for name in _COLUMNS}

    @classmethod
    def from_columns(cls, columns: dict[str, Any], **facts: Any) -> Detections:
        """The inverse of `columns`; ``facts`` are the other attributes."""
        known = {f.name for f in fields(cls)}
        arrays: dict[str, Any] = {}
        for name, (dtype, _) in _COLUMNS.items():
            values = columns[name]
            arrays[name] = np.asarray([np.nan if v is None else v for v in values], dtype)
        return cls(**arrays, **{k: v for k, v in facts.items() if k in known})


COLUMNS = ("image", "x", "y", "x1", "y1", "x2", "y2", "area", "score", "scr", "label")
"""The columns of ``targets.csv``, in order."""


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else round(float(value), 3)


def _jsonable(column: np.ndarray) -> list:
    if column.ndim == 1 and column.dtype.kind == "f":
        return [float(v) if math.isfinite(v) else None for v in column]
    return list(column.tolist())
