"""What an infrared camera and its recorder add to a frame: stripes, stuck pixels, sharpened edges, compression."""

from __future__ import annotations

import numpy as np

from motes.training.recipe import TransformPart

OFTEN = 0.3
"""Share of the frames that get stripes."""


def sensed(pixels: np.ndarray, part: TransformPart, rng: np.random.Generator) -> np.ndarray:
    """A frame [H, W, C] float32 near [0, 1] as another camera would have recorded it; nothing is drawn that is off."""
    if part.stripes and rng.random() < OFTEN:
        pixels = striped(pixels, part.stripes, rng)
    if part.defects and rng.random() < part.defects:
        pixels = with_defects(pixels, rng)
    if part.sharpen and rng.random() < part.sharpen:
        pixels = sharpened(pixels, rng)
    if part.compress and rng.random() < part.compress:
        pixels = compressed(pixels, rng)
    return pixels


def striped(pixels: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Fixed-pattern noise of a readout: every column, or every row, has an offset of its own."""
    length = pixels.shape[1] if (columns := rng.random() < 0.7) else pixels.shape[0]
    offsets = (rng.uniform(0, largest) * rng.standard_normal(length)).astype(np.float32)
    return pixels + (offsets[None, :, None] if columns else offsets[:, None, None])


def with_defects(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to eight single pixels, brighter or darker than the frame there: no optics blur them, as they do a target."""
    count = int(rng.integers(1, 9))
    rows, columns = (rng.integers(0, side, count) for side in pixels.shape[:2])
    sizes = rng.uniform(0.05, 0.8, count) * np.where(rng.random(count) < 0.8, 1, -1)
    stuck = pixels.copy()
    stuck[rows, columns] += sizes[:, None].astype(np.float32)
    return stuck


def sharpened(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unsharp masking, whose dark halos around bright targets are seen in many cameras' video output."""
    import cv2

    smooth = cv2.GaussianBlur(np.ascontiguousarray(pixels), (0, 0), rng.uniform(0.7, 2.0)).reshape(pixels.shape)
    return pixels + np.float32(rng.uniform(0.3, 1.5)) * (pixels - smooth)


def compressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """8 bits, and the blocks and ringing of JPEG at quality 35 to 95; bands become one grey."""
    import cv2

    grey = (pixels.mean(axis=2) * 255).round().clip(0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32)[..., None] / np.float32(255)
    return np.repeat(decoded, pixels.shape[2], axis=2)
