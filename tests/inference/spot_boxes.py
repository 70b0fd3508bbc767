"""A detector that finds bright pixels, without weights."""

from __future__ import annotations

import numpy as np

from motes.cards import Card, InputSpec

CARD = Card("spots", "detection", input=InputSpec(channels=1, stride=32, tile=96), threshold=0.3)


class Spots:
    """Finds every pixel of full scale as a box of 4x4 px around it, half of them a level; sky is above row 40."""

    def __init__(self, card: Card = CARD, sky: bool = True) -> None:
        self.card, self.sky, self.shapes = card, sky, []

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.shapes.append(batch.shape)
        rows, columns = np.nonzero(batch[0, 0] > 0.9)
        boxes = np.stack([columns - 1.5, rows - 1.5, columns + 2.5, rows + 2.5], axis=1)[None].astype(np.float32)
        count = len(rows)
        found = {
            "boxes": boxes,
            "scores": np.full((1, count, 1), 0.8, np.float32),
            "factors": np.full((1, count), 0.5, np.float32),
            "levels": np.array([count // 2, count - count // 2]),
        }
        if self.sky:
            found["sky"] = np.where(np.arange(batch.shape[2]) < 40, 5.0, -5.0)[None, None, :, None].repeat(
                batch.shape[3], axis=3
            )
        return found


def frame(height: int, width: int, spots: list[tuple[int, int]]) -> np.ndarray:
    pixels = np.full((height, width), 20, np.uint8)
    pixels[::2, ::2] = 24
    for row, column in spots:
        pixels[row, column] = 255
    return pixels
