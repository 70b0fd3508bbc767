"""Targets of synthetic frames: their shape behind the optics, where they go, and what can be measured of them.

Definitions, used everywhere in this room:

- Position: pixel centres have integer coordinates; ``x`` counts columns, ``y`` rows. Positions are sub-pixel.
- Amplitude: what a target adds to its brightest pixel, in counts (grey levels where ``bits`` is 8).
- SNR: amplitude / sqrt(temporal noise variance at the background's level there + step^2 / 12), where ``step`` is the
  quantisation step. Neither clutter nor fixed pattern counts as noise here.
- SCR: (brightest target pixel - local mean) / local standard deviation in the finished frame; local = a rectangle that
  reaches ``LOCAL`` px beyond the target's mask, without the pixels to which any target adds more than 2 % of its
  amplitude, and without stuck pixels. Noise, fixed pattern and clutter all count.
- Mask: pixels to which the target adds more than ``mask_fraction`` of its amplitude, at least the brightest one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

LOCAL = 10
"""Reach of the local background beyond a target, in px."""


@dataclass(frozen=True)
class Target:
    """One target, true values.

    Args:
        x, y: centre of its energy, px, sub-pixel.
        amplitude: what it adds to its brightest pixel, counts.
        snr, scr: see the module.
        sigma: standard deviation of the point-spread function, px.
        extent: length of the body before the optics, px; 0 for a point.
        area: pixels of its mask.
        box: x1, y1, x2, y2 of its mask, px, half-open.
        kind: "point", "disc", "cross" or "pair" ("square" in ``noise_scene``).
    """

    x: float
    y: float
    amplitude: float
    snr: float
    scr: float
    sigma: float
    extent: float = 0.0
    area: int = 0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    kind: str = "point"


@dataclass(frozen=True)
class Scene:
    """A frame and everything that is known about it.

    Args:
        pixels: [H, W], uint8 for 8 bits, else uint16 in sensor counts.
        mask: bool [H, W], the targets.
        targets: in the order they were placed; no two masks touch.
        sky: bool [H, W], True where the background is sky.
        kind: which background was drawn ("mixed" is resolved).
        bits: 8, 14 or 16.
        noise: temporal noise of the frame in counts (root mean square over pixels, without quantisation).
        stuck: int [N, 2], x and y of dead and hot pixels.
    """

    pixels: np.ndarray
    mask: np.ndarray
    targets: list[Target]
    sky: np.ndarray
    kind: str
    bits: int
    noise: float
    stuck: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))


@dataclass(frozen=True)
class Body:
    """A target in its window: ``signal`` float32 [h, w] counts, ``mask`` bool [h, w], ``window`` a pair of slices."""

    x: float
    y: float
    window: tuple[slice, slice]
    signal: np.ndarray
    mask: np.ndarray
    snr: float
    extent: float
    kind: str


@dataclass(frozen=True)
class Wish:
    snr: tuple[float, float]
    scr: tuple[float, float] | None
    min_scr: float
    extended: float
    size: tuple[float, float]
    mask_fraction: float


@dataclass
class Site:
    """Where targets are to go.

    Args:
        frame: counts with noise and fixed pattern, without targets, [H, W].
        noise: temporal noise with quantisation, counts, [H, W].
        ceiling: the largest count that is not clipped.
        sky: bool [H, W].
        stuck: [N, 2] x, y px.
    """

    frame: np.ndarray
    noise: np.ndarray
    ceiling: float
    sky: np.ndarray
    stuck: np.ndarray

    def __post_init__(self) -> None:
        self.own = np.zeros(self.frame.shape, bool)  # scratch: the pixels of the target that is being tried


def place_targets(site: Site, count: int, sigma: float, wish: Wish, rng: np.random.Generator) -> list[Body]:
    """Draw shapes, then positions where they are visible, apart from each other and from the border.

    Args:
        sigma: standard deviation of the optics, px.

    Returns:
        At most ``count``: what does not fit within ``_TRIES`` positions is left out. Where a target would be clipped at
        every position tried, it is made just bright enough to reach full scale.
    """
    height, width = site.frame.shape
    taken = np.zeros((height, width), bool)
    taken[site.stuck[:, 1], site.stuck[:, 0]] = True
    bodies: list[Body] = []
    for _ in range(count):
        kind, points, extent = _shape(rng, wish, sigma)
        strength = rng.uniform(*(wish.scr or wish.snr))
        anywhere = rng.random() < 0.25  # else in the sky, where there is one
        reach = math.ceil(extent / 2 + 4 * sigma + 1)
        margin = min(math.ceil(extent / 2 + 2 * sigma) + 2, min(height, width) // 2 - 1)
        best: tuple[float, Body] | None = None
        for _ in range(_TRIES):
            x, y = rng.uniform(margin, width - 1 - margin), rng.uniform(margin, height - 1 - margin)
            if taken[_around(x, y, reach + 2, taken)].any():
                continue
            window = _around(x, y, reach, taken)
            shape = integrate(points + np.array([x, y]), sigma, window)
            shape /= shape.max()
            mask = shape > min(wish.mask_fraction, 0.999)
            amplitude, noise, score = _strength(site, window, shape, mask, strength, wish, anywhere)
            if amplitude > 0 and (best is None or score > best[0]):
                signal = shape * np.float32(amplitude)
                best = score, Body(x, y, window, signal, mask, amplitude / noise, extent, kind)
                if score >= wish.min_scr:
                    break
        if best is not None:
            bodies.append(best[1])
            taken[best[1].window] = True
    return bodies


_TRIES = 40
_FAINT = 0.02


def _strength(
    site: Site,
    window: tuple[slice, slice],
    shape: np.ndarray,
    mask: np.ndarray,
    strength: float,
    wish: Wish,
    anywhere: bool,
) -> tuple[float, float, float]:
    """Amplitude and noise in counts, and how good the place is: its SCR, less where it is clipped or not in the sky."""
    row, column = np.unravel_index(int(shape.argmax()), shape.shape)
    peak = window[0].start + int(row), window[1].start + int(column)
    around = _local(_box(window, mask))
    site.own[window] = shape > _FAINT
    local = site.frame[around][~site.own[around]]
    site.own[window] = False
    mean, spread = float(local.mean()), max(float(local.std()), 1e-6)
    level, noise = float(site.frame[peak]), float(site.noise[peak])
    amplitude = strength * spread + mean - level if wish.scr else strength * noise
    clipped = amplitude > site.ceiling - level
    amplitude = min(amplitude, 1.05 * (site.ceiling - level))
    score = (level + amplitude - mean) / spread - 1e6 * clipped
    if not (anywhere or site.sky[peak]):
        score -= 1e3
    return amplitude, noise, score


def _box(window: tuple[slice, slice], mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a mask in its window, half-open, px of the frame."""
    rows, columns = np.nonzero(mask)
    top, left = window[0].start, window[1].start
    return left + int(columns.min()), top + int(rows.min()), left + int(columns.max()) + 1, top + int(rows.max()) + 1


