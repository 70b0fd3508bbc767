"""A stand-in network, one convolution that answers bright dots, and frames for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.cards import METADATA_KEY, Card, InputSpec

SPEC = InputSpec(channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), min_size=4, tile=512)
CARD = Card(
    name="spot",
    task="irstd",
    input=SPEC,
    calibration={"data": "none", "threshold": [0.1, 0.5, 0.9], "fa_per_mpx": [50.0, 5.0, 0.5], "pd": [1.0, 0.9, 0.8]},
)


def spot_kernel(channels: int = 3, gain: float = 60.0) -> np.ndarray:
    """[1, C, 7, 7]: mean of the middle 3x3 minus mean of the rim; radius 3 px."""
    kernel = np.zeros((7, 7), np.float32)
    kernel[[0, -1]] = kernel[:, [0, -1]] = -1 / 24
    kernel[2:5, 2:5] = 1 / 9
    return np.repeat(kernel[None, None] * (gain / channels), channels, axis=1)


def make_onnx(path: Path, card: Card | None = CARD, channels: int = 3, bias: float = -4.0, outputs: int = 1) -> Path:
    """Writes the stand-in network; without the ``onnx`` package the test is skipped."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["image", "pads"], ["padded"], mode="edge"),
            helper.make_node("Conv", ["padded", "kernel", "bias"], ["logits"]),
        ],
        "spot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs, "height", "width"])],
        [
            numpy_helper.from_array(np.array([0, 0, 3, 3, 0, 0, 3, 3]), "pads"),
            numpy_helper.from_array(np.repeat(spot_kernel(channels), outputs, axis=0), "kernel"),
            numpy_helper.from_array(np.full(outputs, bias, np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, str(path))
    return path


def sky(height: int, width: int, spots: list[tuple[int, int]], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """[H, W] smooth, slightly noisy sky with 3x3 spots centred at (x, y); for 16 bits 60 counts a grey level."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    frame = 60 + 8 * np.sin(x / 37) * np.cos(y / 29) + rng.normal(0, 0.6, (height, width))
    for cx, cy in spots:
        frame[cy - 1 : cy + 2, cx - 1 : cx + 2] += 90
    scale = 60 if np.dtype(dtype).itemsize > 1 else 1
    return np.round(frame * scale).astype(dtype)
