"""Augmentation of a frame and its boxes, as a function of a random generator.

Sizes and mirrors change a `Scene`: 8-bit frames as the counts they are, as published, all others scaled by their card
before ([0, 1], float32). A box keeps its label as long as its centre is in view, and is cut at the border.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from motes.data.copy_paste import Patch, choose_patches, cut_patches, paste
from motes.imaging import resize
from motes.training.recipe import TransformPart


@dataclass(frozen=True)
class Scene:
    """A frame with what is known of it.

    Attributes:
        pixels: [H, W, C].
        boxes: [N, 4] float32 xyxy px, half-open.
        labels: [N] int64.
        sky: [H, W] uint8, 1 sky, 0 other, 255 not known; None where there is no map.
        mask: [H, W] bool, pixels of targets; None where nothing asks for it.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    sky: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    def mapped(self, change: Callable[[np.ndarray], np.ndarray], boxes: np.ndarray) -> Scene:
        """Pixels, sky and mask changed alike."""
        sky, mask = (None if plane is None else change(plane) for plane in (self.sky, self.mask))
        return replace(self, pixels=change(self.pixels), boxes=boxes.astype(np.float32), sky=sky, mask=mask)


def augment_boxes(
    scene: Scene, part: TransformPart, rng: np.random.Generator, donor: Callable[[], Scene] | None = None
) -> Scene:
    """A view of the scene: squeezed to ``resize``, mirrored, targets pasted, magnified, cut, turned; in this order.

    Args:
        donor: gives another frame, whose targets are pasted after it was squeezed and mirrored by itself.
    """
    scene = _squeezed_and_mirrored(scene, part, rng)
    if donor is not None and part.paste and rng.random() < part.paste:
        scene = pasted(scene, _patches(_squeezed_and_mirrored(donor(), part, rng)), part, rng)
    low, high = np.log(part.scale)
    factor = float(np.exp(rng.uniform(low, high)))
    if factor != 1:
        scene = resized(scene, tuple(max(round(n * factor), 1) for n in scene.size))
    if part.fit == "crop":
        scene = cropped(scene, part.crop, part.centred, rng)
    if part.rotate:
        scene = turned(scene, int(rng.integers(4)))
    return scene


def _squeezed_and_mirrored(scene: Scene, part: TransformPart, rng: np.random.Generator) -> Scene:
    if part.resize is not None:
        scene = resized(scene, part.resize)
    return mirrored(scene) if rng.random() < part.flip else scene


def pasted(scene: Scene, patches: list[Patch], part: TransformPart, rng: np.random.Generator) -> Scene:
    """The scene with some of the patches in it, as ``paste_mode`` says."""
    chosen = choose_patches(patches, rng, part.pasted)
    assert scene.mask is not None, "scenes are read with masks where targets are pasted"
    sky = None if scene.sky is None else scene.sky == 1
    done = paste(scene.pixels, scene.boxes, scene.labels, scene.mask, chosen, rng, part.paste_mode, sky)
    return replace(scene, pixels=done.pixels, boxes=done.boxes, labels=done.labels, mask=done.mask)


def _patches(scene: Scene) -> list[Patch]:
    return cut_patches(scene.pixels, scene.boxes, scene.labels, scene.mask)


def resized(scene: Scene, size: tuple[int, ...]) -> Scene:
    """The scene at ``size`` (h, w), whatever its sides' relation was; maps by their nearest pixels."""
    height, width = size[0], size[1]
    if scene.size == (height, width):
        return scene
    ratio = np.array([width / scene.size[1], height / scene.size[0]] * 2, np.float32)
    small = scene.mapped(lambda plane: resize(plane, (height, width), "nearest"), scene.boxes * ratio)
    boxes = small.boxes.clip(0, np.array([width, height] * 2, np.float32))
    return replace(small, pixels=resize(scene.pixels, (height, width), "bilinear"), boxes=boxes)


def mirrored(scene: Scene) -> Scene:
    """Left and right exchanged."""
    x1, y1, x2, y2 = scene.boxes.T
    width = scene.size[1]
    return scene.mapped(lambda plane: plane[:, ::-1], np.stack([width - x2, y1, width - x1, y2], axis=1))


def turned(scene: Scene, turns: int) -> Scene:
    """Turned counter-clockwise by ``turns`` * 90 degrees."""
    for _ in range(turns % 4):
        x1, y1, x2, y2 = scene.boxes.T
        width = scene.size[1]
        scene = scene.mapped(np.rot90, np.stack([y1, width - x2, y2, width - x1], axis=1))
    return scene


def cropped(scene: Scene, side: int, centred: float, rng: np.random.Generator) -> Scene:
    """A window of at most ``side`` x ``side`` px, which holds the centre of a random box with chance ``centred``."""
    pick = int(rng.integers(len(scene.boxes))) if len(scene.boxes) and rng.random() < centred else None
    corner = []
    for axis, n in ((1, scene.size[0]), (0, scene.size[1])):
        low, high = 0, max(n - side, 0)
        if pick is not None:
            at = int(scene.boxes[pick, axis::2].mean())
            low = min(max(at - side + 1, 0), high)
            high = max(min(at, high), low)
        corner.append(int(rng.integers(low, high + 1)))
    y, x = corner
    window = slice(y, y + side), slice(x, x + side)
    cut = scene.mapped(lambda plane: plane[window], scene.boxes - np.array([x, y, x, y], np.float32))
    height, width = cut.size
    centres = (cut.boxes[:, :2] + cut.boxes[:, 2:]) / 2
    seen = ((centres >= 0) & (centres < [width, height])).all(axis=1)
    boxes = cut.boxes[seen].clip(0, np.array([width, height] * 2, np.float32))
    return replace(cut, boxes=boxes, labels=cut.labels[seen])