def _local(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    """The rectangle of the local background of a target."""
    x1, y1, x2, y2 = box
    return slice(max(y1 - LOCAL, 0), y2 + LOCAL), slice(max(x1 - LOCAL, 0), x2 + LOCAL)


def _around(x: float, y: float, reach: int, frame: np.ndarray) -> tuple[slice, slice]:
    """The square of ``2 * reach + 1`` px around a position, cut at the border."""
    row, column = round(y), round(x)
    return (
        slice(max(row - reach, 0), min(row + reach + 1, frame.shape[0])),
        slice(max(column - reach, 0), min(column + reach + 1, frame.shape[1])),
    )


def integrate(points: np.ndarray, sigma: float, window: tuple[slice, slice]) -> np.ndarray:
    """Image of equally bright points behind Gaussian optics, integrated over square pixels (differences of erf).

    Args:
        points: [N, 2], x and y px. sigma: px. window: rows and columns to compute.

    Returns:
        float32 [h, w]; over an infinite window the sum is 1.
    """
    erf = np.frompyfunc(math.erf, 1, 1)

    def share(centres: np.ndarray, span: slice) -> np.ndarray:  # [N, n]: the part of each point in each pixel
        edges = np.arange(span.start, span.stop + 1) - 0.5
        return np.diff(erf((edges[None] - centres[:, None]) / (sigma * math.sqrt(2))).astype(np.float64), axis=1) / 2

    rows, columns = share(points[:, 1], window[0]), share(points[:, 0], window[1])
    return (rows.T @ columns / len(points)).astype(np.float32)


def _shape(rng: np.random.Generator, wish: Wish, sigma: float) -> tuple[str, np.ndarray, float]:
    """Kind, points [N, 2] around their centre (x, y px) and length of a body, dense enough to stay in one piece."""
    if rng.random() >= wish.extended:
        return "point", np.zeros((1, 2)), 0.0
    length = float(rng.uniform(*wish.size))
    angle = rng.uniform(0, math.pi)
    kind = str(rng.choice(["disc", "cross", "pair"], p=[0.5, 0.3, 0.2]))
    if kind == "disc":  # a hull: the points of a sunflower, squeezed
        count = int(np.clip(length**2 / sigma**2, 24, 2000))
        n = np.arange(count)
        radius, turn = np.sqrt((n + 0.5) / count) * length / 2, n * 2.399963
        points = np.stack([radius * np.cos(turn), radius * np.sin(turn) * rng.uniform(0.3, 1.0)], axis=1)
    elif kind == "cross":  # fuselage and wings
        count = int(np.clip(2 * length / sigma, 8, 400))
        along = np.linspace(-0.5, 0.5, count) * length
        wings = np.linspace(-0.5, 0.5, count) * length * rng.uniform(0.4, 1.0)
        points = np.concatenate(
            [np.stack([along, 0 * along], axis=1), np.stack([0 * wings + 0.1 * length, wings], axis=1)]
        )
    else:  # two engines, not told apart
        length = min(length, 2.5 * sigma)
        points = np.array([[-0.5, 0.0], [0.5, 0.0]]) * length
    points -= points.mean(axis=0)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return kind, points @ rotation, length


def measure(pixels: np.ndarray, bodies: list[Body], stuck: np.ndarray, sigma: float, step: float) -> list[Target]:
    """SCR in the finished frame, mask areas and boxes."""
    height, width = pixels.shape
    taken = np.zeros((height, width), bool)
    taken[stuck[:, 1], stuck[:, 0]] = True
    for body in bodies:
        taken[body.window] |= body.signal > _FAINT * body.signal.max()
    found = []
    for body in bodies:
        box = _box(body.window, body.mask)
        around = _local(box)
        local = pixels[around][~taken[around]].astype(np.float64)
        peak = float(pixels[body.window][body.mask].max())
        scr = (peak - local.mean()) / max(local.std(), 1e-6) if local.size else math.nan
        amplitude, area = float(body.signal.max()) / step, int(body.mask.sum())
        found.append(Target(body.x, body.y, amplitude, body.snr, float(scr), sigma, body.extent, area, box, body.kind))
    return found
