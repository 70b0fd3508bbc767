"""The camera of synthetic infrared scenes: optics, noise, fixed pattern, defects, and what becomes of the counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from motes.errors import DataError

COLDEST, HOTTEST = 200.0, 340.0
"""Kelvin at count 0 and at full scale; the response between them is linear."""


@dataclass(frozen=True)
class Optics:
    """Lens and pixel pitch. The default is a long-wave camera with 12 um pixels."""

    wavelength_um: float = 10.0
    f_number: float = 1.2
    pitch_um: float = 12.0
    defocus_px: float = 0.6

    @property
    def sigma(self) -> float:
        """Standard deviation in px: the Gaussian nearest to the Airy pattern, 0.42 lambda N and defocus, in squares."""
        return math.hypot(0.42 * self.wavelength_um * self.f_number / self.pitch_um, self.defocus_px)


@dataclass(frozen=True)
class Sensor:
    """A staring infrared camera.

    Args:
        netd: temporal noise at 300 K, in kelvin (noise-equivalent temperature difference). 0 switches temporal noise
            off.
        shot: share of the temporal variance at 300 K that is photon shot noise and so grows with the signal; the rest
            is read noise.
        column, row, pixel: standard deviation of fixed offsets, as a multiple of the temporal noise at 300 K.
        gain: standard deviation of the pixels' relative gain error, after calibration at the frame's mean level.
        vignetting: kelvin between centre and corner (drawn between minus a third of it and the whole of it, darker
            corners first).
        drift: standard deviation in kelvin of a slow pattern across the frame (calibration that has aged).
        dead, hot: share of pixels stuck at 0, and of pixels stuck 30 to 150 noise sigmas too high.
    """

    netd: float = 0.05
    shot: float = 0.8
    column: float = 0.35
    row: float = 0.2
    pixel: float = 0.35
    gain: float = 0.0005
    vignetting: float = 1.0
    drift: float = 0.15
    dead: float = 1e-5
    hot: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("netd", "column", "row", "pixel", "gain", "vignetting", "drift"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DataError(f"{name} is {value}, expected a number that is not negative")
        for name in ("shot", "dead", "hot"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise DataError(f"{name} is {value}, expected a share between 0 and 1")

    def counts_per_kelvin(self, bits: int) -> float:
        return (2**bits - 1) / (HOTTEST - COLDEST)

    def counts(self, kelvin: np.ndarray, bits: int) -> np.ndarray:
        """Noise-free counts (float32) for an apparent-temperature field."""
        return ((kelvin - COLDEST) * self.counts_per_kelvin(bits)).astype(np.float32)

    def noise_sigma(self, counts: np.ndarray | float, bits: int) -> np.ndarray:
        """Temporal noise at a level, both in counts: sqrt(read^2 + shot^2 * level / level(300 K))."""
        unit = self.netd * self.counts_per_kelvin(bits)
        level = np.maximum(counts, 0) / ((300.0 - COLDEST) * self.counts_per_kelvin(bits))
        return unit * np.sqrt((1 - self.shot) + self.shot * level)


@dataclass(frozen=True)
class FixedPattern:
    """What one camera adds to every frame.

    Args:
        offset: float32 [H, W], counts. gain: float32 [H, W], about 1.
        dead, hot: int [N, 2], x and y px of stuck pixels.
        excess: [len(hot)], counts of hot pixels above the frame's median.
    """

    offset: np.ndarray
    gain: np.ndarray
    dead: np.ndarray
    hot: np.ndarray
    excess: np.ndarray

    def apply(self, counts: np.ndarray) -> np.ndarray:
        """Offsets and gain errors on ``counts`` (float32 [H, W]); stuck pixels come last, with ``stick``."""
        mean = float(counts.mean())
        return (counts - mean) * self.gain + mean + self.offset

    def stick(self, counts: np.ndarray) -> np.ndarray:
        """Set the stuck pixels, in place."""
        level = float(np.median(counts[::4, ::4])) if len(self.hot) else 0.0
        counts[self.dead[:, 1], self.dead[:, 0]] = 0
        counts[self.hot[:, 1], self.hot[:, 0]] = level + self.excess
        return counts


def fixed_pattern(sensor: Sensor, height: int, width: int, bits: int, rng: np.random.Generator) -> FixedPattern:
    """Draw one camera."""
    kelvin = sensor.counts_per_kelvin(bits)
    sigma = float(sensor.netd * kelvin)
    offset = rng.standard_normal((height, width), np.float32) * np.float32(sensor.pixel * sigma)
    offset += rng.standard_normal((1, width), np.float32) * np.float32(sensor.column * sigma)
    offset += rng.standard_normal((height, 1), np.float32) * np.float32(sensor.row * sigma)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    offset -= np.float32(rng.uniform(-1 / 3, 1) * sensor.vignetting * kelvin / 2) * (x * x + y * y)
    offset += _slow(height, width, rng) * np.float32(sensor.drift * kelvin)
    gain = 1 + rng.standard_normal((height, width), np.float32) * np.float32(sensor.gain)
    dead = _positions(rng, sensor.dead, height, width)
    hot = _positions(rng, sensor.hot, height, width)
    return FixedPattern(offset, gain, dead, hot, rng.uniform(30, 150, len(hot)) * max(sigma, 1.0))


def _slow(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random surface, mean 0, standard deviation 1."""
    import cv2

    surface = cv2.resize(rng.standard_normal((4, 4), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    surface -= surface.mean()
    return surface / max(float(surface.std()), 1e-6)


def _positions(rng: np.random.Generator, share: float, height: int, width: int) -> np.ndarray:
    flat = rng.choice(height * width, rng.binomial(height * width, share), replace=False, shuffle=False)
    return np.stack([flat % width, flat // width], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Display:
    """Automatic gain of an 8-bit output: grey = (counts - low) * 255 / (high - low), clipped."""

    low: float
    high: float

    def step(self) -> float:
        """Counts per grey level."""
        return (self.high - self.low) / 255

    def grey(self, counts: np.ndarray) -> np.ndarray:
        return (counts - np.float32(self.low)) / np.float32(self.step())


def display_range(counts: np.ndarray, sigma: float, rng: np.random.Generator) -> Display:
    """What a camera's automatic gain might choose for a noise-free frame.

    Between 1.05 and 3.5 times the span of the scene, never so little that noise exceeds 2.5 grey levels; now and then
    the brightest tenth (thick clouds) is clipped, as in many published frames.
    """
    top = rng.choice([99.8, 99.8, 97.0, 90.0])
    low, high = np.percentile(counts[::2, ::2], [0.2, top])
    span = max((high - low) * rng.uniform(1.05, 3.5), 100 * sigma, 1.0)
    below = (span - (high - low)) * rng.uniform(0.1, 0.6 if top > 99 else 0.95)
    return Display(float(low - below), float(low - below + span))


def quantise(counts: np.ndarray, bits: int) -> np.ndarray:
    """Round and clip to 0 .. 2^bits - 1: uint8 for 8 bits, else uint16 (a 14-bit camera in a 16-bit container)."""
    return np.clip(np.rint(counts), 0, 2**bits - 1).astype(np.uint8 if bits <= 8 else np.uint16)
