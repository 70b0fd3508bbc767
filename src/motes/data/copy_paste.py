"""Targets of other frames pasted into a frame: BAG-CP, background-aware Gaussian copy-paste, and its four siblings.

Xiao et al., "Background Semantics Matter", arXiv 2407.20078 (2024): ``SkyCopyPaste`` and ``CopyPaste`` of its code. The
numbers below are that code's; what no published number depends on is put right: the margin around a patch counts at
row and column 0 too, a window or patch never reaches over the frame, boxes without a whole pixel are left out.

Deciding (`choose_patches`), placing (`Places`), blending (`blend`) and what is left of the frame's own boxes
(`uncovered`) are steps of their own; `paste` does all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motes.errors import DataError
from motes.imaging import resize
from motes.naming import look_up

Pixels = NDArray[Any]
Boxes = NDArray[np.float32]
Place = tuple[int, int, int, int]
"""y, x, height, width of a patch, px."""

WINDOW = 25
"""px: side of the square that a group of patches is put into."""
GROUP = 5
"""Patches that share a window."""
SHRINK, SMALLEST = 3, 7
"""px: where no window is free, a smaller one is looked for; one of ``SMALLEST`` or less is none."""
TRIES = 102
LARGE, SHRUNK = 10, 7
"""px: a target with a side of ``LARGE`` or more is squeezed to a square of ``SHRUNK``."""
MOST = 99
"""Patches that one paste may draw, as published."""
MOVED, LEFT = 10, 300
"""A box of the frame that patches cover in part is kept if no side moved by more than ``MOVED`` px, or if more than
``LEFT`` px of it are left."""
WEIGHT, SIGMA, CENTRE, TURN = (0.5, 1.0), (0.3, 0.6), (-0.2, 0.0), (-90, 90)
"""Between what lambda, both standard deviations, both coordinates of the centre, and the angle (whole degrees) are
drawn; lengths in units of half a patch."""


@dataclass(frozen=True)
class Mode:
    """``sky``: only into the sky; ``gaussian``: faded out by a Gaussian, else as cut out; ``clusters``: in groups."""

    sky: bool
    gaussian: bool
    clusters: bool


MODES = {
    "sky": Mode(sky=True, gaussian=True, clusters=True),
    "plain": Mode(sky=False, gaussian=False, clusters=False),
    "plain_clusters": Mode(sky=False, gaussian=False, clusters=True),
    "gaussian": Mode(sky=False, gaussian=True, clusters=False),
    "gaussian_clusters": Mode(sky=False, gaussian=True, clusters=True),
}
"""``sky`` is BAG-CP; the others are modes 1 to 4 of the code's ``CopyPaste``."""


@dataclass(frozen=True)
class Patch:
    """A target cut out of its frame: pixels [h, w, C], its pixels' mask [h, w] bool, its class."""

    pixels: Pixels
    mask: NDArray[np.bool_]
    label: int = 0


@dataclass(frozen=True)
class Pasted:
    """A frame after a paste.

    Attributes:
        pixels: [H, W, C] of the frame's dtype.
        boxes: [N, 4] float32 xyxy px, half-open; whole numbers where anything was pasted.
        labels: [N] int64.
        mask: [H, W] bool, the targets' pixels.
        places: where the patches went; the last ``len(places)`` boxes, in order.
        windows: (y, x, side) of the windows that groups were put into.
        weights: [h, w] of each patch, lambda times its Gaussian; 1 in plain modes.
    """

    pixels: Pixels
    boxes: Boxes
    labels: NDArray[np.int64]
    mask: NDArray[np.bool_]
    places: tuple[Place, ...] = ()
    windows: tuple[tuple[int, int, int], ...] = ()
    weights: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)


