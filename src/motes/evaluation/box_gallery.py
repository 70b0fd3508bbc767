"""Pictures of an evaluation of boxes: every frame with truth and detections, what went wrong enlarged, the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.data.annotations import Truth
from motes.errors import MissingExtraError
from motes.evaluation.gallery import COLUMNS, FOUND, MOST, PAPER, REACH, SIDE, TRUTH, heading, titled
from motes.imaging import write_image
from motes.inference.overlay import display
from motes.metrics import BoxProtocol, BoxScore
from motes.metrics.box_matching import centre_pairs
from motes.metrics.box_report import plot_box_pr

KINDS = ("missed", "false")
FAINT = (140, 90, 10)
"""Of detections below the protocol's threshold, RGB."""


@dataclass(frozen=True)
class _Failure:
    kind: str
    title: str
    picture: np.ndarray


class BoxGallery:
    """Writes ``folder``/overlays/<name>.png as images come, ``folder``/gallery.png and ``folder``/pr.png in the end.

    A target is missed where no detection of the protocol's threshold lies within its distance, as in Pd.
    """

    def __init__(self, folder: Path, rule: BoxProtocol, classes: Sequence[str]) -> None:
        self.folder, self.rule, self.classes = folder, rule, classes
        self._failures: list[_Failure] = []
        (folder / "overlays").mkdir(parents=True, exist_ok=True)

    def add(
        self, name: str, pixels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Truth
    ) -> None:
        """Draws one image and keeps its failures; arrays as in `motes.evaluation.boxes.BoxPrediction`."""
        shown = scores >= self.rule.threshold
        zoom = max(1, 768 // max(pixels.shape[:2]))
        groups = ((truth.boxes, TRUTH), (boxes[~shown], FAINT), (boxes[shown], FOUND))
        write_image(self.folder / "overlays" / f"{name}.png", outlined(display(pixels), groups, zoom))
        for kind, box, label in self._wrong(boxes[shown], scores[shown], labels[shown], truth):
            if sum(f.kind == kind for f in self._failures) < MOST:
                of = self.classes[label] if len(self.classes) > 1 and label < len(self.classes) else ""
                size = f"{box[2] - box[0]:.0f}x{box[3] - box[1]:.0f} px"
                picture = self._enlarged(pixels, groups, box)
                self._failures.append(_Failure(kind, f"{name}  {of} {size}", picture))

    def write(self, score: BoxScore) -> list[str]:
        """The gallery and the curve; returns what could not be drawn."""
        rows = [heading("truth: blue   detection: orange", COLUMNS * SIDE)]
        for kind in KINDS:
            chosen = [f for f in self._failures if f.kind == kind]
            rows.append(heading(f"{kind}: {len(chosen)}{' shown' if len(chosen) == MOST else ''}", COLUMNS * SIDE))
            for k in range(0, len(chosen), COLUMNS):
                cells = [titled(f.picture, f.title) for f in chosen[k : k + COLUMNS]]
                rows.append(np.concatenate(cells + [np.full_like(cells[0], PAPER)] * (COLUMNS - len(cells)), axis=1))
        write_image(self.folder / "gallery.png", np.concatenate(rows))
        try:
            plot_box_pr({"": score}, self.folder / "pr.png")
        except MissingExtraError as e:
            return [f"pr.png is not drawn: {e}"]
        return []

    def _wrong(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth: Truth
    ) -> list[tuple[str, list[float], int]]:
        out = []
        for label in np.unique(np.r_[labels, truth.labels]).astype(int).tolist():
            order = np.flatnonzero(labels == label)
            order = order[np.argsort(-scores[order], kind="stable")]
            mine = truth.labels == label
            targets, ignored = truth.boxes[mine], truth.ignored[mine]
            flags, found = centre_pairs(boxes[order], targets, ignored, self.rule.distance)
            out += [("missed", box.tolist(), label) for box in targets[~found & ~ignored]]
            out += [("false", boxes[i].tolist(), label) for i in order[flags < 0].tolist()]
        return out

    def _enlarged(
        self, pixels: np.ndarray, groups: Sequence[tuple[np.ndarray, tuple]], box: Sequence[float]
    ) -> np.ndarray:
        height, width = pixels.shape[:2]
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        left, top = (
            int(np.clip(round(c) - REACH // 2, 0, max(n - REACH, 0)))
            for c, n in zip(centre, (width, height), strict=True)
        )
        window = display(pixels[top : top + REACH, left : left + REACH], (1.0, 99.9))
        moved = [(np.asarray(b) - [left, top, left, top] if len(b) else b, c) for b, c in groups]
        picture = outlined(window, moved, SIDE // REACH)
        square = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
        square[: picture.shape[0], : picture.shape[1]] = picture
        return square


def outlined(frame: np.ndarray, groups: Sequence[tuple[np.ndarray, tuple]], zoom: int) -> np.ndarray:
    """RGB ``frame`` enlarged by a whole factor, boxes [N, 4] drawn around their pixels, each group in its colour."""
    import cv2

    canvas = np.repeat(np.repeat(frame, zoom, axis=0), zoom, axis=1).copy()
    for boxes, colour in groups:
        for x1, y1, x2, y2 in np.rint(np.asarray(boxes, np.float64) * zoom).astype(int).tolist():
            cv2.rectangle(canvas, (x1 - 1, y1 - 1), (x2, y2), colour, 1)
    return canvas
