"""Augmentation of a frame and its mask, as a function of a random generator.

Frames arrive scaled by their card ([H, W, C] float32, near [0, 1]) and leave cropped to a square; normalisation by mean
and standard deviation comes after. Masks are [H, W] bool throughout.
"""

from __future__ import annotations

import math

import numpy as np

from motes.imaging import resize
from motes.training.recipe import TransformPart
from motes.training.sensors import sensed

Frame = tuple[np.ndarray, np.ndarray]


def augment(pixels: np.ndarray, mask: np.ndarray, part: TransformPart, rng: np.random.Generator) -> Frame:
    """A ``crop`` x ``crop`` view of the frame: [crop, crop, C] float32 and [crop, crop] bool."""
    if part.name == "serankdet":
        pixels, mask = _horizontal_flip(pixels, mask, part.flip, rng)
        pixels, mask = _random_long_side(pixels, mask, part, rng)
        pixels, mask = _pad_with_zeros(pixels, mask, part.crop)
        pixels, mask = _random_crop(pixels, mask, part.crop, rng)
    else:
        pixels, mask = _target_crop(pixels, mask, part, rng)
        pixels, mask = _horizontal_flip(pixels, mask, part.flip, rng)
    if part.rotate:
        turns = int(rng.integers(4))
        pixels, mask = np.rot90(pixels, turns), np.rot90(mask, turns)
    pixels = blurred(pixels, part.blur, rng)
    pixels = intensity(pixels, part, rng)
    pixels = sensed(pixels, part, rng)
    return np.ascontiguousarray(pixels, np.float32), np.ascontiguousarray(mask)


def _horizontal_flip(pixels: np.ndarray, mask: np.ndarray, chance: float, rng: np.random.Generator) -> Frame:
    return (pixels[:, ::-1], mask[:, ::-1]) if rng.random() < chance else (pixels, mask)


def _random_long_side(pixels: np.ndarray, mask: np.ndarray, part: TransformPart, rng: np.random.Generator) -> Frame:
    h, w = mask.shape
    low, high = (int(part.crop * f) for f in part.long_side)
    long_side = int(rng.integers(low, high + 1))
    size = tuple(max(int(n * long_side / max(h, w) + 0.5), 1) for n in (h, w))
    return resize(pixels, size, "bilinear"), resize(mask.astype(np.uint8), size, "nearest").astype(bool)


def _pad_with_zeros(pixels: np.ndarray, mask: np.ndarray, crop: int) -> Frame:
    bottom, right = (max(crop - n, 0) for n in mask.shape)
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0))), np.pad(mask, ((0, bottom), (0, right)))


def _random_crop(pixels: np.ndarray, mask: np.ndarray, crop: int, rng: np.random.Generator) -> Frame:
    y, x = (int(rng.integers(n - crop + 1)) for n in mask.shape)
    return pixels[y : y + crop, x : x + crop], mask[y : y + crop, x : x + crop]


def _target_crop(pixels: np.ndarray, mask: np.ndarray, part: TransformPart, rng: np.random.Generator) -> Frame:
    """Cuts a window that holds a random target pixel with chance ``centred``, and magnifies it to the crop.

    Only the window is resized. Where it is larger than the frame, the frame is mirrored around it.
    """
    low, high = (math.log(s) for s in part.scale)
    scale = math.exp(rng.uniform(low, high))
    if part.longest and scale > 1 and mask.any():
        scale = min(scale, max(part.longest / _longest_side(mask), 1.0))
    window = max(round(part.crop / scale), 8)
    rows, columns = np.nonzero(mask)
    corner = []
    pick = int(rng.integers(len(rows))) if len(rows) and rng.random() < part.centred else None
    for n, positions in zip(mask.shape, (rows, columns), strict=True):
        low_corner, high_corner = min(0, n - window), max(0, n - window)
        if pick is not None:
            at, margin = int(positions[pick]), window // 8
            low_corner = max(low_corner, at - window + 1 + margin)
            high_corner = max(min(high_corner, at - margin), low_corner)
        corner.append(int(rng.integers(low_corner, high_corner + 1)))
    index = [_mirrored(np.arange(c, c + window), n) for c, n in zip(corner, mask.shape, strict=True)]
    pixels, mask = pixels[np.ix_(*index)], mask[np.ix_(*index)]
    if window == part.crop:
        return pixels, mask
    size = (part.crop, part.crop)
    share = resize(mask.astype(np.float32), size, "bilinear")
    # Half coverage keeps a target's area; one too small for that keeps the pixels it covers most.
    return resize(pixels, size, "bilinear"), (share >= 0.5 * min(1.0, float(share.max()))) & (share > 0)


def _longest_side(mask: np.ndarray) -> int:
    """px; of the upright boxes around the targets."""
    import cv2

    boxes = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]
    return int(boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max())


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.minimum(index, 2 * n - 2 - index)


def blurred(pixels: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """The frame, with ``chance`` under a Gaussian of up to one pixel."""
    if rng.random() >= chance:
        return pixels
    sigma = rng.uniform(0.0, 1.0)
    if sigma < 0.1:
        return pixels
    import cv2

    return cv2.GaussianBlur(np.ascontiguousarray(pixels), (0, 0), sigma).reshape(pixels.shape)


def intensity(pixels: np.ndarray, part: TransformPart, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness and noise as the recipe says."""
    if part.gamma:
        pixels = np.clip(pixels, 0, 1) ** np.float32(math.exp(rng.uniform(-part.gamma, part.gamma)))
    if part.gain or part.offset:
        middle = pixels.mean()
        gain, offset = math.exp(rng.uniform(-part.gain, part.gain)), rng.uniform(-part.offset, part.offset)
        pixels = (pixels - middle) * np.float32(gain) + np.float32(middle + offset)
    if part.noise:
        # One noise field for all bands: grey frames are repeated to the network's bands.
        sigma = np.float32(rng.uniform(0, part.noise) * (rng.random() < 0.5))
        pixels = pixels + sigma * rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    return pixels
