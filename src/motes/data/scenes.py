"""Backgrounds of synthetic infrared scenes: what the world looks like before a camera sees it.

A background is an apparent-temperature field in kelvin (the temperature of the black body that would give the same
in-band radiance). Magnitudes are those of a long-wave camera looking a few degrees above or at the horizon: clear sky
from about 225 K overhead to the air temperature at the horizon, clouds warmer than the sky behind them, sea and ground
around 280-295 K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("cloud", "sky", "sea", "ground", "mixed", "flat")
"""``mixed`` draws one of the first four; ``flat`` is one temperature everywhere."""

_MIXED = {"cloud": 0.45, "sky": 0.2, "sea": 0.15, "ground": 0.2}
_ZENITH, _AIR, _CLOUD, _FLAT = 225.0, 288.0, 284.0, 263.2  # kelvin


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
    draw = {"cloud": _cloud, "sky": _sky, "sea": _sea, "ground": _ground}[kind]
    kelvin, sky = draw(height, width, rng)
    return Background(np.ascontiguousarray(kelvin, np.float32), sky, kind)


def fractal(
    height: int,
    width: int,
    rng: np.random.Generator,
    b: float = 3.0,
    *,
    stretch: float = 1.0,
    angle: float = 0.0,
    periodic: bool = False,
) -> np.ndarray:
    """Gaussian random field whose power spectral density falls as 1/f^b: the statistics of clouds (b about 2.5 to 3.5).

    White noise is shaped in the Fourier domain (spectral synthesis). The field is drawn a quarter larger than asked for
    and cut, so that its left edge does not continue its right one.

    Args:
        b: exponent of the two-dimensional spectrum in radial frequency.
        stretch: features are this many times longer along ``angle`` than across it.
        angle: direction of the long axis in radians, counted from the rows' direction.
        periodic: keep the whole period (for textures that are tiled).

    Returns:
        float32 [H, W], mean 0, standard deviation 1.
    """
    rows, columns = (height, width) if periodic else (_fast(height * 5 // 4), _fast(width * 5 // 4))
    fy = np.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(columns).astype(np.float32)[None]
    along = np.cos(angle) * fx + np.sin(angle) * fy
    across = np.cos(angle) * fy - np.sin(angle) * fx
    f2 = (along * stretch) ** 2 + across**2
    f2[0, 0] = 1.0
    gain = np.exp(np.log(f2) * np.float32(-b / 4))  # several times faster than a power
    gain[0, 0] = 0.0
    white = rng.standard_normal((2, *gain.shape), np.float32)
    spectrum = np.empty(gain.shape, np.complex64)
    spectrum.real, spectrum.imag = white[0] * gain, white[1] * gain
    field = np.fft.irfft2(spectrum, s=(rows, columns))[:height, :width].astype(np.float32)
    field -= field.mean()
    return field / max(float(field.std()), 1e-12)


def _fast(n: int) -> int:
    """The next size whose only prime factors are 2, 3 and 5."""
    while True:
        m = n
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        if m == 1:
            return n
        n += 1


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _clear_sky(height: int, width: int, rng: np.random.Generator, horizon: float | None = None) -> np.ndarray:
    """Sky by elevation: the air along the line of sight has emissivity 1 - exp(-tau / sin(elevation))."""
    field_of_view = rng.uniform(2, 8)  # degrees over the height of the frame
    tau = rng.uniform(0.08, 0.2)
    lowest = rng.uniform(3, 30)
    row = np.arange(height, dtype=np.float32)
    if horizon is None:
        elevation = lowest + field_of_view * (height - 1 - row) / height
    else:
        elevation = np.maximum(field_of_view * (horizon - row) / height, 0) + 0.6
    emissivity = 1 - np.exp(-tau / np.sin(np.deg2rad(elevation)))
    column = np.linspace(-1, 1, width, dtype=np.float32) * rng.normal(0, 0.6)  # the sun's side is a little warmer
    return (_ZENITH + (_AIR - _ZENITH) * emissivity[:, None] + column[None]).astype(np.float32)


def _sky(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clear sky with thin haze."""
    kelvin = _clear_sky(height, width, rng)
    haze = fractal(height, width, rng, rng.uniform(2.8, 3.5), stretch=rng.uniform(1, 4), angle=rng.normal(0, 0.3))
    kelvin += haze * rng.uniform(0.05, 0.7)
    return kelvin, np.ones((height, width), bool)


