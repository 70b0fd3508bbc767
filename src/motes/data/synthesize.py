"""Synthetic infrared frames with exact masks: for tests, for the demo, and to mix into training.

The chain is that of a camera: background (``scenes``), targets blurred by the optics and integrated over pixels, photon
and read noise, fixed pattern, drift, stuck pixels, quantisation (``sensor``). One seed gives one frame, bit for bit, on
one version of numpy and OpenCV.

What SNR, SCR, amplitude and the mask mean is defined in ``motes.data.targets``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from motes.data.scenes import KINDS, background
from motes.data.sensor import Optics, Sensor, display_range, fixed_pattern, quantise
from motes.data.synthetic_sets import Shares, Written, write_frames
from motes.data.targets import Body, Scene, Site, Target, Wish, measure, place_targets
from motes.errors import DataError
from motes.naming import look_up

SIRST_LIKE: dict[str, Any] = {"bits": 8, "scr": (4, 60), "psf": (0.7, 1.6), "size": (2, 10), "extended": 0.5}
"""Options of ``scene`` whose frames have about the contrast, noise, spectral slope and target areas of SIRST's."""

SMALLEST, LARGEST = 16, 8192
BITS = (8, 14, 16)

__all__ = ["SIRST_LIKE", "Optics", "Scene", "Sensor", "Target", "demo_scene", "noise_scene", "scene", "write_dataset"]


def scene(
    height: int,
    width: int,
    seed: int | Sequence[int],
    *,
    kind: str = "mixed",
    bits: int = 14,
    targets: int | tuple[int, int] = (1, 3),
    snr: float | tuple[float, float] = (5, 15),
    scr: float | tuple[float, float] | None = None,
    min_scr: float = 2.0,
    psf: float | tuple[float, float] = (0.6, 1.2),
    extended: float = 0.4,
    size: float | tuple[float, float] = (2, 7),
    mask_fraction: float = 0.25,
    sensor: Sensor | None = None,
    camera: int | None = None,
) -> Scene:
    """Make one infrared frame. Ranges are (low, high), drawn uniformly; a number is a range of one value.

    Args:
        height, width: px.
        seed: a number, or several such as (seed, index). Background, camera, targets and noise have a random stream
            each.
        kind: background, one of ``scenes.KINDS``.
        bits: 8 gives uint8 after a display's automatic gain; 14 and 16 give uint16 counts, 14 never above 16383.
        targets: how many. Fewer are placed where they do not fit apart from each other.
        snr: amplitude over noise. Ignored where ``scr`` is given.
        scr: amplitude as a multiple of the local standard deviation instead.
        min_scr: positions with less are redrawn up to 40 times, then the best one is taken.
        psf: standard deviation of the optics in px. ``Optics(...).sigma`` computes it from lens and pixel.
        extended: share of targets with a body larger than a point.
        size: length of such bodies, px.
        mask_fraction: see the module.
        sensor: noise and defects.
        camera: seed of the fixed pattern and the stuck pixels, to give many frames the same camera.

    Raises:
        DataError: a value out of its range.
    """
    _check_size(height, width)
    look_up("scene", kind, KINDS, DataError)
    if bits not in BITS:
        raise DataError(f"bits is {bits}, expected one of {', '.join(map(str, BITS))}")
    count_range = _range("targets", targets, 0, 1000, whole=True)
    ask = Wish(
        snr=_range("snr", snr, 0.1, 1e6),
        scr=None if scr is None else _range("scr", scr, 0.1, 1e6),
        min_scr=_range("min_scr", min_scr, -1e6, 1e6)[0],
        extended=_share("extended", extended),
        size=_range("size", size, 0, 100),
        mask_fraction=_share("mask_fraction", mask_fraction),
    )
    psf_range = _range("psf", psf, 0.2, 20)
    sensor = sensor or Sensor()
    seeds = _seeds(seed)
    rng_background, rng_camera, rng_targets, rng_noise = (np.random.default_rng(s) for s in seeds.spawn(4))

    world = background(kind, height, width, rng_background)
    sigma = float(rng_targets.uniform(*psf_range))
    kelvin = world.kelvin if world.kind == "flat" else _blur(world.kelvin, sigma)
    depth = 14 if bits == 8 else bits
    rng_pattern = rng_camera if camera is None else np.random.default_rng(_seeds(camera))
    pattern = fixed_pattern(sensor, height, width, depth, rng_pattern)
    still = pattern.apply(sensor.counts(kelvin, depth))
    white = rng_noise.standard_normal((height, width), np.float32)
    noise = sensor.noise_sigma(still, depth)
    display = display_range(still, float(noise.mean()), rng_camera) if bits == 8 else None
    stuck = np.concatenate([pattern.dead, pattern.hot])

    place = Site(
        frame=still + noise * white,
        noise=np.sqrt(noise**2 + (display.step() if display else 1.0) ** 2 / 12),
        ceiling=display.high if display else 2.0**bits - 1,
        sky=world.sky,
        stuck=stuck,
    )
    count = int(rng_targets.integers(int(count_range[0]), int(count_range[1]), endpoint=True))
    bodies = place_targets(place, count, sigma, ask, rng_targets)
    for body in bodies:
        still[body.window] += body.signal
    counts = still + sensor.noise_sigma(still, depth) * white
    pattern.stick(counts)
    pixels = quantise(display.grey(counts) if display else counts, bits)
    step = display.step() if display else 1.0
    mask = np.zeros((height, width), bool)
    for body in bodies:
        mask[body.window] |= body.mask
    rms = float(np.sqrt(np.mean(noise**2))) / step
    return Scene(pixels, mask, measure(pixels, bodies, stuck, sigma, step), world.sky, world.kind, bits, rms, stuck)


