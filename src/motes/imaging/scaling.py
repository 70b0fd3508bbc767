"""From sensor counts to a network's input. Training, evaluation and detection all come through `network_input`."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from motes.cards import InputSpec, Scaling
from motes.errors import ImageError
from motes.imaging.reading import Image, check_finite

SAMPLE = 1_000_000
"""Percentiles are taken from at most this many values of a frame."""

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue, as Pillow's and OpenCV's grey use them."""


def network_input(image: Image | np.ndarray, spec: InputSpec) -> np.ndarray:
    """[H, W, C] (or [H, W]) counts -> float32 [C, H, W] as the network was trained on.

    Scaling (``spec.scaling`` for 8-bit frames, ``spec.scaling_deep`` for all others), then channels (grey repeated to
    three, RGB to one by luma), then (x - mean) / std. Statistics of a frame are those of the array given here: to feed
    a large frame in tiles, fix them first with `fix_scaling`.

    Raises:
        ImageError: the channels do not fit, or floats are NaN or infinite.
    """
    pixels, where = _pixels(image)
    check_finite(pixels, where)
    chosen = _chosen(pixels, spec)
    low, high = scaling_limits(pixels, chosen)
    # planes first: moving one-byte counts is cheaper than moving float32
    planes = _affine(np.ascontiguousarray(pixels.transpose(2, 0, 1)), low, high, chosen.clip)
    planes = _fit_channels(planes, spec.channels, where)
    if any(spec.mean):
        planes = planes - np.asarray(spec.mean, np.float32)[:, None, None]
    if any(s != 1.0 for s in spec.std):
        planes = planes / np.asarray(spec.std, np.float32)[:, None, None]
    if len(planes) != spec.channels:
        planes = np.broadcast_to(planes, (spec.channels, *planes.shape[1:]))
    return np.ascontiguousarray(planes)


def fix_scaling(image: Image | np.ndarray, spec: InputSpec) -> InputSpec:
    """``spec`` with the statistics of this frame fixed, so that its tiles scale as the whole frame would."""
    pixels, where = _pixels(image)
    check_finite(pixels, where)
    chosen = _chosen(pixels, spec)
    low, high = scaling_limits(pixels, chosen)
    fixed = Scaling("fixed", low, high if high > low else low + 1.0, clip=chosen.clip)
    return dataclasses.replace(spec, scaling=fixed, scaling_deep=fixed)


def scale(pixels: np.ndarray, scaling: Scaling) -> np.ndarray:
    """(counts - low) / (high - low) in float32, shape kept; limited to [0, 1] if ``scaling.clip``.

    ``low`` and ``high`` are `scaling_limits`. A constant frame gives zeros under every method that looks at the frame.
    """
    low, high = scaling_limits(pixels, scaling)
    return _affine(pixels, low, high, scaling.clip)


def scaling_limits(pixels: np.ndarray, scaling: Scaling) -> tuple[float, float]:
    """The counts that become 0 and 1 in a frame; equal for a constant frame.

    Percentiles come from every n-th value, at most `SAMPLE` of them. Where the chosen percentiles coincide though the
    frame is not constant (a target on a perfectly flat background), the frame's extremes are taken.
    """
    method = scaling.method
    if method == "fixed":
        return float(scaling.low or 0.0), float(scaling.high or 0.0)
    if method == "bits":
        return 0.0, float(2 ** int(scaling.bits or 8) - 1)
    if method == "range":
        if pixels.dtype.kind in "iu":
            limits = np.iinfo(pixels.dtype)
            return float(limits.min), float(limits.max)
        return 0.0, 1.0
    if method == "minmax":
        return _extremes(pixels)
    if method == "maximum":
        return 0.0, _extremes(pixels)[1]
    if method == "percentile":
        low, high = _percentiles(pixels, (float(scaling.low or 0.0), float(scaling.high or 0.0)))
    else:
        dark, median, bright = _percentiles(pixels, (16.0, 50.0, 84.0))
        sigma = (bright - dark) / 2
        low, high = median - float(scaling.low or 0.0) * sigma, median + float(scaling.high or 0.0) * sigma
    return (low, high) if high > low else _extremes(pixels)


def _pixels(image: Image | np.ndarray) -> tuple[np.ndarray, str]:
    if isinstance(image, Image):
        return image.pixels, str(image.path or "image")
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.dtype.kind not in "buif":
        raise ImageError(f"expected [H, W] or [H, W, C] counts, found {list(pixels.shape)} of {pixels.dtype}")
    return (pixels[:, :, None] if pixels.ndim == 2 else pixels), "image"


def _chosen(pixels: np.ndarray, spec: InputSpec) -> Scaling:
    return spec.scaling if pixels.dtype in (np.uint8, np.bool_) else spec.scaling_deep


def _affine(pixels: np.ndarray, low: float, high: float, clip: bool) -> np.ndarray:
    span = high - low if high > low else 1.0
    if pixels.dtype.itemsize > (4 if pixels.dtype.kind == "f" else 2):  # more than float32 holds: subtract first
        scaled = (np.subtract(pixels, low, dtype=np.float64) / span).astype(np.float32)
    elif low == 0:
        scaled = np.divide(pixels, np.float32(span), dtype=np.float32)
    else:
        scaled = np.subtract(pixels, np.float32(low), dtype=np.float32)
        scaled /= np.float32(span)
    return np.clip(scaled, 0.0, 1.0, out=scaled) if clip else scaled


def _fit_channels(planes: np.ndarray, channels: int, where: str) -> np.ndarray:
    """[c, H, W] -> [channels, H, W], or [1, H, W] where grey is to be repeated."""
    found = len(planes)
    if found in (1, channels):
        return planes
    if found == 3 and channels == 1:
        red, green, blue = planes
        # green + ... rather than three products: equal channels give exactly their common value
        return (green + np.float32(LUMA[0]) * (red - green) + np.float32(LUMA[2]) * (blue - green))[None]
    hint = (
        "leave out transparency with pixels[:, :, :-1]"
        if found in (2, 4)
        else "choose bands before, pixels[:, :, bands]"
    )
    raise ImageError(f"{where}: has {found} channels, the network takes {channels}", hint)


def _extremes(pixels: np.ndarray) -> tuple[float, float]:
    return float(pixels.min()), float(pixels.max())


def _percentiles(pixels: np.ndarray, which: tuple[float, ...]) -> list[float]:
    values = pixels.reshape(-1)
    step = -(-values.size // SAMPLE)
    while math.gcd(step, pixels[0].size) > 1:  # a step that shares a factor with the row would see some columns only
        step += 1
    values = values[::step]
    return [float(v) for v in np.percentile(values.astype(np.float32) if values.dtype == np.float16 else values, which)]
