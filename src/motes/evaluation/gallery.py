"""Pictures of an evaluation: every frame with truth and prediction outlined, and what went wrong, enlarged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.evaluation.score import Prediction
from motes.imaging import write_image
from motes.inference.overlay import display
from motes.metrics import Components, Protocol, components
from motes.metrics.matching import diameter, greedy, opdc

TRUTH, FOUND, PAPER, INK = (0, 220, 255), (255, 170, 0), (24, 26, 30), (235, 235, 235)  # RGB
KINDS = ("missed", "false", "merged")
REACH, SIDE, COLUMNS, MOST = 40, 200, 6, 60


@dataclass(frozen=True)
class Failure:
    """A target missed or merged with another, or a false alarm: where, and its picture [SIDE, SIDE, 3]."""

    kind: str
    name: str
    area: int
    picture: np.ndarray


class Gallery:
    """Writes ``folder``/overlays/<name>.png as frames come, and ``folder``/gallery.png in the end."""

    def __init__(self, folder: Path, rule: Protocol) -> None:
        self.folder, self.rule = folder, rule
        self.failures: list[Failure] = []
        (folder / "overlays").mkdir(parents=True, exist_ok=True)

    def add(self, prediction: Prediction) -> None:
        """Draws one frame and keeps its failures."""
        mask = prediction.probability > self.rule.target_threshold
        name = prediction.sample.name
        overlay = outlined(display(prediction.pixels), prediction.label, mask, zoom=self._zoom(mask.shape))
        write_image(self.folder / "overlays" / f"{name}.png", overlay)
        for kind, x, y, area in failures(prediction.label, mask, self.rule):
            if sum(f.kind == kind for f in self.failures) < MOST:
                picture = enlarged(prediction.pixels, prediction.label, mask, x, y)
                self.failures.append(Failure(kind, name, area, picture))

    def write(self) -> None:
        """The gallery: missed targets first, then false alarms, then merged targets."""
        rows = [heading("truth: blue   prediction: orange", COLUMNS * SIDE)]
        for kind in KINDS:
            chosen = [f for f in self.failures if f.kind == kind]
            rows.append(heading(f"{kind}: {len(chosen)}", COLUMNS * SIDE))
            for k in range(0, len(chosen), COLUMNS):
                cells = [titled(f.picture, f"{f.name}  {f.area} px") for f in chosen[k : k + COLUMNS]]
                blank = np.full_like(cells[0], PAPER)
                rows.append(np.concatenate(cells + [blank] * (COLUMNS - len(cells)), axis=1))
        write_image(self.folder / "gallery.png", np.concatenate(rows))

    def _zoom(self, size: tuple[int, ...]) -> int:
        return max(1, 768 // max(size))


def failures(label: np.ndarray, mask: np.ndarray, rule: Protocol) -> list[tuple[str, float, float, int]]:
    """(kind, x, y, area) of every missed target, false alarm, and prediction that covers more than one target."""
    targets, found = components(label), components(mask)
    rows, columns = matched(targets, found, rule)
    missed = np.setdiff1d(np.arange(len(targets)), rows)
    false = np.setdiff1d(np.arange(len(found)), columns)
    pairs = np.unique(np.stack([found.labels[label], targets.labels[label]], axis=1), axis=0)
    covering, counts = np.unique(pairs[pairs[:, 0] > 0, 0], return_counts=True)
    merged = covering[counts > 1] - 1
    out = []
    for kind, chosen, parts in (("missed", missed, targets), ("false", false, found), ("merged", merged, found)):
        for i in chosen.tolist():
            x, y = parts.centroids[i].tolist()
            out.append((kind, x, y, int(parts.areas[i])))
    return out


def matched(targets: Components, found: Components, rule: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Pairs under the protocol's rule; greedily under the shooting rule, which pairs nothing."""
    if rule.matching == "opdc":
        return opdc(targets, found, rule)
    if rule.matching == "diameter":
        return diameter(targets, found)
    return greedy(targets, found, rule.distance)


def enlarged(pixels: np.ndarray, label: np.ndarray, mask: np.ndarray, x: float, y: float) -> np.ndarray:
    """A window of REACH px around (x, y), stretched on its own, outlined, SIDE x SIDE."""
    h, w = label.shape
    left, top = (int(np.clip(round(c) - REACH // 2, 0, max(n - REACH, 0))) for c, n in ((x, w), (y, h)))
    window = (slice(top, top + REACH), slice(left, left + REACH))
    picture = outlined(display(pixels[window], (1.0, 99.9)), label[window], mask[window], zoom=SIDE // REACH)
    square = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    square[: picture.shape[0], : picture.shape[1]] = picture
    return square


def outlined(frame: np.ndarray, label: np.ndarray, mask: np.ndarray, zoom: int) -> np.ndarray:
    """RGB ``frame`` enlarged by a whole factor, truth and prediction drawn as outlines around their pixels."""
    import cv2

    canvas = np.repeat(np.repeat(frame, zoom, axis=0), zoom, axis=1).copy()
    for part, colour, grow in ((label, TRUTH, 1), (mask, FOUND, 0)):
        big = np.repeat(np.repeat(part.astype(np.uint8), zoom, axis=0), zoom, axis=1)
        if grow:  # the truth runs outside of the prediction, so that both are seen where they agree
            big = np.asarray(cv2.dilate(big, np.ones((3, 3), np.uint8)), np.uint8)
        lines, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, lines, -1, colour, 1)
    return canvas


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text below."""
    bar = heading(text, picture.shape[1], 0.4, 20)
    cell = np.concatenate([picture, bar])
    cell[:, -2:] = PAPER
    return cell


def heading(text: str, width: int, size: float = 0.6, height: int = 34) -> np.ndarray:
    import cv2

    bar = np.full((height, width, 3), PAPER, np.uint8)
    cv2.putText(bar, text, (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
    return bar
