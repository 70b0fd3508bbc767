"""What stands up against the sky of synthetic infrared scenes: trees, buildings, cranes, power lines, lamps.

Everything is drawn into two fields of the frame's size: ``opaque`` uint8 [H, W], 255 where the sky is hidden, and
``kelvin`` float32 [H, W], the temperature of what hides it. Coordinates are px, ``foot`` the row that things stand on.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from motes.data.skies import AIR, fractal


def draw_trees(opaque: np.ndarray, horizon: np.ndarray, rng: np.random.Generator) -> None:
    """A ragged line of crowns on the horizon, and now and then a near tree."""
    height, width = opaque.shape
    crowns = fractal(8, width, rng, 1.7)[3] * 0.6 + fractal(8, width, rng, 3.0)[3]
    top = horizon - np.maximum(height * rng.uniform(0.01, 0.07) * (1 + 0.6 * crowns), 0)
    row = np.arange(height, dtype=np.float32)[:, None]
    line = np.clip(row - top[None] + 0.5, 0, 1) * np.clip(horizon[None] + 2 - row, 0, 1)
    np.maximum(opaque, (line * 255).astype(np.uint8), out=opaque)
    for _ in range(int(rng.integers(0, 3))):
        x = rng.uniform(0, width)
        _draw_tree(opaque, x, float(horizon[min(int(x), width - 1)]), height * rng.uniform(0.12, 0.35), rng)


def _draw_tree(opaque: np.ndarray, x: float, foot: float, tall: float, rng: np.random.Generator) -> None:
    height, width = opaque.shape
    top, bottom = max(int(foot - 1.3 * tall), 0), min(int(foot + 0.1 * tall), height)
    left, right = max(int(x - 0.5 * tall), 0), min(int(x + 0.5 * tall) + 1, width)
    if bottom - top < 2 or right - left < 2:
        return
    leaves = fractal(bottom - top, right - left, rng, 2.2)
    row = (np.arange(top, bottom, dtype=np.float32)[:, None] - (foot - 0.6 * tall)) / (0.42 * tall)
    column = (np.arange(left, right, dtype=np.float32)[None] - x) / (0.3 * tall)
    crown = np.clip((1.0 - row**2 - column**2 + 0.6 * leaves) * 4, 0, 1)
    trunk = (np.abs(column) < 0.08) & (row > 0) & (row < 1.45)
    part = opaque[top:bottom, left:right]
    np.maximum(part, (np.maximum(crown, trunk) * 255).astype(np.uint8), out=part)


def draw_buildings(opaque: np.ndarray, kelvin: np.ndarray, horizon: np.ndarray, rng: np.random.Generator) -> None:
    """Blocks with rows of windows; some carry a mast or a warm chimney."""
    height, width = opaque.shape
    for _ in range(int(rng.integers(1, 5))):
        left = int(rng.uniform(-0.05, 0.95) * width)
        right = left + max(int(width * rng.uniform(0.04, 0.2)), 3)
        foot = int(horizon[min(max(left, 0), width - 1)]) + 3
        roof = foot - max(int(height * rng.uniform(0.04, 0.22)), 3)
        wall = AIR + rng.uniform(-4, 4)
        cv2.rectangle(opaque, (left, roof), (right, foot), 255, -1)
        cv2.rectangle(kelvin, (left, roof), (right, foot), wall, -1)
        pitch = max(round(height * rng.uniform(0.015, 0.03)), 3)
        facade = kelvin[max(roof + pitch, 0) : foot - 1, max(left + pitch, 0) : max(right - 1, 0)]
        lit = [np.arange(n) % pitch < (pitch + 1) // 2 for n in facade.shape]
        facade[np.logical_and.outer(*lit)] = wall + rng.uniform(-1.5, 1.5)
        if rng.random() < 0.4:
            x = int(rng.uniform(left, right))
            thick = 1 if rng.random() < 0.6 else max(width // 80, 2)
            tip = (x, roof - int(height * rng.uniform(0.05, 0.2)))
            warm = 0 if thick == 1 else rng.uniform(0, 4)
            cv2.rectangle(opaque, (x, roof), (tip[0] + thick - 1, tip[1]), 255, -1)
            cv2.rectangle(kelvin, (x, roof), (tip[0] + thick - 1, tip[1]), wall + warm, -1)


def draw_blocks(
    opaque: np.ndarray, kelvin: np.ndarray, foot: float, tall: float, haze: float, rng: np.random.Generator
) -> None:
    """City blocks across the frame, up to ``tall`` px high: walls in sun or shade, windows, and what roofs carry.

    ``haze`` from 0 to 1 takes their contrast away, as distance does.
    """
    height, width = opaque.shape
    pitch = float(np.exp(rng.uniform(np.log(2.5), np.log(14)))) * (1 - 0.6 * haze)  # px from storey to storey
    right = -rng.uniform(0, 0.1) * width
    while right < width:
        left = int(right + (rng.uniform(0, 0.05) * width if rng.random() < 0.4 else 0))
        right = left + max(width * rng.uniform(0.03, 0.18), 3)
        roof = int(foot - max(tall * rng.uniform(0.25, 1), 3))
        area = slice(max(roof, 0), height), slice(max(left, 0), max(int(right), 0))
        wall = AIR + rng.normal(0, 2.5) * (1 - 0.7 * haze)
        opaque[area] = 255
        part = kelvin[area]
        part[:] = wall + 0.3 * (1 - haze) * (part - AIR)
        if rng.random() < 0.8 and part.size:
            _draw_windows(part, pitch * rng.uniform(0.8, 1.3), 1 - 0.8 * haze, rng)
        for _ in range(int(rng.poisson(1.5))):
            _draw_on_roof(opaque, kelvin, int(rng.uniform(left, right)), roof, wall, rng)


def _draw_windows(wall: np.ndarray, pitch: float, contrast: float, rng: np.random.Generator) -> None:
    """A grid of windows, or bands, all a little different and a few lit; into the pixels of one wall."""
    rows, columns = (np.arange(n, dtype=np.float32) for n in wall.shape)
    wide = pitch * rng.uniform(0.7, 2.5)
    storeys, axes = (rows / pitch).astype(int), (columns / wide).astype(int)
    share = rng.uniform(0.3, 0.8, 2)
    inside = np.logical_and.outer(rows / pitch % 1 < share[0], (columns / wide % 1 < share[1]) | (rng.random() < 0.25))
    grid = rng.uniform(-2.5, 2.5) + rng.normal(0, 0.5, (storeys[-1] + 1, axes[-1] + 1))
    lit = rng.random(grid.shape) < rng.uniform(-0.05, 0.15)
    grid += lit * rng.uniform(2, 8, grid.shape)
    wall += (contrast * inside * grid[np.ix_(storeys, axes)]).astype(np.float32)


def _draw_on_roof(
    opaque: np.ndarray, kelvin: np.ndarray, x: int, roof: int, wall: float, rng: np.random.Generator
) -> None:
    """A mast of one pixel, or a box: a lift's housing, a chimney, a fan that blows warm air."""
    height, width = opaque.shape
    mast = rng.random() < 0.4
    size = (1, int(height * rng.uniform(0.01, 0.08))) if mast else rng.integers(2, max(width // 60, 4), 2)
    warm = rng.normal(0, 1) if mast or rng.random() < 0.6 else rng.uniform(2, 10)
    area = slice(max(roof - int(size[1]), 0), max(roof, 0)), slice(max(x, 0), max(x + int(size[0]), 0))
    opaque[area] = np.maximum(opaque[area], 160 if mast else 255)
    kelvin[area] = wall + warm


def draw_crane(opaque: np.ndarray, kelvin: np.ndarray, foot: float, tall: float, rng: np.random.Generator) -> None:
    """A tower crane: lattice mast and jib, ties, a counterweight, a rope with its hook."""
    width = opaque.shape[1]
    x, top, thick = rng.uniform(0, width), foot - tall, max(tall * rng.uniform(0.015, 0.04), 2)
    side = rng.choice([-1, 1])
    reach, back = x + side * tall * rng.uniform(0.5, 1.1), x - side * tall * rng.uniform(0.15, 0.35)
    head, strength = top - tall * rng.uniform(0.08, 0.2), int(rng.integers(120, 255))
    drawn = np.zeros_like(opaque)
    _lattice(drawn, (x, foot), (x, head), thick, strength)
    _lattice(drawn, (back, top), (reach, top), thick, strength)
    for end in (back, x + 0.7 * (reach - x)):
        _line(drawn, (x, head), (end, top), strength // 2)
    cv2.rectangle(drawn, _px((back, top)), _px((back + side * 2 * thick, top + 2 * thick)), 255, -1)
    at = x + (reach - x) * rng.uniform(0.3, 1)
    hook = top + tall * rng.uniform(0.1, 0.7)
    _line(drawn, (at, top), (at, hook), strength // 2)
    cv2.rectangle(drawn, _px((at - thick / 2, hook)), _px((at + thick / 2, hook + thick)), 255, -1)
    _put(opaque, kelvin, drawn, AIR + rng.normal(0, 2))


def draw_power_line(opaque: np.ndarray, kelvin: np.ndarray, foot: float, tall: float, rng: np.random.Generator) -> None:
    """Lattice towers in a row, insulators on their arms, sagging wires between them and beyond the frame."""
    width = opaque.shape[1]
    drawn, strength = np.zeros_like(opaque), int(rng.integers(60, 220))
    step, shrink = width * rng.uniform(0.25, 0.7), rng.uniform(0.6, 1.0)
    towers, x, size = [], -step * rng.uniform(0, 1), tall
    while x < width + step and size > 4:
        towers.append((x, size))
        x, size, step = x + step, size * shrink, step * shrink
    levels = (0.95, 0.8, 0.65)[: int(rng.integers(1, 4))]
    arms = [(side * rng.uniform(0.1, 0.2), up) for up in levels for side in (-1, 1)]
    for x, size in towers:
        _lattice(drawn, (x, foot), (x, foot - size), max(size * 0.06, 2), 255)
        for out, up in arms:
            end = x + out * size, foot - up * size
            _line(drawn, (x, foot - up * size), end, 255)
            _line(drawn, end, (end[0], end[1] + 0.05 * size), 255)
    along = np.linspace(0, 1, 24)
    for (x0, size0), (x1, size1) in pairwise(towers):
        high = size0 + along * (size1 - size0)
        sag = 0.24 * along * (1 - along) * (size0 + size1)
        for out, up in arms:
            wire = np.stack([x0 + along * (x1 - x0) + out * high, foot - (up - 0.05) * high + sag], 1)
            _polyline(drawn, wire, strength)
    _put(opaque, kelvin, drawn, AIR + rng.normal(0, 2))


def draw_lamps(opaque: np.ndarray, kelvin: np.ndarray, foot: float, rng: np.random.Generator) -> None:
    """Lamp posts of one height at even distances, their heads warm."""
    height, width = opaque.shape
    tall, step = height * rng.uniform(0.04, 0.2), width * rng.uniform(0.06, 0.4)
    arm, side = tall * rng.uniform(0, 0.3), max(tall * rng.uniform(0.02, 0.08), 1.5)
    warm = rng.uniform(0, 12)
    for x in np.arange(-rng.uniform(0, 1) * step, width, step):
        drawn = np.zeros_like(opaque)
        _line(drawn, (x, foot), (x, foot - tall), 200)
        _line(drawn, (x, foot - tall), (x + arm, foot - tall), 200)
        _put(opaque, kelvin, drawn, AIR + rng.normal(0, 1))
        head = np.zeros_like(opaque)
        cv2.rectangle(head, _px((x + arm - side, foot - tall)), _px((x + arm + side, foot - tall + side / 2)), 255, -1)
        _put(opaque, kelvin, head, AIR + warm)


def _lattice(drawn: np.ndarray, start: tuple[float, float], end: tuple[float, float], thick: float, grey: int) -> None:
    """Two rails and the zigzag between them."""
    along = np.subtract(end, start)
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6) * thick / 2
    knots = np.linspace(0, 1, max(int(np.hypot(*along) / max(thick, 3)), 1) + 1)[:, None]
    left, right = start + knots * along - across, start + knots * along + across
    zigzag = np.where(np.arange(len(knots))[:, None] % 2, left, right)
    for rail in (left, right, zigzag):
        _polyline(drawn, rail, grey)


def _line(drawn: np.ndarray, start: tuple[float, float], end: tuple[float, float], grey: int) -> None:
    _polyline(drawn, np.array([start, end]), grey)


def _polyline(drawn: np.ndarray, points: np.ndarray, grey: int) -> None:
    """One pixel wide, through [N, 2] points given to an eighth of a pixel."""
    cv2.polylines(drawn, [np.rint(8 * points).astype(np.int32)], False, grey, 1, cv2.LINE_AA, 3)


def _px(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _put(opaque: np.ndarray, kelvin: np.ndarray, drawn: np.ndarray, temperature: float) -> None:
    """What was drawn stands before what is there; where it covers a part of a pixel, it takes that part."""
    share = drawn.astype(np.float32) / 255
    over = np.maximum(share, 1e-6) / np.maximum(share + (1 - share) * opaque / 255, 1e-6)
    kelvin += over * (drawn > 0) * (np.float32(temperature) - kelvin)
    np.copyto(opaque, np.rint(255 * (share + (1 - share) * opaque / 255)).astype(np.uint8))
