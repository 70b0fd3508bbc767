"""``Detector``: a backend that takes frames of any size and depth. ``detect``: the same in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from motes.cards import InputSpec
from motes.errors import CardError, CheckpointError, MotesError
from motes.imaging import Image, fix_scaling, network_input
from motes.inference.backend import Backend, load_backend
from motes.inference.detections import Detections
from motes.inference.targets import find_targets
from motes.inference.thresholds import choose_threshold
from motes.inference.tiles import spans, stitch

if TYPE_CHECKING:
    from motes.inference.box_detector import BoxDetector

OVERLAP = 64
"""Least overlap of neighbouring tiles, px."""

WHOLE = 2.0
"""Frames of up to this many tile areas run whole, unless the tile was chosen by the user: 640x512 is not cut."""


class Detector:
    """Finds targets in frames; stays open over many of them.

    Args:
        model: None = the shipped network; a shipped name, a training-free method, or a ``.onnx`` file.
        backend: a name ("onnx", "openvino"), or a ready `Backend`, which ``model`` is then not needed for.
        threshold: probability above which a pixel is target; None = the card's.
        fa: instead of a threshold, the tolerated false alarms per megapixel (needs a calibrated card).
        tile: side of a tile, px; None = the card's. Larger frames are cut.
        overlap: least overlap of tiles, px; None = 64, or less where the tile is small.
        threads: CPU threads of one run; None leaves it to the runtime.
        options: settings of a training-free method (``size=7, k=10``).

    Example:
        >>> detector = motes.Detector()
        >>> detector.detect(read_image("frame.tif")).centroids
    """

    def __init__(
        self,
        model: str | Path | None = None,
        backend: str | Backend = "onnx",
        *,
        threshold: float | None = None,
        fa: float | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        if isinstance(backend, str):
            backend = load_backend(model, backend, threads=threads, **options)
        self.backend: Backend = backend
        self.card = backend.card
        if self.card.task != "irstd":
            hint = "BoxDetector or open_detector takes it" if self.card.task == "detection" else None
            message = f"'{self.card.name}' is a network for the task '{self.card.task}', detection needs 'irstd'"
            raise CardError(message, hint)
        self.threshold = choose_threshold(self.card, threshold, fa)
        spec = self.card.input
        if tile is not None and tile < max(spec.min_size, 8):
            raise MotesError(f"tiles of {tile} px are too small, expected at least {max(spec.min_size, 8)}")
        # A tile that is a multiple of the stride needs no padding of its own.
        side = tile if tile is not None else spec.tile
        self.tile = -(-side // spec.stride) * spec.stride
        if spec.max_size is not None and self.tile > spec.max_size:
            if tile is not None:
                raise MotesError(f"tiles of {tile} px are too large for '{self.card.name}', at most {spec.max_size} px")
            self.tile = spec.max_size
        self._limit = 1.0 if tile is not None else WHOLE
        self.overlap = min(OVERLAP, self.tile // 4) if overlap is None else overlap
        spans(2 * self.tile, self.tile, self.overlap)  # raises where the overlap does not fit the tile

    def probability(self, image: Image | np.ndarray) -> np.ndarray:
        """[H, W] or [H, W, C] counts -> [H, W] float32 probability in [0, 1].

        Raises:
            ImageError: channels or dtype do not fit the network.
        """
        pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
        spec = self.card.input
        if not self.is_cut(pixels.shape[:2]):
            return self._run(image, spec)
        # The statistics that scale a tile are the frame's, so that a tile of bare sky is not stretched into noise.
        spec = fix_scaling(image, spec)
        stitched = stitch(
            (pixels.shape[0], pixels.shape[1]),
            self.tile,
            self.overlap,
            lambda rows, columns: self._run(pixels[rows, columns], spec),
        )
        return np.asarray(np.minimum(stitched, 1.0, out=stitched))

    def detect(self, image: Image | np.ndarray) -> Detections:
        """The targets of one frame, from `probability` and the detector's threshold."""
        pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
        return self.find(self.probability(image), pixels, image if isinstance(image, Image) else None)

    def find(
        self, probability: np.ndarray, pixels: np.ndarray, image: Image | None = None, name: str = ""
    ) -> Detections:
        """The targets in a map that `probability` made."""
        path = image.path if image else None
        return find_targets(
            probability,
            pixels,
            self.threshold,
            classes=tuple(self.card.classes),
            path=path,
            name=name or (path.name if path else ""),
            page=image.page if image else 0,
        )

    def is_cut(self, size: tuple[int, ...]) -> bool:
        """Whether a frame of this (height, width) runs in tiles."""
        height, width = size
        if max(height, width) <= self.tile:
            return False
        if self.card.input.max_size is not None and max(height, width) > self.card.input.max_size:
            return True
        return self._limit == 1.0 or height * width > self._limit * self.tile**2

    def _run(self, image: Image | np.ndarray, spec: InputSpec) -> np.ndarray:
        """One window: input, padding, backend, cropping, sigmoid."""
        batch = network_input(image, spec)[None]
        height, width = batch.shape[2:]
        logits = self.backend.run(pad_to(batch, spec.stride, spec.min_size))
        if logits.ndim != 4 or logits.shape[1] != 1 or logits.shape[2] < height or logits.shape[3] < width:
            raise CheckpointError(
                f"'{self.card.name}' answers an input of {height}x{width} with shape {list(logits.shape)}, "
                "expected one logit a pixel, [1, 1, height, width]"
            )
        return sigmoid(logits[0, 0, :height, :width])