def _cloud(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kelvin = _clear_sky(height, width, rng)
    return _with_clouds(kelvin, rng, cover=rng.uniform(0.2, 0.75)), np.ones((height, width), bool)


def _with_clouds(kelvin: np.ndarray, rng: np.random.Generator, cover: float) -> np.ndarray:
    """Mix clouds into a sky: cumulus (bulging, sharp edges), stratus (layers, soft edges) or cirrus (thin streaks)."""
    height, width = kelvin.shape
    family = rng.choice(["cumulus", "stratus", "cirrus"], p=[0.45, 0.35, 0.2])
    bank = rng.uniform(-0.6, 2.0) * np.linspace(-1, 1, height, dtype=np.float32)[:, None]  # mostly low in the frame
    if family == "cumulus":
        body = fractal(height, width, rng, rng.uniform(3.0, 4.2), stretch=rng.uniform(1, 1.6))
        bulges = np.abs(fractal(height, width, rng, 3.4))  # creases between round heads
        shape, edge, thick = body + bank - 0.3 * bulges, rng.uniform(0.15, 1.0), rng.uniform(0.15, 0.6)
    elif family == "stratus":
        body = fractal(
            height, width, rng, rng.uniform(2.8, 3.6), stretch=rng.uniform(1.5, 5), angle=rng.normal(0, 0.15)
        )
        shape, edge, thick = body + 0.7 * bank, rng.uniform(0.8, 2.0), rng.uniform(0.08, 0.4)
    else:
        body = fractal(height, width, rng, rng.uniform(2.8, 3.6), stretch=rng.uniform(3, 6), angle=rng.normal(0, 0.35))
        shape, edge, thick = body, rng.uniform(1.2, 2.5), rng.uniform(0.04, 0.2)
    threshold = np.quantile(shape[::4, ::4], 1 - cover)
    opacity = _smoothstep((shape - threshold) / np.float32(edge) + np.float32(0.5))
    texture = fractal(height, width, rng, rng.uniform(2.6, 3.4), stretch=rng.uniform(1, 2))
    thickness = np.clip(shape - threshold, 0, 2.5)
    emissivity = opacity * np.float32(thick) * (0.65 + 0.18 * thickness + 0.13 * texture)
    return kelvin + emissivity * np.maximum(_CLOUD - kelvin, 3.0)  # little contrast left near the horizon


def _horizon(height: int, width: int, rng: np.random.Generator, low: float, high: float) -> tuple[np.ndarray, float]:
    """Row of the horizon for each column (float32 [W]), a little tilted, and its mean."""
    middle = float(height * rng.uniform(low, high))
    tilt = rng.normal(0, 0.01)
    return (middle + tilt * (np.arange(width, dtype=np.float32) - width / 2)).astype(np.float32), middle


def _sea(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky over a sea in perspective: long crests, finer towards the horizon, and now and then the sun's glint."""
    import cv2

    horizon, middle = _horizon(height, width, rng, 0.25, 0.65)
    sky_kelvin = _clear_sky(height, width, rng, middle)
    if rng.random() < 0.6:
        sky_kelvin = _with_clouds(sky_kelvin, rng, cover=rng.uniform(0.15, 0.5))
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
    sea = _AIR - rng.uniform(1, 5) + rng.uniform(-3, 3) * np.exp(-depth / (0.15 * height))
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
    import cv2

    horizon, middle = _horizon(height, width, rng, 0.45, 0.85)
    sky_kelvin = _clear_sky(height, width, rng, middle)
    if rng.random() < 0.6:
        sky_kelvin = _with_clouds(sky_kelvin, rng, cover=rng.uniform(0.15, 0.5))
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
    ground = _AIR + rng.uniform(-5, 3) * (1 - 0.7 * far) + ground
    cover = np.clip(below + 0.5, 0, 1)
    kelvin = sky_kelvin * (1 - cover) + ground * cover

    opaque = np.zeros((height, width), np.uint8)
    body = _AIR + rng.uniform(-5, 3) + rng.uniform(0.3, 0.9) * fractal(height, width, rng, 2.0)
    if rng.random() < 0.8:
        _draw_trees(opaque, horizon, rng)
    if rng.random() < 0.55:
        _draw_buildings(opaque, body, horizon, rng)
    share = cv2.GaussianBlur(opaque, (3, 3), 0).astype(np.float32) / 255
    return kelvin * (1 - share) + body * share, (below < -0.5) & (share < 0.02)


def _draw_trees(opaque: np.ndarray, horizon: np.ndarray, rng: np.random.Generator) -> None:
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


def _draw_buildings(opaque: np.ndarray, kelvin: np.ndarray, horizon: np.ndarray, rng: np.random.Generator) -> None:
    """Blocks with rows of windows; some carry a mast or a warm chimney."""
    import cv2

    height, width = opaque.shape
    for _ in range(int(rng.integers(1, 5))):
        left = int(rng.uniform(-0.05, 0.95) * width)
        right = left + max(int(width * rng.uniform(0.04, 0.2)), 3)
        foot = int(horizon[min(max(left, 0), width - 1)]) + 3
        roof = foot - max(int(height * rng.uniform(0.04, 0.22)), 3)
        wall = _AIR + rng.uniform(-4, 4)
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
