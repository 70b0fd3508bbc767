"""Targets of one frame copied into another, so that a target is seen before many backgrounds.

Copying instead of drawing keeps what real targets look like: their profile, their blur, their ragged masks.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from motes.imaging import resize
from motes.metrics import components
from motes.training.recipe import TransformPart

RIM = 3
"""Pixels around a target's mask that are copied too: its glow, fading out to the rim."""

TRIES = 10
"""Places tried for one target before it is left out."""


def paste_targets(
    pixels: np.ndarray,
    mask: np.ndarray,
    donor: np.ndarray,
    donor_mask: np.ndarray,
    part: TransformPart,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``part.pasted`` of the donor's targets, mirrored and turned by chance, added to a frame.

    What is added is a target's contrast: its pixels less the median of the ring around it, magnified by a factor of
    ``part.paste_scale`` and multiplied by one of ``part.paste_gain``, or by more where ``part.paste_scr`` asks for it.
    No target lands within ``RIM`` px of another or outside the frame; with ``paste_scr``, none where it would be cut
    off at white.

    Args:
        pixels: [H, W, C] float32, scaled by the card (near [0, 1]).
        mask: [H, W] bool.
        donor: [h, w, C] float32, scaled likewise.
        donor_mask: [h, w] bool.
        part: how many, and how they are changed.
        rng: decides everything.

    Returns:
        New pixels and mask; the inputs themselves where nothing could be pasted.
    """
    found = components(donor_mask)
    for label in rng.permutation(len(found))[: part.pasted] + 1:
        patch, target = _cut(donor, donor_mask, found.labels == label)
        if patch.shape[2] != pixels.shape[2]:  # a grey target for a frame of three bands, or the reverse
            patch = np.repeat(patch.mean(axis=2, keepdims=True), pixels.shape[2], axis=2)
        if part.paste_scale != (1.0, 1.0):
            patch, target = _magnified(patch, target, rng.uniform(*part.paste_scale))
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        patch, target = np.rot90(patch, turns), np.rot90(target, turns)
        if mirrored:
            patch, target = patch[:, ::-1], target[:, ::-1]
        for place in _places(mask, target.shape, rng):
            gain = _gain(pixels[place], patch, target, part, rng)
            if gain is not None:
                pixels, mask = pixels.copy(), mask.copy()
                pixels[place] += patch * np.float32(gain)
                mask[place] |= target
                break
    return pixels, mask


def _cut(donor: np.ndarray, donor_mask: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The contrast of a target, faded out around it, and its mask; both with a margin of ``RIM``."""
    margin = 2 * RIM
    rows, columns = (np.flatnonzero(target.any(axis=a)) for a in (1, 0))
    window = tuple(
        slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, n))
        for at, n in ((rows, target.shape[0]), (columns, target.shape[1]))
    )
    patch, target, others = donor[window], target[window], donor_mask[window]
    distance = cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, 5)
    ring = (distance > RIM) & ~others
    background = np.median(patch[ring], axis=0) if ring.any() else patch.min(axis=(0, 1))
    fade = np.clip(1 - distance / (RIM + 1), 0, 1) * ~(others & ~target)
    return (patch - background) * fade[..., None].astype(np.float32), target


def _magnified(patch: np.ndarray, target: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Both at another size, as bright as before: a mask over what averaging has made invisible would teach to see
    targets in noise. A target that becomes smaller than a pixel keeps the pixel that it covers most."""
    size = tuple(max(round(n * factor), 1) for n in target.shape)
    share = resize(target.astype(np.float32), size, "bilinear")
    small, mask = resize(patch, size, "bilinear"), share >= min(0.5, float(share.max()))
    peak = float(np.abs(small[mask]).max())
    return small * np.float32(np.abs(patch[target]).max() / max(peak, 1e-6)), mask


def _places(mask: np.ndarray, size: tuple[int, ...], rng: np.random.Generator) -> Iterator[tuple[slice, slice]]:
    """Windows of this size without a target in them; they carry the margin that keeps targets apart."""
    free = [n - m for n, m in zip(mask.shape, size, strict=True)]
    if min(free) < 0:
        return
    for _ in range(TRIES):
        y, x = (int(rng.integers(n + 1)) for n in free)
        window = slice(y, y + size[0]), slice(x, x + size[1])
        if not mask[window].any():
            yield window


def _gain(
    around: np.ndarray, patch: np.ndarray, target: np.ndarray, part: TransformPart, rng: np.random.Generator
) -> float | None:
    """What to multiply the contrast by; None where it would not be seen because the place is too bright."""
    gain = float(rng.uniform(*part.paste_gain))
    if not part.paste_scr:
        return gain
    clutter, contrast = float(around.mean(axis=2).std()), float(np.abs(patch[target]).mean())
    gain = max(gain, part.paste_scr * clutter / max(contrast, 1e-6))
    return gain if float((around + gain * patch)[target].mean()) <= 1 else None