def noise_scene(
    height: int,
    width: int,
    seed: int | Sequence[int],
    mean: float = 7400,
    sigma: float = 25,
    targets: Sequence[tuple[int, int, int, float]] | None = None,
    bits: int = 14,
) -> Scene:
    """White noise with square targets: the plainest frame that an 8-bit route destroys.

    Args:
        mean, sigma: of the noise, counts.
        targets: (row, column, side, added counts) each; row and column are the square's middle pixel. Default: one 3x3
            target of +180 counts in the middle of the frame.
        bits: pixels are clipped to 0 .. 2^bits - 1.
    """
    _check_size(height, width, smallest=1)
    if not (math.isfinite(sigma) and sigma >= 0 and math.isfinite(mean)):
        raise DataError(f"noise of mean {mean} and sigma {sigma}: expected numbers, sigma not negative")
    rng = np.random.default_rng(_seeds(seed))
    counts = rng.standard_normal((height, width)) * sigma + mean
    mask = np.zeros((height, width), bool)
    squares = [(height // 2, width // 2, 3, 180.0)] if targets is None else list(targets)
    bodies = []
    for row, column, side, added in squares:
        top, left = row - side // 2, column - side // 2
        if top < 0 or left < 0 or top + side > height or left + side > width or side < 1:
            raise DataError(
                f"a {side}x{side} target at row {row}, column {column} does not fit into {height}x{width} pixels"
            )
        window = (slice(top, top + side), slice(left, left + side))
        counts[window] += added
        mask[window] = True
        signal = np.full((side, side), added, np.float32)
        middle = (side - 1) / 2
        ratio = added / math.sqrt(sigma**2 + 1 / 12)
        bodies.append(
            Body(left + middle, top + middle, window, signal, np.ones((side, side), bool), ratio, float(side), "square")
        )
    pixels = quantise(counts, bits)
    nothing = np.zeros((0, 2), np.int64)
    found = measure(pixels, bodies, nothing, 0.0, 1.0)
    return Scene(pixels, mask, found, np.ones((height, width), bool), "noise", bits, float(sigma))


def write_dataset(
    root: str | Path,
    layout: str,
    count: int,
    seed: int = 0,
    *,
    height: int = 256,
    width: int = 320,
    suffix: str = ".png",
    test: float = 0.2,
    val: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Written:
    """Write ``count`` frames with masks, lists and ``targets.json`` into ``root``.

    Frame i is ``scene(height, width, (seed, i), **options)`` whatever ``count`` is, and its split depends on i only:
    asking again for more frames adds to a set. Frames that are complete are kept, so an interrupted call goes on where
    it stopped. Every file is written under a temporary name and renamed, the image last.

    Args:
        layout: one of ``synthetic_sets.LAYOUTS``, the names of ``open_dataset``.
        suffix: of the images: ".png", ".tif", and ".bmp" for 8 bits.
        test, val: shares of the frames in the test and the validation split.
        progress: called with (frames done, count).
        options: of ``scene``.

    Raises:
        DataError: a bad value, ``root`` cannot be written to, or it holds something else than the same set.
    """
    for name in options:
        look_up("option", name, _OPTIONS, DataError)
    first = scene(height, width, (seed, 0), **options)  # complains about bad options before anything is written
    look_up(
        "suffix", suffix, (".png", ".tif", ".tiff", ".bmp") if first.bits == 8 else (".png", ".tif", ".tiff"), DataError
    )
    settings = {"seed": seed, "height": height, "width": width, "suffix": suffix}
    settings |= {k: asdict(v) if isinstance(v, Sensor) else v for k, v in options.items()}
    shares = Shares(test, val)
    return write_frames(
        Path(root), layout, count, settings, lambda i: scene(height, width, (seed, i), **options), shares, progress
    )


def demo_scene(seed: int = 7) -> Scene:
    """The frame of ``motes demo``: 14-bit, 512x640, clouds over hills, four targets with SNR 9 to 12, dead pixels."""
    sensor = Sensor(netd=0.2, column=0.2, row=0.1, pixel=0.2, dead=1.2e-5, hot=0)  # a small uncooled camera
    ask: dict[str, Any] = {"targets": 4, "snr": (9, 12), "min_scr": 7, "psf": 0.9, "extended": 0.5}
    return scene(512, 640, (seed, _DEMO), kind="ground", bits=14, sensor=sensor, **ask)


_DEMO = 423  # with seed 7: cumulus over hills


def _blur(kelvin: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(kelvin, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def _seeds(seed: int | Sequence[int]) -> np.random.SeedSequence:
    parts = list(seed) if isinstance(seed, Sequence) else [seed]
    for part in parts:
        if not isinstance(part, (int, np.integer)) or part < 0:
            raise DataError(f"seed is {part}, expected a whole number that is not negative")
    return np.random.SeedSequence([int(p) for p in parts])


def _check_size(height: int, width: int, smallest: int = SMALLEST) -> None:
    if not (smallest <= height <= LARGEST and smallest <= width <= LARGEST):
        raise DataError(f"size {height}x{width}: height and width must be {smallest} to {LARGEST} pixels")


def _range(
    name: str, value: float | tuple[float, float], low: float, high: float, whole: bool = False
) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in pair):
        raise DataError(f"{name} is {value}, expected a number or a range of two")
    if whole and any(v != int(v) for v in pair):
        raise DataError(f"{name} is {value}, expected whole numbers")
    if pair[0] > pair[1]:
        raise DataError(f"{name} is {pair[0]:g} to {pair[1]:g}: the range is upside down")
    if pair[0] < low or pair[1] > high:
        raise DataError(f"{name} is {pair[0]:g} to {pair[1]:g}, expected values from {low:g} to {high:g}")
    return pair


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"{name} is {value}, expected a share between 0 and 1")
    return float(value)


_OPTIONS = [p.name for p in inspect.signature(scene).parameters.values() if p.kind is p.KEYWORD_ONLY]
