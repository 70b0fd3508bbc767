"""The objects of synthetic aerial scenes: how each class looks, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Kind:
    """How the objects of a class look.

    Attributes:
        shape: a key of `SHAPES`.
        length: (shortest, longest) px.
        aspect: width over length.
        colours: (R, G, B) to choose from.
        place: "land", "water", "road" or "any".
        share: how often it is drawn, relative to the others.
    """

    shape: str
    length: tuple[float, float]
    aspect: float
    colours: tuple[tuple[int, int, int], ...]
    place: str = "land"
    share: float = 1.0


WHITE, RED, BLUE, DARK = (235, 235, 238), (178, 48, 42), (52, 84, 168), (52, 54, 60)

KINDS: dict[str, Kind] = {
    "ship": Kind("hull", (7, 26), 0.3, (WHITE, (208, 190, 150), (150, 74, 60)), "water", 3),
    "storage_tank": Kind("disc", (8, 22), 1.0, ((226, 224, 214), (204, 210, 214))),
    "baseball_diamond": Kind("diamond", (28, 50), 1.0, ((172, 118, 74),), share=0.4),
    "tennis_court": Kind("court", (20, 30), 0.5, ((44, 94, 142),), share=0.6),
    "basketball_court": Kind("court", (18, 26), 0.55, ((166, 88, 64),), share=0.6),
    "Ground_Track_Field": Kind("track", (60, 100), 0.55, ((160, 70, 58),), share=0.25),
    "Bridge": Kind("box", (40, 80), 0.16, ((168, 164, 158),), "water", 0.5),
    "Large_Vehicle": Kind("truck", (11, 18), 0.3, (WHITE, (196, 170, 60), (96, 120, 150)), "road", 3),
    "Small_Vehicle": Kind("car", (5, 8), 0.5, (WHITE, RED, BLUE, DARK, (150, 154, 158)), "road", 8),
    "Helicopter": Kind("helicopter", (14, 24), 0.9, ((70, 84, 66), DARK), share=0.6),
    "Swimming_pool": Kind("ellipse", (7, 16), 0.6, ((72, 190, 216),), share=1.2),
    "Roundabout": Kind("ring", (24, 40), 1.0, ((118, 118, 120),), share=0.5),
    "Soccer_ball_field": Kind("field", (50, 80), 0.62, ((84, 158, 66),), share=0.3),
    "plane": Kind("plane", (14, 34), 0.9, (WHITE, (206, 212, 220)), share=2),
    "Harbor": Kind("comb", (30, 60), 0.5, ((150, 140, 126),), "water", 0.8),
    "ice": Kind("blob", (16, 90), 0.7, ((226, 234, 240), (206, 220, 230)), "water"),
    "farm": Kind("grid", (20, 56), 0.7, ((206, 206, 206),), "water"),
    "building": Kind("roof", (24, 60), 0.7, ((164, 92, 76), (150, 150, 156), (190, 176, 160)), share=2),
    "tree": Kind("blob", (8, 26), 0.9, ((42, 84, 44), (54, 98, 50)), share=4),
    "car": Kind("car", (6, 10), 0.5, (WHITE, RED, BLUE, DARK), "road", 6),
    "clutter": Kind("blob", (10, 24), 0.6, ((120, 96, 130),), share=0.6),
}
GRASS, SOIL, WATER, ROAD = (98, 118, 72), (142, 126, 98), (44, 74, 92), (112, 112, 114)


@dataclass
class Canvas:
    """What is drawn: ``rgb`` [H, W, 3] float32 and ``ids`` [H, W] uint8; where water and road are; the ground's id."""

    rgb: np.ndarray
    ids: np.ndarray
    water: np.ndarray
    road: np.ndarray
    ground: int
    rng: np.random.Generator


