"""What every detector is asked for in the tests: targets, training, export."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def targets_of(
    boxes: Sequence[Sequence[Sequence[float]]], size: tuple[int, int], images: int
) -> list[dict[str, Tensor]]:
    """Targets as the reference losses were computed with: image k has the boxes k mod len(boxes), and its sky map.

    The sky is the upper half of the first image and the upper third of the second; 4x4 px at the lower right are
    ignored.
    """
    height, width = size
    found = []
    for k in range(images):
        own = torch.tensor(boxes[k % len(boxes)], dtype=torch.float32).reshape(-1, 4)
        sky = torch.zeros(height, width, dtype=torch.uint8)
        sky[: height // (2 + k % 2)] = 1
        sky[-4:, -4:] = 255
        found.append({"boxes": own, "labels": torch.zeros(len(own), dtype=torch.int64), "sky": sky})
    return found


def check_training(net: nn.Module, size: tuple[int, int] = (64, 96), images: int = 2) -> dict[str, float]:
    """One step on a batch whose last image has no target: finite losses, and a gradient for all that is trained."""
    torch.manual_seed(0)
    boxes = [[[20.0, 30, 27, 38], [60, 14, 66, 20], [50, 20, 53, 23]], []]
    net.train()
    losses = net(torch.randn(images, 3, *size), targets_of(boxes, size, images))
    assert all(v.ndim == 0 for v in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values()), losses
    trained = {n: p.grad for n, p in net.named_parameters() if p.requires_grad}
    assert not [n for n, g in trained.items() if g is None]
    assert not [n for n, g in trained.items() if not torch.isfinite(g).all()]
    return {k: float(v.detach()) for k, v in losses.items()}


def check_export(
    net: nn.Module,
    shapes: Sequence[tuple[int, int, int]] = ((1, 96, 64), (2, 64, 128)),
    example: tuple[int, int, int] = (2, 64, 96),
    limit: float = 1e-4,
    opset: int = 17,
) -> None:
    """ONNX Runtime gives the candidates that torch gives, for other batches and sizes than the example's.

    Args:
        net: the network.
        shapes: (images, height, width) to compare on.
        example: what is traced.
        limit: largest difference relative to the largest value of each output.
        opset: of ONNX.
    """
    import onnxruntime

    net = net.eval()
    channels = net.card.input.channels
    torch.manual_seed(1)
    names = list(net.candidates(torch.randn(1, channels, *example[1:])))
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Candidates(net).eval(),  # the exporter leaves all parts in the mode of the whole
            (torch.randn(example[0], channels, *example[1:]),),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=names,
            dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    for images, h, w in shapes:
        x = torch.randn(images, channels, h, w)
        with torch.inference_mode():
            expected = net.candidates(x)
        for name, value in zip(names, session.run(names, {"image": x.numpy()}), strict=True):
            wanted: Any = expected[name].numpy()
            assert value.shape == wanted.shape, name
            assert np.abs(value - wanted).max() <= limit * max(1.0, np.abs(wanted).max()), name


class Candidates(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.net.candidates(images).values())