def paste(
    pixels: Pixels,
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    mask: NDArray[np.bool_],
    patches: Sequence[Patch],
    rng: np.random.Generator,
    mode: str = "sky",
    sky: NDArray[np.bool_] | None = None,
) -> Pasted:
    """The frame with the patches added at places drawn by ``rng``; as it was where there are none, or no sky.

    Args:
        pixels: [H, W, C]; integers are counts, floats near [0, 1].
        boxes: [N, 4] xyxy px, half-open.
        labels: [N].
        mask: [H, W], pixels of the frame's targets, which patches keep away from.
        patches: what is pasted, in this order.
        rng: decides everything.
        mode: one of `MODES`.
        sky: [H, W], where patches may go in mode ``sky``.

    Raises:
        DataError: an unknown mode, or mode ``sky`` without a sky map.
    """
    how = MODES[look_up("mode of copy-paste", mode, MODES, DataError)]
    if how.sky and sky is None:
        raise DataError("copy-paste into the sky needs a sky map", "modes gaussian and plain need none")
    allowed = sky if how.sky and sky is not None else np.ones(mask.shape, bool)
    own, classes = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64)
    patches = [p for p in patches if p.mask.shape[0] <= mask.shape[0] and p.mask.shape[1] <= mask.shape[1]]
    if not patches or not allowed.any():
        return Pasted(pixels, own, classes, mask)
    search = Places(allowed, mask, rng, how.clusters)
    places = tuple(search.next(*p.mask.shape) for p in patches)
    pixels, mask, weights = pixels.copy(), mask.copy(), []
    covered = np.zeros(mask.shape, bool)
    for (y, x, h, w), patch in zip(places, patches, strict=True):
        at = slice(y, y + h), slice(x, x + w)
        weight = rng.uniform(*WEIGHT) * draw_gaussian(h, w, rng) if how.gaussian else np.ones((h, w))
        pixels[at] = blend(pixels[at], patch.pixels, weight) if how.gaussian else _as_bands(patch.pixels, pixels)
        mask[at] = (mask[at] & covered[at]) | patch.mask  # of two patches at one place, both were marked
        covered[at] = True
        weights.append(weight)
    left, kept = uncovered(own, covered)
    new = np.array([(x, y, x + w, y + h) for y, x, h, w in places], np.float32)
    return Pasted(
        pixels,
        np.concatenate([left, new]),
        np.concatenate([classes[kept], np.array([p.label for p in patches], np.int64)]),
        mask,
        places,
        tuple(search.windows),
        tuple(weights),
    )


def cut_patches(
    pixels: Pixels, boxes: NDArray[np.floating], labels: NDArray[np.integer], mask: NDArray[np.bool_] | None = None
) -> list[Patch]:
    """What is in the boxes of a frame: whole pixels of them, large targets squeezed to 7x7 px.

    ``mask`` [H, W] says which pixels are the targets'; without it, or where it is empty, all of a box are.
    """
    patches = []
    for (x1, y1, x2, y2), label in zip(np.asarray(boxes).astype(int).tolist(), labels, strict=True):
        x1, y1 = max(x1, 0), max(y1, 0)
        cut = pixels[y1:y2, x1:x2]
        if not cut.size:
            continue
        inside = np.ones(cut.shape[:2], bool) if mask is None else mask[y1:y2, x1:x2]
        if max(cut.shape[:2]) >= LARGE:
            size = (SHRUNK, SHRUNK)
            cut, inside = resize(cut, size, "bilinear"), resize(inside, size, "nearest")
        patches.append(Patch(cut.copy(), inside.copy() if inside.any() else np.ones(inside.shape, bool), int(label)))
    return patches


def choose_patches(patches: Sequence[Patch], rng: np.random.Generator, at_most: int = MOST) -> list[Patch]:
    """Any number of them from 0 on, each number as likely, at most ``at_most``; none twice."""
    count = int(rng.integers(min(len(patches), at_most) + 1))
    return [patches[i] for i in rng.permutation(len(patches))[:count]]


class Places:
    """Where patches go, one after the other: onto allowed pixels, apart from targets where there is room.

    Args:
        allowed: [H, W], at least one true.
        occupied: [H, W], targets.
        rng: decides.
        clusters: every ``GROUP`` patches share a window.
    """

    def __init__(
        self, allowed: NDArray[np.bool_], occupied: NDArray[np.bool_], rng: np.random.Generator, clusters: bool
    ) -> None:
        self.allowed, self.occupied, self.rng, self.clusters = allowed, occupied.copy(), rng, clusters
        self.corners = np.flatnonzero(allowed)
        self.side, self.count = WINDOW, 0
        self.window: tuple[int, int, int] | None = None
        self.windows: list[tuple[int, int, int]] = []

    def next(self, height: int, width: int) -> Place:
        """The place of the next patch, which is occupied from then on; an allowed one if 102 tries find one."""
        if self.clusters and self.count % GROUP == 0:
            self.window = self.new_window()
            self.windows += [self.window] if self.window else []
        self.count += 1
        y, x = self.in_window(height, width) or self.anywhere(height, width)
        self.occupied[y : y + height, x : x + width] = True
        return y, x, height, width

    def new_window(self) -> tuple[int, int, int] | None:
        """(y, x, side) of a square of allowed pixels without a target; a smaller one stays for later groups."""
        while self.side > SMALLEST:
            for _ in range(TRIES):
                y, x = self.corner(self.side, self.side)
                at = slice(y, y + self.side), slice(x, x + self.side)
                whole = self.allowed[at].shape == (self.side, self.side)
                if whole and self.allowed[at].all() and not self.occupied[at].any():
                    return y, x, self.side
            self.side -= SHRINK
        self.side = WINDOW
        return None

    def in_window(self, height: int, width: int) -> tuple[int, int] | None:
        if self.window is None:
            return None
        top, left, side = self.window
        for _ in range(TRIES):
            y = top + int(self.rng.integers(max(side - height, 0) + 1))
            x = left + int(self.rng.integers(max(side - width, 0) + 1))
            if self.free(y, x, height, width):
                return y, x
        return None

    def anywhere(self, height: int, width: int) -> tuple[int, int]:
        y, x = 0, 0
        for _ in range(TRIES):
            y, x = self.corner(height, width)
            if self.free(y, x, height, width):
                break
        return y, x

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """An allowed pixel as the upper left corner, moved so that what hangs on it fits into the frame."""
        y, x = divmod(int(self.corners[self.rng.integers(len(self.corners))]), self.allowed.shape[1])
        return max(min(y, self.allowed.shape[0] - height), 0), max(min(x, self.allowed.shape[1] - width), 0)

    def free(self, y: int, x: int, height: int, width: int) -> bool:
        """Whether a patch lies on allowed pixels of the frame, and no target in it or beside it."""
        at = self.allowed[y : y + height, x : x + width]
        around = self.occupied[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1]
        return at.shape == (height, width) and bool(at.all()) and not around.any()


