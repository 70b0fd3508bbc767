"""The network of the GaoFen reference case, as a backend and as a file: two logit maps at a quarter of the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.cards import METADATA_KEY, Card, InputSpec

CARD = Card(
    name="toy",
    task="aerial",
    classes=("background", "target"),
    input=InputSpec(channels=3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), stride=4, min_size=4),
)


class ToyBackend:
    """Background: red, shifted right by one pixel; target: mean of green and blue; both averaged over 4 x 4 px."""

    card = CARD

    def run(self, batch: np.ndarray) -> np.ndarray:
        b, _, h, w = batch.shape
        red, green, blue = (batch[:, i] for i in range(3))
        shifted = np.zeros_like(red)
        shifted[..., 1:] = red[..., :-1]
        maps = np.stack([shifted, (green + blue) / 2], axis=1)
        return maps.reshape(b, 2, h // 4, 4, w // 4, 4).mean((3, 5))


def make_toy_onnx(path: Path, card: Card = CARD) -> Path:
    """The same network as an ``.onnx`` file with its card."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.zeros((2, 3, 3, 3), np.float32)
    kernel[0, 0, 1, 0] = 1
    kernel[1, 1:, 1, 1] = 0.5
    sides = ["batch", "channels", "height", "width"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["full"], pads=[1, 1, 1, 1]),
            helper.make_node("AveragePool", ["full"], ["logits"], kernel_shape=[4, 4], strides=[4, 4]),
        ],
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, str(path))
    return path
