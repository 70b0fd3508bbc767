"""Pictures of an evaluation of class maps: truth beside prediction, and the objects that were not found, enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.evaluation.gallery import PAPER, heading, titled
from motes.imaging import write_image
from motes.inference.class_overlay import draw_classes, paint, vivid_colours
from motes.inference.overlay import display
from motes.metrics.class_score import found_objects

HALF, COLUMNS, MOST, PER_IMAGE = 180, 4, 40, 4
"""Side of half a cell of the gallery in px, cells a row, cells in all, and of one image."""

LARGE = 1280
"""Longest side of each half of an overlay, px."""


@dataclass(frozen=True)
class Missed:
    """An object that was not found: its image, class, area in px and picture [HALF, 2 HALF, 3], truth on the left."""

    name: str
    of: str
    area: int
    picture: np.ndarray


class ClassGallery:
    """Writes ``folder``/overlays/<name>.png as images come, and ``folder``/gallery.png in the end.

    Args:
        folder: made where missing.
        names: of the classes.
        background: id that is not painted, or None.
    """

    def __init__(self, folder: Path, names: Sequence[str], background: int | None) -> None:
        self.folder, self.names, self.background = folder, names, background
        self.colours = vivid_colours(len(names), background)
        self.missed: list[Missed] = []
        self.count = 0
        (folder / "overlays").mkdir(parents=True, exist_ok=True)

    def add(self, name: str, pixels: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> None:
        """Draws one image; keeps its largest objects that were not found: what is large is seldom a doubt of the label.

        Args:
            name: of the image.
            pixels: [H, W, C] counts.
            prediction: [H, W] ids.
            label: [H, W] ids.
        """
        picture = draw_classes(
            pixels, prediction, self.names, truth=label, background=self.background, caption=name, large=LARGE
        )
        write_image(self.folder / "overlays" / f"{name}.png", picture)
        missed = missed_objects(prediction, label, len(self.names), self.background)
        self.count += len(missed)
        for c, x, y, area in missed[: min(PER_IMAGE, MOST - len(self.missed))]:
            cell = self._enlarged(pixels, prediction, label, x, y, area)
            self.missed.append(Missed(name, self.names[c], area, cell))

    def write(self) -> None:
        """The gallery."""
        width = COLUMNS * 2 * HALF
        shown = f", {len(self.missed)} shown" if len(self.missed) < self.count else ""
        rows = [heading(f"objects not found: {self.count}{shown}; truth left, prediction right", width)]
        for k in range(0, len(self.missed), COLUMNS):
            cells = [titled(m.picture, f"{m.of} {m.area} px  {m.name}"[:52]) for m in self.missed[k : k + COLUMNS]]
            blank = np.full_like(cells[0], PAPER)
            rows.append(np.concatenate(cells + [blank] * (COLUMNS - len(cells)), axis=1))
        write_image(self.folder / "gallery.png", np.concatenate(rows))

    def _enlarged(
        self, pixels: np.ndarray, prediction: np.ndarray, label: np.ndarray, x: float, y: float, area: int
    ) -> np.ndarray:
        import cv2

        reach = int(np.clip(4 * area**0.5, 32, max(32, min(label.shape))))
        height, width = label.shape
        left, top = (int(np.clip(round(c) - reach // 2, 0, max(n - reach, 0))) for c, n in ((x, width), (y, height)))
        window = (slice(top, top + reach), slice(left, left + reach))
        frame = display(np.asarray(pixels[window]))
        canvas = np.full((HALF, 2 * HALF, 3), PAPER, np.uint8)
        scale = (HALF - 2) / max(frame.shape[:2])
        size = (max(1, int(frame.shape[1] * scale)), max(1, int(frame.shape[0] * scale)))
        for half, ids in enumerate((label, prediction)):
            shown = paint(frame, ids[window], self.colours, self.background)
            part = cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
            canvas[: size[1], half * HALF : half * HALF + size[0]] = part
        return canvas


def missed_objects(
    prediction: np.ndarray, label: np.ndarray, classes: int, background: int | None
) -> list[tuple[int, float, float, int]]:
    """(class, x, y, area) of every object that was not found, by the rule of `ClassScore`, the largest first."""
    out = []
    for c in np.unique(label).tolist():
        if c == background or c >= classes:
            continue
        objects, found = found_objects(prediction, label, c)
        for i in np.flatnonzero(~found).tolist():
            x, y = objects.centroids[i].tolist()
            out.append((c, x, y, int(objects.areas[i])))
    return sorted(out, key=lambda row: (-row[3], row))