def gaussian(
    height: int, width: int, sigma_x: float, sigma_y: float, centre_x: float, centre_y: float, degrees: float
) -> NDArray[np.float64]:
    """[h, w] Gaussian over x (columns) and y in [-1, 1], turned by ``degrees``, from 0 at its lowest to 1.

    One pixel alone, which has no lowest, is 1.
    """
    dx = np.linspace(-1, 1, width)[None, :] - centre_x
    dy = np.linspace(-1, 1, height)[:, None] - centre_y
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    x, y = c * dx - s * dy, s * dx + c * dy
    values = np.exp(-(x**2 / (2 * sigma_x**2) + y**2 / (2 * sigma_y**2)))
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low)) if high > low else np.ones((height, width))


def draw_gaussian(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A `gaussian` with standard deviations, centre and angle drawn as published."""
    sigma_x, sigma_y = rng.uniform(*SIGMA, 2)
    centre_x, centre_y = rng.uniform(*CENTRE, 2)
    return gaussian(height, width, sigma_x, sigma_y, centre_x, centre_y, int(rng.integers(*TURN)))


def blend(pixels: Pixels, patch: Pixels, weight: NDArray[np.float64]) -> Pixels:
    """``pixels`` [h, w, C] + ``weight`` [h, w] * ``patch``, limited to the dtype's range (floats: 1), cut off to it."""
    total = pixels.astype(np.float64) + weight[..., None] * _as_bands(patch, pixels)
    if pixels.dtype.kind == "f":
        return np.minimum(total, np.maximum(pixels, 1.0)).astype(pixels.dtype)
    return np.minimum(total, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def uncovered(boxes: Boxes, covered: NDArray[np.bool_]) -> tuple[Boxes, NDArray[np.bool_]]:
    """What patches leave of a frame's boxes: ([M, 4] around the whole pixels that are not covered, which are kept [N]).

    A box keeps one pixel at least while nothing covers it.
    """
    found, kept = [], np.zeros(len(boxes), bool)
    height, width = covered.shape
    for i, box in enumerate(boxes):
        x1, y1, x2, y2 = box.astype(int).tolist()
        x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        free = ~covered[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        rows, columns = np.flatnonzero(free.any(axis=1)), np.flatnonzero(free.any(axis=0))
        if not len(rows):
            continue
        new = np.array([x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1], np.float32)
        kept[i] = bool(np.abs(new - box).max() <= MOVED) or int(free.sum()) > LEFT
        if kept[i]:
            found.append(new)
    return np.array(found, np.float32).reshape(-1, 4), kept


def _as_bands(patch: Pixels, pixels: Pixels) -> Pixels:
    """A grey patch for a frame of several bands, or the reverse; counts keep their share of the dtype's range."""
    bands, kind = pixels.shape[2], pixels.dtype
    if patch.shape[2] != bands:
        patch = np.repeat(patch.mean(axis=2, keepdims=True), bands, axis=2).astype(patch.dtype)
    if patch.dtype == kind:
        return patch
    return (patch * (_top(kind) / _top(patch.dtype))).astype(kind)


def _top(kind: np.dtype[Any]) -> float:
    return 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)