def open_detector(
    model: str | Path | None = None,
    backend: str | Backend = "onnx",
    *,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    only_sky: bool = False,
    **options: Any,
) -> Detector | BoxDetector:
    """A `BoxDetector` where the network answers with boxes, else a `Detector`.

    Args:
        model, backend, threads, options: of either.
        settings: of a training-free method.
        size, only_sky: of `BoxDetector` alone.

    Raises:
        CardError: ``size`` or ``only_sky`` for a network that answers with maps.
    """
    if isinstance(backend, str):
        backend = load_backend(model, backend, threads=threads, **(settings or {}))
    if backend.card.task == "detection":
        from motes.inference.box_detector import BoxDetector

        return BoxDetector(backend=backend, size=size, only_sky=only_sky, **options)
    if size is not None or only_sky:
        name = "only_sky" if only_sky else "size"
        raise CardError(f"'{backend.card.name}' answers with a map, and {name} is for networks that answer with boxes")
    return Detector(backend=backend, **options)


def detect(
    source: str | Path | Image | np.ndarray | Iterable[Any],
    model: str | Path | None = None,
    backend: str | Backend = "onnx",
    **options: Any,
) -> list[Detections]:
    """Finds the targets of images; one result a frame, in the order of the source.

    Args:
        source: a file, a folder, a glob pattern, an `Image`, an array [H, W] or [H, W, C] of counts, or several of
            these.
        model: as in `Detector`.
        backend: as in `Detector`.
        options: further arguments of `Detector`; or of `BoxDetector`, where the network answers with boxes.

    Raises:
        MotesError: no such source, an unreadable image, an unknown model; nothing is skipped silently.
    """
    from motes.inference.sources import frames_of, pages_of

    detector = open_detector(model, backend, **taken_apart(options))
    results = []
    items = [source] if isinstance(source, str | Path | Image | np.ndarray) else list(source)
    for item in items:
        if isinstance(item, Image | np.ndarray):
            results.append(detector.detect(item))
            continue
        for frame in frames_of([item]):
            for image, _, name in pages_of(frame):
                results.append(dataclasses.replace(detector.detect(image), name=name))
    return results


def taken_apart(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `Detector` as `open_detector` takes them: settings of a training-free method apart."""
    own = {"threshold", "fa", "tile", "overlap", "threads", "size", "only_sky"}
    return {k: v for k, v in options.items() if k in own} | {
        "settings": {k: v for k, v in options.items() if k not in own}
    }


def pad_to(batch: np.ndarray, stride: int, min_size: int) -> np.ndarray:
    """[B, C, H, W] padded at the bottom and right to multiples of ``stride`` and at least ``min_size`` px.

    By reflection, or by repeating the edge where the frame is too small to reflect. Done after normalisation: what is
    padded is the network's input, not counts.
    """
    height, width = batch.shape[2:]
    more = [max(-(-side // stride) * stride, -(-min_size // stride) * stride) - side for side in (height, width)]
    if not any(more):
        return batch
    mode: Literal["reflect", "edge"] = "reflect" if more[0] < height and more[1] < width else "edge"
    return np.pad(batch, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode=mode)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float32, without overflow."""
    out = np.clip(logits, -80, 80, dtype=np.float32)
    np.negative(out, out=out)
    np.exp(out, out=out)
    out += 1
    return np.asarray(np.reciprocal(out, out=out))
