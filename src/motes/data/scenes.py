"""Backgrounds of synthetic infrared scenes: what the world looks like before a camera sees it.

A background is an apparent-temperature field in kelvin (the temperature of the black body that would give the same
in-band radiance). Magnitudes are those of a long-wave camera looking a few degrees above or at the horizon: clear sky
from about 225 K overhead to the air temperature at the horizon, clouds warmer than the sky behind them, sea and ground
around 280-295 K.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from motes.data.skies import AIR, clear_sky, fractal, with_clouds
from motes.data.skyline import draw_blocks, draw_buildings, draw_crane, draw_lamps, draw_power_line, draw_trees

KINDS = ("cloud", "sky", "sea", "ground", "urban", "mixed", "flat")
"""``mixed`` draws one of the first four; ``flat`` is one temperature everywhere."""

_MIXED = {"cloud": 0.45, "sky": 0.2, "sea": 0.15, "ground": 0.2}
_FLAT = 263.2  # kelvin


@dataclass(frozen=True)
class Background:
    """``kelvin`` float32 [H, W]; ``sky`` bool [H, W], True where only air and clouds are seen; ``kind`` is resolved."""

    kelvin: np.ndarray
    sky: np.ndarray
    kind: str


def background(kind: str, height: int, width: int, rng: np.random.Generator) -> Background:
    """Draw a background of one of ``KINDS``."""
    if kind == "mixed":
        kind = str(rng.choice(list(_MIXED), p=list(_MIXED.values())))
    if kind == "flat":
        return Background(np.full((height, width), _FLAT, np.float32), np.ones((height, width), bool), kind)
    draw = {"cloud": _cloud, "sky": _sky, "sea": _sea, "ground": _ground, "urban": _urban}[kind]
    kelvin, sky = draw(height, width, rng)
    return Background(np.ascontiguousarray(kelvin, np.float32), sky, kind)


def _sky(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clear sky with thin haze."""
    kelvin = clear_sky(height, width, rng)
    haze = fractal(height, width, rng, rng.uniform(2.8, 3.5), stretch=rng.uniform(1, 4), angle=rng.normal(0, 0.3))
    kelvin += haze * rng.uniform(0.05, 0.7)
    return kelvin, np.ones((height, width), bool)


