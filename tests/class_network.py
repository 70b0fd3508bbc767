"""Stand-in networks for class maps: small convolutions in numpy, and the same as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from motes.cards import METADATA_KEY, Card, InputSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("background", "red", "green", "blue")
RADIUS = 4  # of the convolutions, px
GROUND = 1.8  # logit of the background
CARD = Card(name="colours", task="aerial", classes=NAMES, input=InputSpec(mean=MEAN, std=STD, stride=8))


def kernels() -> np.ndarray:
    """[4, 3, 9, 9]: zeros for the background, then each colour minus the others, blurred by a lopsided kernel."""
    blur = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    blur /= blur.sum()
    mix = np.array([[0, 0, 0], [2, -1, -1], [-1, 2, -1], [-1, -1, 2]], np.float32)
    return mix[:, :, None, None] * blur


class Colours:
    """A backend in numpy: zero padding of `RADIUS` px as convolutions have it, and a coarse path of stride 8.

    ``coarse`` adds the means of 8x8 cells, which start at the window's corner: windows out of phase change the result.
    """

    def __init__(self, card: Card = CARD, coarse: float = 0.0) -> None:
        self.card, self.coarse = card, coarse
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        assert batch.dtype == np.float32 and not any(n % self.card.input.stride for n in batch.shape[2:])
        return np.stack([self._one(image) for image in batch])

    def _one(self, image: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(NAMES), *image.shape[1:]), np.float32)
        for k, channels in enumerate(kernels()):
            for plane, kernel in zip(image, channels, strict=True):
                logits[k] += cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
        logits[0] = GROUND
        if self.coarse:
            c, h, w = logits.shape
            cells = logits.reshape(c, h // 8, 8, w // 8, 8).mean((2, 4), keepdims=True)
            logits += self.coarse * np.broadcast_to(cells, (c, h // 8, 8, w // 8, 8)).reshape(c, h, w)
        return logits


def make_onnx(path: Path, card: Card | None = CARD) -> Path:
    """Writes `Colours` (without its coarse path); without the ``onnx`` package the test is skipped."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernels", "bias"], ["logits"], pads=[RADIUS] * 4)],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(NAMES), "height", "width"])],
        [
            numpy_helper.from_array(kernels(), "kernels"),
            numpy_helper.from_array(np.array([GROUND, 0, 0, 0], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, str(path))
    return path


def field(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """([H, W, 3] uint8 grey ground with red, green and blue rectangles and noise, [H, W] uint8 ids)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(90, 12, (height, width, 3))
    ids = np.zeros((height, width), np.uint8)
    for _ in range(max(3, height * width // 900)):
        k, y, x = int(rng.integers(1, 4)), int(rng.integers(height)), int(rng.integers(width))
        h, w = (int(v) for v in rng.integers(6, 16, 2))
        ids[y : y + h, x : x + w] = k
        image[y : y + h, x : x + w] = 60
        image[y : y + h, x : x + w, k - 1] = 200
    return np.clip(image, 0, 255).astype(np.uint8), ids
