"""``BoxDetector``: a network that answers with boxes, over frames of any size and depth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from motes.cards import Card, InputSpec
from motes.errors import CardError, MotesError
from motes.imaging import Image, fix_scaling, network_input, resize
from motes.inference.backend import Backend, load_backend
from motes.inference.box_selection import best, select
from motes.inference.boxed_targets import boxed_targets
from motes.inference.detections import Detections
from motes.inference.detector import OVERLAP, WHOLE, sigmoid
from motes.inference.thresholds import choose_threshold
from motes.inference.tiles import windows

SKY = 0.5
"""Probability above which a pixel is sky."""

EDGE = 1.0
"""px: a box this near to a border between tiles may be a part of a target, which the neighbour sees whole."""


@runtime_checkable
class CandidateBackend(Protocol):
    """Anything that runs a detector.

    ``candidates`` takes [B, C, H, W] float32, scaled, normalised and padded, and returns ``boxes`` [B, P, 4] xyxy px,
    ``scores`` [B, P, K] in [0, 1], ``levels`` [L] (candidates of each level, in order), and where there are such:
    ``factors`` [B, P], which multiply the scores that pass the threshold, and ``sky`` [B, 1, H, W] logits.
    """

    card: Card

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]: ...


class Boxes(NamedTuple):
    """What a detector says of one frame, best score first; pixels of the frame."""

    boxes: np.ndarray
    """[N, 4] float32 xyxy px, half-open."""
    scores: np.ndarray
    """[N] float32 in [0, 1]."""
    labels: np.ndarray
    """[N] int64."""
    sky: np.ndarray | None
    """[H, W] float32 probability of sky; None where the network has no sky branch."""


class BoxDetector:
    """Finds targets as boxes; stays open over many frames.

    Args:
        model: a ``.onnx`` file of a detector.
        backend: a name ("onnx", "openvino"), or a ready `CandidateBackend`, which ``model`` is then not needed for.
        threshold: `detect` leaves out what scores less; None = the card's. `boxes` gives all that the card's box
            settings let pass.
        fa: instead of a threshold, the tolerated false alarms per megapixel (needs a calibrated card).
        size: (height, width) that frames are resized to, whatever their sides; None = as they are.
        tile: side of a tile, px; None = the card's. Larger frames are cut.
        overlap: least overlap of tiles, px; None = 64, or less where the tile is small.
        only_sky: leave out targets whose centre does not lie in what the network takes for sky.
        threads: CPU threads of one run; None leaves it to the runtime.

    Raises:
        CardError: not a network for boxes, or ``only_sky`` of one without sky branch (found when it first runs).
    """

    def __init__(
        self,
        model: str | Path | None = None,
        backend: str | Backend | CandidateBackend = "onnx",
        *,
        threshold: float | None = None,
        fa: float | None = None,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        only_sky: bool = False,
        threads: int | None = None,
    ) -> None:
        loaded = load_backend(model, backend, threads=threads) if isinstance(backend, str) else backend
        if loaded.card.task != "detection" or not isinstance(loaded, CandidateBackend):
            raise CardError(
                f"'{loaded.card.name}' is a network for the task '{loaded.card.task}', boxes need 'detection'"
            )
        self.backend, self.card = loaded, loaded.card
        self.threshold = choose_threshold(self.card, threshold, fa)
        self.size, self.only_sky = size, only_sky
        spec = self.card.input
        if tile is not None and tile < max(spec.min_size, 8):
            raise MotesError(f"tiles of {tile} px are too small, expected at least {max(spec.min_size, 8)}")
        self.tile = tile or spec.tile
        self._limit = 1.0 if tile is not None else WHOLE
        self.overlap = min(OVERLAP, self.tile // 4) if overlap is None else overlap

    def boxes(self, image: Image | np.ndarray) -> Boxes:
        """All that the network says of a frame, down to its card's least score.

        Raises:
            ImageError: channels or dtype do not fit the network.
        """
        pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
        height, width = pixels.shape[:2]
        if self.size is None:
            found = self._cut(image, pixels) if self.is_cut((height, width)) else self._run(image, self.card.input)
        else:
            found = self._run(resize(pixels, self.size), self.card.input)
            factors = np.array([width, height, width, height], np.float32)
            scale = factors / np.array([self.size[1], self.size[0]] * 2, np.float32)
            sky = None if found.sky is None else np.clip(resize(found.sky, (height, width)), 0, 1)
            found = Boxes(found.boxes * scale, found.scores, found.labels, sky)
        return self._under_sky(found) if self.only_sky else found

    def detect(self, image: Image | np.ndarray) -> Detections:
        """The targets of one frame that score more than the detector's threshold."""
        return self.find(self.boxes(image), image)

    def find(self, found: Boxes, image: Image | np.ndarray, name: str = "") -> Detections:
        """The targets in what `boxes` gave."""
        pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
        above = found.scores > self.threshold
        path = image.path if isinstance(image, Image) else None
        return boxed_targets(
            found.boxes[above],
            found.scores[above],
            found.labels[above],
            pixels,
            classes=tuple(self.card.classes),
            path=path,
            name=name or (path.name if path else ""),
            page=image.page if isinstance(image, Image) else 0,
        )

    def is_cut(self, size: tuple[int, int]) -> bool:
        """Whether a frame of this (height, width) runs in tiles."""
        return max(size) > self.tile and size[0] * size[1] > self._limit * self.tile**2

    def _run(self, image: Image | np.ndarray, spec: InputSpec) -> Boxes:
        """One window: input, padding with zeros, backend, selection."""
        batch = network_input(image, spec)[None]
        height, width = batch.shape[2:]
        least = -(-spec.min_size // spec.stride) * spec.stride
        more = [max(-side % spec.stride, least - side) for side in (height, width)]
        candidates = self.backend.candidates(np.pad(batch, ((0, 0), (0, 0), (0, more[0]), (0, more[1]))))
        ((boxes, scores, labels),) = select(candidates, self.card.boxes, (height, width))
        sky = candidates.get("sky")
        return Boxes(boxes, scores, labels, None if sky is None else sigmoid(sky[0, 0, :height, :width]))

    def _cut(self, image: Image | np.ndarray, pixels: np.ndarray) -> Boxes:
        """All tiles; what a border between tiles cuts comes from the neighbour alone."""
        height, width = pixels.shape[:2]
        spec = fix_scaling(image, self.card.input)  # of the whole frame, so that bare sky is not stretched into noise
        parts, sky = [], np.zeros((height, width), np.float32)
        has_sky = False
        for row, column in windows((height, width), self.tile, self.overlap):
            part = self._run(pixels[row.start : row.stop, column.start : column.stop], spec)
            boxes = part.boxes + np.array([column.start, row.start] * 2, np.float32)
            inner = np.array([column.start, row.start, -column.stop, -row.stop], np.float32) + EDGE
            outer = np.array([column.start == 0, row.start == 0, column.stop == width, row.stop == height])
            whole = ((boxes * [1, 1, -1, -1] >= inner) | outer).all(axis=1)
            parts.append((boxes[whole], part.scores[whole], part.labels[whole]))
            if part.sky is not None:
                has_sky = True
                sky[row.start : row.stop, column.start : column.stop] += part.sky * row.weight[:, None] * column.weight
        boxes, scores, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # Each tile may hold as many targets as a frame of its own; a network that needs no suppression finds a target
        # twice where tiles overlap all the same.
        kept = best(boxes, scores, labels, self.card.boxes.nms or 0.5, self.card.boxes.keep * len(parts))
        return Boxes(boxes[kept], scores[kept], labels[kept], sky if has_sky else None)

    def _under_sky(self, found: Boxes) -> Boxes:
        if found.sky is None:
            raise CardError(f"'{self.card.name}' has no sky branch, so nothing is known to be sky", "BAFE-Net has one")
        height, width = found.sky.shape
        x, y = ((found.boxes[:, k] + found.boxes[:, k + 2]) / 2 for k in (0, 1))
        rows, columns = (np.clip(v.astype(np.int64), 0, n - 1) for v, n in ((y, height), (x, width)))
        inside = found.sky[rows, columns] > SKY
        return Boxes(found.boxes[inside], found.scores[inside], found.labels[inside], found.sky)