def _cloud(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kelvin = clear_sky(height, width, rng)
    return with_clouds(kelvin, rng, cover=rng.uniform(0.2, 0.75)), np.ones((height, width), bool)


def _horizon(height: int, width: int, rng: np.random.Generator, low: float, high: float) -> tuple[np.ndarray, float]:
    """Row of the horizon for each column (float32 [W]), a little tilted, and its mean."""
    middle = float(height * rng.uniform(low, high))
    tilt = rng.normal(0, 0.01)
    return (middle + tilt * (np.arange(width, dtype=np.float32) - width / 2)).astype(np.float32), middle


def _sea(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky over a sea in perspective: long crests, finer towards the horizon, and now and then the sun's glint."""
    horizon, middle = _horizon(height, width, rng, 0.25, 0.65)
    sky_kelvin = clear_sky(height, width, rng, middle)
    if rng.random() < 0.6:
        sky_kelvin = with_clouds(sky_kelvin, rng, cover=rng.uniform(0.15, 0.5))
    below = np.arange(height, dtype=np.float32)[:, None] - horizon[None]  # rows below the horizon
    depth = np.maximum(below, 0.5)

    side = 512
    waves = fractal(
        side, side, rng, rng.uniform(2.0, 2.6), stretch=rng.uniform(2.5, 6), angle=rng.normal(0, 0.2), periodic=True
    )
    scale = height * rng.uniform(0.6, 1.4)
    distance = scale / depth
    u = (np.arange(width, dtype=np.float32)[None] - width / 2) * distance * np.float32(2.0 / 1.5)
    v = distance * np.float32(height / 3)
    swell = cv2.remap(waves, np.mod(u, side), np.mod(v, side), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    per_row = v / depth  # texture rows that fall into one pixel row; finer waves average out
    strength = 1 / np.sqrt(1 + per_row)
    sea = AIR - rng.uniform(1, 5) + rng.uniform(-3, 3) * np.exp(-depth / (0.15 * height))
    sea = sea + rng.uniform(0.4, 1.5) * swell * strength
    if rng.random() < 0.6:
        centre, spread = width * rng.uniform(0, 1), width * rng.uniform(0.04, 0.15)
        lane = np.exp(
            -0.5 * ((np.arange(width, dtype=np.float32)[None] - centre) / (spread * (1 + below / height))) ** 2
        )
        sparkle = np.clip(swell * (0.4 + 0.6 * strength) - 0.8, 0, 3) + 0.15 * strength
        sea = sea + lane * sparkle * rng.uniform(2, 8)
    over = np.clip(below + 0.5, 0, 1)  # anti-aliased horizon
    return sky_kelvin * (1 - over) + sea * over, below < -0.5


def _ground(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky over fields in perspective, a tree line, and perhaps buildings and masts that stand out against the sky."""
    horizon, middle = _horizon(height, width, rng, 0.45, 0.85)
    sky_kelvin = clear_sky(height, width, rng, middle)
    if rng.random() < 0.6:
        sky_kelvin = with_clouds(sky_kelvin, rng, cover=rng.uniform(0.15, 0.5))
    relief = fractal(4, width, rng, 3.6)[0]
    horizon = horizon + relief * np.float32(height * rng.uniform(0.0, 0.03))
    below = np.arange(height, dtype=np.float32)[:, None] - horizon[None]
    depth = np.maximum(below, 0.5)

    side = 512
    land = fractal(side, side, rng, 3.0, stretch=1.5, periodic=True)
    distance = height * 0.5 / (depth + 0.04 * height)
    u = (np.arange(width, dtype=np.float32)[None] - width / 2) * distance
    v = distance * np.float32(height / 4)
    seen = cv2.remap(land, np.mod(u, side), np.mod(v, side), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    patches = cv2.blur(np.floor(seen * 2.5) / 2.5, (3, 1))  # fields of one crop each
    rough = fractal(height, width, rng, 1.8, stretch=2.0)
    far = np.exp(-depth / (0.1 * height))  # the air's own radiance takes over with distance
    ground = rng.uniform(0.4, 1.4) * (0.5 * patches + 0.5 * seen) * (1 - 0.8 * far) + rng.uniform(0.15, 0.4) * rough
    ground = AIR + rng.uniform(-5, 3) * (1 - 0.7 * far) + ground
    cover = np.clip(below + 0.5, 0, 1)
    kelvin = sky_kelvin * (1 - cover) + ground * cover

    opaque = np.zeros((height, width), np.uint8)
    body = AIR + rng.uniform(-5, 3) + rng.uniform(0.3, 0.9) * fractal(height, width, rng, 2.0)
    if rng.random() < 0.8:
        draw_trees(opaque, horizon, rng)
    if rng.random() < 0.55:
        draw_buildings(opaque, body, horizon, rng)
    share = cv2.GaussianBlur(opaque, (3, 3), 0).astype(np.float32) / 255
    return kelvin * (1 - share) + body * share, (below < -0.5) & (share < 0.02)


def _urban(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky over a city: rows of blocks with windows, cranes, power lines, lamps and trees."""
    foot = height * rng.uniform(0.55, 1.1)
    kelvin = clear_sky(height, width, rng, min(foot, height))
    if rng.random() < 0.5:
        kelvin = with_clouds(kelvin, rng, cover=rng.uniform(0.15, 0.5))
    opaque = np.zeros((height, width), np.uint8)
    opaque[max(int(foot), 0) :] = 255
    body = (AIR + rng.uniform(-4, 2) + rng.uniform(0.2, 0.8) * fractal(height, width, rng, 2.0)).astype(np.float32)
    rows = int(rng.integers(1, 4))
    for row in range(rows):
        haze = (rows - 1 - row) / 3 + rng.uniform(0, 0.3)
        draw_blocks(opaque, body, foot, height * rng.uniform(0.08, 0.5), haze, rng)
    for draw, chance, tall in ((draw_crane, 0.4, (0.3, 0.9)), (draw_power_line, 0.35, (0.15, 0.6))):
        if rng.random() < chance:
            draw(opaque, body, foot, height * rng.uniform(*tall), rng)
    if rng.random() < 0.5:
        draw_lamps(opaque, body, foot, rng)
    if rng.random() < 0.4:
        draw_trees(opaque, np.full(width, foot, np.float32), rng)
    share = cv2.GaussianBlur(opaque, (3, 3), 0).astype(np.float32) / 255
    return kelvin * (1 - share) + body * share, share < 0.02
