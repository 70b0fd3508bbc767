"""Boxes and points beside the masks, and which corner convention the boxes follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from motes.errors import DataError

CONVENTIONS: dict[str, tuple[int, int]] = {
    "0-based, end exclusive": (0, 0),
    "0-based, end inclusive": (0, -1),
    "1-based, end exclusive": (1, 1),
    "1-based, end inclusive": (1, 0),
}
"""What is added to the half-open 0-based box [x1, x2) to get the stored minimum and maximum."""


@dataclass(frozen=True)
class Convention:
    """The convention under which most stored boxes are the bounding boxes of the mask's components."""

    name: str
    matched: int
    """Stored boxes equal to a component's box under this convention."""
    boxes: int

    def half_open(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stored boxes [N, 4] as 0-based half-open xyxy."""
        low, high = CONVENTIONS[self.name]
        return stored - np.array([low, low, high, high], dtype=np.float64)


def decide_convention(stored: Sequence[NDArray[np.float64]], masks: Sequence[NDArray[np.int64]]) -> Convention | None:
    """The convention of a whole set, decided against the masks; None where no box matches under any.

    Args:
        stored: one array [N, 4] an image, as read from the annotation.
        masks: one array [M, 4] an image: half-open xyxy of the mask's components.
    """
    counts = {}
    for name, (low, high) in CONVENTIONS.items():
        shift = np.array([low, low, high, high])
        counts[name] = sum(
            len({tuple(b) for b in s.tolist()} & {tuple(b) for b in (m + shift).astype(float).tolist()})
            for s, m in zip(stored, masks, strict=True)
        )
    best = max(counts, key=lambda name: counts[name])
    return Convention(best, counts[best], sum(map(len, stored))) if counts[best] else None


def unmatched(boxes: NDArray[np.float64], others: NDArray[np.float64], overlap: float = 0.5) -> list[int]:
    """Indices of ``boxes`` [N, 4] that no box of ``others`` [M, 4] overlaps by an IoU of ``overlap`` or more."""
    if not len(others):
        return list(range(len(boxes)))
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = _areas(boxes)[:, None] + _areas(others)[None] - shared
    iou = shared / np.maximum(union, 1e-9)
    return [int(i) for i in np.nonzero(iou.max(1) < overlap)[0]]


def read_points(path: Path) -> NDArray[np.float64]:
    """The points of an XML (``xc``, ``yc``) or of a text file (``x y`` a line) as stored, [N, 2] xy.

    Raises:
        DataError: not readable as such.
    """
    if path.suffix.lower() == ".xml":
        rows = [[_number(path, c, "xc"), _number(path, c, "yc")] for c in _xml(path).iter("centroid")]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)
    rows = []
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                x, y = line.replace(",", " ").split()[:2]
                rows.append([float(x), float(y)])
    except (ValueError, OSError):
        raise DataError(f"{path} holds no points (expected 'x y' a line)") from None
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def annotation(folder: Path, name: str, mask: Path | None) -> Path | None:
    """The annotation of an image in ``folder``: under the image's name or its mask's, XML before text."""
    stems = [name] + ([mask.stem] if mask is not None and mask.stem != name else [])
    for stem in stems:
        for suffix in (".xml", ".txt"):
            if (folder / (stem + suffix)).is_file():
                return folder / (stem + suffix)
    return None


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1))


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as e:
        raise DataError(f"{path} is not readable as XML: {e}") from None


def _number(path: Path, element: ElementTree.Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{path}: <{element.tag}> has <{tag}> {text!r}, a number was expected") from None
