"""Augmentation of an aerial image and its labels, as a function of a random generator.

Pixels stay the counts they were read as ([H, W, C], any dtype): the published pipelines resize and blur 8-bit images.
Scaling and normalisation come after, so padding is black, as FactSeg's. Labels are [H, W] uint8 class ids, 255 ignored.
"""

from __future__ import annotations

import numpy as np

from motes.imaging import resize
from motes.training.recipe import TransformPart

Labelled = tuple[np.ndarray, np.ndarray]
IGNORE = 255


def augment_labelled(pixels: np.ndarray, labels: np.ndarray, part: TransformPart, rng: np.random.Generator) -> Labelled:
    """A ``crop`` x ``crop`` view of an image: [crop, crop, C] of its dtype and [crop, crop] uint8.

    ``fit`` says how: ``resize`` squeezes the image (bicubic, labels nearest; PFNet), ``pad`` adds black and ignored
    pixels to the right and below, and cuts at random what is larger (FarSeg, FactSeg), ``crop`` magnifies by a factor
    drawn from ``scale`` first (PFNet on Potsdam). With chance ``centred`` a cut is not at random but where
    :func:`corner_on_class` says. Then flips, a turn by k * 90 degrees, and a Gaussian blur.
    """
    if part.fit == "resize":
        pixels, labels = _resized(pixels, labels, (part.crop, part.crop))
    if part.fit == "crop":
        factor = rng.uniform(*part.scale)
        height, width = (max(round(n * factor), 1) for n in labels.shape)
        pixels, labels = _resized(pixels, labels, (height, width))
    pixels, labels = _cut(pixels, labels, part, rng)
    if rng.random() < part.flip:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    if rng.random() < part.flip:
        pixels, labels = pixels[::-1], labels[::-1]
    if part.rotate:
        pixels, labels = turned(pixels, labels, int(rng.integers(4)))
    if rng.random() < part.blur:
        pixels = blurred(pixels, float(rng.uniform(*part.blur_sigma)))
    pixels, labels = padded(pixels, labels, part.crop)
    return np.ascontiguousarray(pixels), np.ascontiguousarray(labels)


def corner_on_class(labels: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of the upper left corner of a ``side`` x ``side`` window that holds a pixel of a drawn class.

    Drawn is one of the classes that the labels [H, W] have, each equally probable (background like any other, 255
    never), then one of its pixels: a class of few pixels is met as often as one of many. The pixel lies at least an
    eighth of the side inside the window, and the window in the image, as far as the image's size and border let them.
    """
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=IGNORE + 1)[:IGNORE])
    drawn = labels == present[rng.integers(len(present))] if len(present) else labels == IGNORE
    positions = np.flatnonzero(drawn)
    at = np.unravel_index(positions[rng.integers(len(positions))], labels.shape)
    margin, corner = side // 8, []
    for n, place in zip(labels.shape, at, strict=True):
        high = max(n - side, 0)
        first = min(max(int(place) - side + 1 + margin, 0), high)
        last = max(min(int(place) - margin, high), first)
        corner.append(int(rng.integers(first, last + 1)))
    return corner[0], corner[1]


def turned(pixels: np.ndarray, labels: np.ndarray, turns: int) -> Labelled:
    """Both turned counter-clockwise by ``turns`` * 90 degrees."""
    return np.rot90(pixels, turns), np.rot90(labels, turns)


def padded(pixels: np.ndarray, labels: np.ndarray, side: int) -> Labelled:
    """Both extended to ``side`` px to the right and below: counts 0, labels 255."""
    bottom, right = (max(side - n, 0) for n in labels.shape)
    if not bottom and not right:
        return pixels, labels
    black = np.pad(pixels, ((0, bottom), (0, right), (0, 0)))
    return black, np.pad(labels, ((0, bottom), (0, right)), constant_values=IGNORE)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur over 4 ``sigma``, edges repeated; whole-number counts are cut off, not rounded.

    scikit-image's, number for number, which PFNet cuts off to 8 bits: half a grey level is lost on average. float64,
    because a flat area may otherwise come out one level lower.
    """
    import cv2

    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    top = 255 if pixels.dtype == np.uint8 else 1  # the published code blurs counts / 255
    counts = np.ascontiguousarray(pixels, np.float64) / top
    smooth = cv2.sepFilter2D(counts, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE).reshape(pixels.shape)
    return (smooth * top).astype(pixels.dtype)


def _resized(pixels: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> Labelled:
    return resize(pixels, size, "bicubic"), resize(labels, size, "nearest")


def _cut(pixels: np.ndarray, labels: np.ndarray, part: TransformPart, rng: np.random.Generator) -> Labelled:
    side = part.crop
    if part.centred and max(labels.shape) > side and rng.random() < part.centred:
        y, x = corner_on_class(labels, side, rng)
    else:
        y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in labels.shape)
    return pixels[y : y + side, x : x + side], labels[y : y + side, x : x + side]
