"""``Segmenter``: a backend with one logit a class, over images of any size, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from motes.cards import InputSpec
from motes.errors import CardError, CheckpointError, ImageError
from motes.imaging import Image, fix_scaling, network_input, resize
from motes.inference.backend import Backend, load_backend
from motes.inference.class_windows import Span, enlarge, merge, spans, top_class
from motes.inference.detector import pad_to
from motes.metrics.class_protocols import ClassProtocol, class_protocol

WHOLE = 2.0
"""Images of up to this many window areas run whole, unless the window was chosen by the user."""

Pixels = Any
"""[H, W] or [H, W, C] counts: an array, or what has its ``shape``, ``dtype`` and slicing (`imaging.TiffRows`)."""


class Segmenter:
    """One class a pixel, for images of any size; stays open over many of them.

    Args:
        model: a ``.onnx`` file with its card.
        backend: a name ("onnx", "openvino"), or a ready `Backend`, which ``model`` is then not needed for.
        protocol: how windows are laid and put together, a name of `CLASS_PROTOCOLS` or a `ClassProtocol`. ``native``
            blends without seams, ``window`` is the published mean.
        window: side of a window in px, instead of the protocol's (896); what the network cannot take is adapted: the
            next multiple of its stride (``ramp`` only), at most its largest size.
        stride: distance of windows in px, instead of the protocol's (512).
        scales: resize windows by these factors too, instead of the protocol's.
        flip: also run mirrored, instead of the protocol's.
        batch: windows that run at once; they are the same pixels whatever the batch.
        threads: CPU threads of one run; None leaves it to the runtime.

    Attributes:
        card: of the network.
        names: of the classes, in the order of ids.
        rule: the protocol, with everything that was changed.

    Example:
        >>> ids = Segmenter("factseg.onnx").labels(read_image("P0003.png"))
    """

    def __init__(
        self,
        model: str | Path | None = None,
        backend: str | Backend = "onnx",
        *,
        protocol: str | ClassProtocol = "native",
        window: int | None = None,
        stride: int | None = None,
        scales: tuple[float, ...] | None = None,
        flip: bool | None = None,
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        rule = class_protocol(protocol)
        if isinstance(backend, str):
            if model is None:
                raise CheckpointError("no network for classes is shipped", "name a file: --model network.onnx")
            backend = load_backend(model, backend, threads=threads)
        self.backend: Backend = backend
        self.card = backend.card
        if self.card.task != "aerial":
            hint = "motes detect finds targets" if self.card.task == "irstd" else None
            raise CardError(
                f"'{self.card.name}' is a network for the task '{self.card.task}', class maps need 'aerial'", hint
            )
        self.names = tuple(self.card.classes) if len(self.card.classes) > 1 else ("background", *self.card.classes)
        self.rule = self._fitted(rule.replace(window=window, stride=stride, scales=scales, flip=flip))
        self._limit = WHOLE if window is None and rule.blend == "ramp" else 1.0
        self.batch = max(1, batch)

    def labels(self, image: Image | Pixels, advance: Callable[[], object] | None = None) -> np.ndarray:
        """The most probable class of every pixel, [H, W] uint8; the lowest id where several are equal.

        Args:
            image: [H, W, C] (or [H, W]) counts.
            advance: called after every window.

        Raises:
            ImageError: channels or dtype do not fit the network.
            CheckpointError: the network does not answer one logit a class and pixel.
        """
        ids = np.empty(_size(image), np.uint8)
        for top, rows in self.rows(image, advance):
            ids[top : top + len(rows)] = rows
        return ids

    def probabilities(self, image: Image | Pixels, advance: Callable[[], object] | None = None) -> np.ndarray:
        """[K, H, W] float32 probabilities, which add up to 1: 64 bytes a pixel for 16 classes. Raises as `labels`."""
        maps = np.empty((len(self.names), *_size(image)), np.float32)
        for top, rows in self._bands(image, lambda block: block, advance):
            maps[:, top : top + rows.shape[1]] = rows
        return maps

    def rows(
        self, image: Image | Pixels, advance: Callable[[], object] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, [n, W] uint8 ids) of finished bands, from the top: what `labels` puts together."""
        return self._bands(image, top_class, advance)

    def steps(self, image: Image | Pixels) -> int:
        """How often `labels` will call ``advance``."""
        rows, columns = self._grid(_size(image))
        return len(rows) * len(columns)

    def _bands(
        self,
        image: Image | Pixels,
        finish: Callable[[np.ndarray], np.ndarray],
        advance: Callable[[], object] | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        pixels, spec = _pixels(image), self.card.input
        _check_channels(pixels, spec, image.path if isinstance(image, Image) else None)
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        if self.rule.resolution is not None and self.rule.resolution != size:
            yield from self._resized(pixels, spec, finish, advance)
            return
        rows, columns = self._grid(size)
        if len(rows) * len(columns) > 1:
            # The statistics that scale a window are the image's. 8-bit ranges need none, so nothing is read for them.
            spec = spec if _is_plain(pixels, spec) else fix_scaling(np.asarray(pixels), spec)

        def run(row: Span) -> Iterator[np.ndarray]:
            for start in range(0, len(columns), self.batch):
                here = columns[start : start + self.batch]
                windows = [np.asarray(pixels[row.start : row.stop, c.start : c.stop]) for c in here]
                for maps in self._run(windows, spec):
                    yield softmax(maps) if self.rule.average == "logits" else maps
                    if advance is not None:
                        advance()

        yield from merge(rows, columns, run, finish)

    def _resized(
        self,
        pixels: Pixels,
        spec: InputSpec,
        finish: Callable[[np.ndarray], np.ndarray],
        advance: Callable[[], object] | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Protocols that squeeze the image to one size: their maps go back to the image's size in bands."""
        assert self.rule.resolution is not None
        height, width = pixels.shape[:2]
        small = resize(np.asarray(pixels), self.rule.resolution, self.rule.image_filter)
        (maps,) = self._run([small], spec, coarse=True)
        if advance is not None:
            advance()
        step = max(1, (1 << 24) // (len(maps) * width))
        for top in range(0, height, step):
            block = enlarge(maps, (height, width), slice(top, min(top + step, height)))
            yield top, finish(softmax(block) if self.rule.average == "logits" else block)

    def _run(self, windows: list[np.ndarray], spec: InputSpec, coarse: bool = False) -> Iterator[np.ndarray]:
        """Windows of any sizes -> their probabilities (or logits, as the protocol says) [K, h, w], averaged over scales
        and mirrored passes. ``coarse``: maps may stay smaller than their window, so that they are enlarged once."""
        rule = self.rule
        total: list[np.ndarray | None] = [None] * len(windows)
        passes = len(rule.scales) * (1 + rule.flip)
        for scale in rule.scales:
            batch = [_scaled(window, scale, spec) for window in windows]
            for mirrored in (False, True)[: 1 + rule.flip]:
                answers = self._logits([b[:, :, ::-1] if mirrored else b for b in batch], spec)
                for i, logits in enumerate(answers):
                    maps = logits[:, :, ::-1] if mirrored else logits
                    if rule.average == "probabilities":
                        maps = softmax(maps)
                    height, width = windows[i].shape[:2]
                    if maps.shape[1:] != (height, width) and not (coarse and rule.scales == (1.0,)):
                        maps = enlarge(maps, (height, width))
                    before = total[i]
                    if before is None:
                        total[i] = maps if maps.flags.writeable and passes == 1 else maps.copy()
                    else:
                        before += maps
        for summed in total:
            assert summed is not None
            if passes > 1:
                summed /= np.float32(passes)
            yield summed

    def _logits(self, batch: list[np.ndarray], spec: InputSpec) -> list[np.ndarray]:
        """[C, h, w] inputs of any sizes -> logits [K, h, w]; inputs of one size run at once."""
        pad = _zeros if self.rule.padding == "zero" else pad_to
        padded = [pad(one[None], spec.stride, spec.min_size) for one in batch]
        if len({p.shape for p in padded}) == 1:
            answers = list(self._answer(np.concatenate(padded) if len(padded) > 1 else padded[0]))
        else:
            answers = [self._answer(p)[0] for p in padded]
        # an answer that was not padded may be coarser than its input, see `_answer`: cropping leaves it alone
        return [a[:, : one.shape[1], : one.shape[2]] for a, one in zip(answers, batch, strict=True)]

    def _answer(self, batch: np.ndarray) -> np.ndarray:
        logits = self.backend.run(np.ascontiguousarray(batch, np.float32))
        expected = len(self.names) if len(self.card.classes) > 1 else 1
        # Squeezing protocols take the logits of a coarser grid too, as the authors' networks give them.
        coarser = self.rule.resolution == batch.shape[2:] and logits.ndim == 4 and logits.shape[2] <= batch.shape[2]
        if logits.ndim != 4 or logits.shape[1] != expected or (logits.shape[2:] != batch.shape[2:] and not coarser):
            raise CheckpointError(
                f"'{self.card.name}' answers an input of {batch.shape[2]}x{batch.shape[3]} with shape "
                f"{list(logits.shape)}, expected one logit for each of {expected} classes a pixel, "
                f"{[len(batch), expected, *batch.shape[2:]]}"
            )
        if expected == 1:  # one foreground logit: softmax over (0, z) is its sigmoid
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return logits

    def _grid(self, size: tuple[int, int]) -> tuple[list[Span], list[Span]]:
        rule, spec = self.rule, self.card.input
        window, grid = rule.window, spec.stride
        fits = spec.max_size is None or max(size) <= spec.max_size
        if (
            window is None
            or rule.resolution == size
            or (fits and self._limit > 1 and size[0] * size[1] <= self._limit * window**2)
        ):
            rows, columns = (spans(n, n, n) for n in size)
        else:
            rows, columns = (spans(n, window, rule.stride, rule.blend, grid) for n in size)
        return rows, columns

    def _fitted(self, rule: ClassProtocol) -> ClassProtocol:
        """The protocol with a window that the network can take."""
        spec = self.card.input
        if rule.window is None:
            return rule
        window, stride, grid = rule.window, rule.stride, spec.stride
        most = spec.max_size // grid * grid if spec.max_size is not None else None
        if rule.blend == "ramp":
            window = max(-(-window // grid) * grid, -(-spec.min_size // grid) * grid)
        if most is not None and window > most:
            window, stride = most, max(1, stride * most // window)
        if rule.blend == "ramp":
            stride = max(stride // grid * grid, grid)
        if (window, stride) == (rule.window, rule.stride):
            return rule
        return rule.replace(window=window, stride=stride)


def softmax(logits: np.ndarray) -> np.ndarray:
    """[K, h, w] -> probabilities over K, float32. Log-probabilities give their exponentials."""
    out = np.subtract(logits, logits.max(axis=0), dtype=np.float32)
    np.exp(out, out=out)
    out /= out.sum(axis=0)
    return out


def _scaled(window: np.ndarray, scale: float, spec: InputSpec) -> np.ndarray:
    """The network's input [C, h', w'] for a window of counts at a scale; resized as counts, as training resizes."""
    if scale != 1.0:
        size = tuple(max(1, round(side * scale)) for side in window.shape[:2])
        window = resize(window, (size[0], size[1]), "bilinear")
    return network_input(window, spec)


def _zeros(batch: np.ndarray, stride: int, min_size: int) -> np.ndarray:
    """[B, C, H, W] with zeros at the right and bottom, up to multiples of ``stride`` and at least ``min_size`` px."""
    more = [max(-(-side // stride) * stride, -(-min_size // stride) * stride) - side for side in batch.shape[2:]]
    return np.pad(batch, ((0, 0), (0, 0), (0, more[0]), (0, more[1]))) if any(more) else batch


def _pixels(image: Image | Pixels) -> Pixels:
    return image.pixels if isinstance(image, Image) else image


def _size(image: Image | Pixels) -> tuple[int, int]:
    height, width = _pixels(image).shape[:2]
    return int(height), int(width)


def _is_plain(pixels: Pixels, spec: InputSpec) -> bool:
    chosen = spec.scaling if pixels.dtype in (np.uint8, np.bool_) else spec.scaling_deep
    return chosen.method in ("range", "bits", "fixed")


def _check_channels(pixels: Pixels, spec: InputSpec, path: Path | None) -> None:
    """Before anything runs, and with the file's name: windows do not know it."""
    found = pixels.shape[2] if len(pixels.shape) == 3 else 1
    if found in (1, spec.channels) or (found == 3 and spec.channels == 1):
        return
    raise ImageError(
        f"{path or 'image'}: has {found} channels, the network takes {spec.channels}",
        "write the bands that it was trained on into a file of their own",
    )