@dataclass
class Brush:
    """Draws one object: local x along its length, y across, in halves of its length and width."""

    canvas: Canvas
    id: int
    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float
    colour: np.ndarray

    def polygon(self, points: Points, shade: float = 1.0, colour: Sequence[int] | None = None) -> None:
        """Fills a polygon (in halves) in the object's colour times ``shade``, or in ``colour``."""
        import cv2

        local = np.asarray(points, float) * self.half
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned = local @ np.array([[c, s], [-s, c]]) + self.centre
        # Four binary digits of a pixel: a car of five pixels is not always the same five.
        height, width = self.canvas.ids.shape
        left, top = np.clip(np.floor(turned.min(axis=0)).astype(int) - 1, 0, (width - 1, height - 1))
        right, bottom = np.clip(np.ceil(turned.max(axis=0)).astype(int) + 2, 1, (width, height))
        window = np.s_[top:bottom, left:right]
        mask = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
        if mask.size:
            cv2.fillPoly(mask, np.rint((turned - (left, top)) * 16).astype(np.int32)[None], 1, shift=4)
            where = mask > 0
            self.canvas.rgb[window][where] = np.asarray(self.colour * shade if colour is None else colour, np.float32)
            self.canvas.ids[window][where] = self.id

    def ellipse(self, scale: float = 1.0, shade: float = 1.0, colour: Sequence[int] | None = None) -> None:
        """Fills an ellipse of ``scale`` times the object's halves."""
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        self.polygon([(scale * np.cos(t), scale * np.sin(t)) for t in turn], shade, colour)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, shade: float = 1.0, **colour: Sequence[int]
    ) -> None:
        """Fills a rectangle given in halves."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], shade, **colour)


def _box(b: Brush) -> None:
    b.rectangle(-1, -1, 1, 1)


def _car(b: Brush) -> None:
    b.rectangle(-1, -1, 1, 1)
    b.rectangle(-0.2, -0.8, 0.4, 0.8, 0.6)


def _truck(b: Brush) -> None:
    b.rectangle(-1, -1, 1, 1)
    b.rectangle(0.65, -1, 1, 1, 0.7)


def _hull(b: Brush) -> None:
    b.polygon([(-1, -0.8), (0.4, -1), (1, 0), (0.4, 1), (-1, 0.8)])
    b.rectangle(-0.7, -0.5, -0.2, 0.5, 0.75)


def _disc(b: Brush) -> None:
    b.ellipse()
    b.ellipse(0.75, 1.06)


def _ellipse(b: Brush) -> None:
    b.ellipse()


def _diamond(b: Brush) -> None:
    turn = np.linspace(-np.pi / 4, np.pi / 4, 16)
    b.polygon([(-1, 0), *((2 * np.cos(t) - 1, 1.4 * np.sin(t)) for t in turn)])
    b.polygon([(-0.5, 0), (0, -0.4), (0.5, 0), (0, 0.4)], colour=GRASS)


def _court(b: Brush) -> None:
    b.rectangle(-1, -1, 1, 1)
    b.rectangle(-0.8, -0.75, 0.8, 0.75, colour=WHITE)
    b.rectangle(-0.72, -0.62, 0.72, 0.62, 1.1)


def _field(b: Brush) -> None:
    for n in range(8):
        b.rectangle(-1 + n / 4, -1, -0.75 + n / 4, 1, 0.94 if n % 2 else 1.06)
    b.rectangle(-0.02, -1, 0.02, 1, colour=WHITE)


def _track(b: Brush) -> None:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 16)
    for size, colour in ((1.0, None), (0.75, (92, 140, 70))):
        ends = [(0.5 + 0.5 * size * np.cos(t), size * np.sin(t)) for t in turn]
        b.polygon([*ends, *((-x, -y) for x, y in ends)], colour=colour)


def _helicopter(b: Brush) -> None:
    b.rectangle(-1, -0.08, 0.2, 0.08)
    b.polygon([(-0.1, -0.3), (0.7, -0.25), (1, 0), (0.7, 0.25), (-0.1, 0.3)])
    for sign in (-1, 1):
        b.polygon([(-0.35, -0.85 * sign), (-0.2, -0.95 * sign), (0.9, 0.85 * sign), (0.75, 0.95 * sign)], 0.7)


def _ring(b: Brush) -> None:
    b.ellipse()
    b.ellipse(0.5, colour=(88, 132, 70))


def _plane(b: Brush) -> None:
    b.polygon([(0.3, -0.08), (-0.3, -1), (-0.55, -1), (-0.2, 0), (-0.55, 1), (-0.3, 1), (0.3, 0.08)], 0.94)
    b.polygon([(-0.8, 0), (-1, -0.4), (-0.85, -0.4), (-0.6, 0), (-0.85, 0.4), (-1, 0.4)], 0.94)
    b.polygon([(-1, -0.08), (0.75, -0.12), (1, 0), (0.75, 0.12), (-1, 0.08)])


def _comb(b: Brush) -> None:
    b.rectangle(-1, -1, 1, -0.7)
    for n in range(4):
        b.rectangle(-0.95 + n * 0.6, -0.7, -0.8 + n * 0.6, 1, 0.95)


def _grid(b: Brush) -> None:
    for x in range(4):
        for y in range(3):
            b.rectangle(-1 + x / 2, -1 + 2 * y / 3, -0.62 + x / 2, -0.5 + 2 * y / 3, 0.85 + 0.1 * ((x + y) % 3))


def _roof(b: Brush) -> None:
    b.rectangle(-1, -1, 1, 0, 1.08)
    b.rectangle(-1, 0, 1, 1, 0.88)


def _blob(b: Brush) -> None:
    rng = b.canvas.rng
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = 0.8 + 0.2 * np.sin(3 * turn + rng.uniform(0, 6)) * rng.random() + 0.1 * np.sin(7 * turn)
    b.polygon([(r * np.cos(t), r * np.sin(t)) for r, t in zip(radius, turn, strict=True)])


SHAPES: dict[str, Callable[[Brush], None]] = {
    f.__name__.removeprefix("_"): f
    for f in (
        _box, _car, _truck, _hull, _disc, _ellipse, _diamond, _court, _field, _track, _helicopter, _ring, _plane, _comb,
        _grid, _roof, _blob,
    )
}  # fmt: skip
