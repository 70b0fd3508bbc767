"""Skies of synthetic infrared scenes, and the random fields that they and what lies below them are made of."""

from __future__ import annotations

import numpy as np

ZENITH, AIR, CLOUD = 225.0, 288.0, 284.0
"""Kelvin: overhead, at the horizon, and of a thick cloud."""


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


def clear_sky(height: int, width: int, rng: np.random.Generator, horizon: float | None = None) -> np.ndarray:
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
    return (ZENITH + (AIR - ZENITH) * emissivity[:, None] + column[None]).astype(np.float32)


def with_clouds(kelvin: np.ndarray, rng: np.random.Generator, cover: float) -> np.ndarray:
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
    return kelvin + emissivity * np.maximum(CLOUD - kelvin, 3.0)  # little contrast left near the horizon
