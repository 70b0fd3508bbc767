"""One side of the inference benchmark: a network loaded in one way, in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sides import answer

Run = Callable[[np.ndarray], np.ndarray]
"""[B, C, H, W] float32 -> logits [B, 1, H, W] float32."""


def authors(weights: Path, onnx: Path) -> Run:
    """The merged network as its authors run it: torch eager, float32, nothing else set."""
    import torch

    from motes.checkpoints import load_network

    net = load_network(weights)[0].eval()

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(batch)).numpy()

    return run


def torch_library(weights: Path, onnx: Path) -> Run:
    """Our torch backend inside somebody else's program, whose allocator it leaves alone."""
    from motes.checkpoints.backend import load_torch_backend

    return load_torch_backend(weights, device="cpu").run


def torch_command(weights: Path, onnx: Path) -> Run:
    """Our torch backend as ``motes evaluate`` and ``motes detect --backend torch`` run it: freed memory is kept."""
    from motes.models.allocator import keep_freed_memory

    keep_freed_memory()
    return torch_library(weights, onnx)


def onnxruntime(weights: Path, onnx: Path) -> Run:
    """The default of ``motes detect``."""
    from motes.inference import load_backend

    return load_backend(onnx).run


def openvino(weights: Path, onnx: Path) -> Run:
    """``motes detect --backend openvino``: float32, not its default precision."""
    from motes.inference import load_backend

    return load_backend(onnx, "openvino").run


SIDES = {f.__name__: f for f in (authors, torch_library, torch_command, onnxruntime, openvino)}


def main(name: str, folder: Path) -> None:
    weights, onnx = folder / "network.safetensors", folder / "network.onnx"
    run = SIDES[name](weights, onnx)
    random = np.random.default_rng(0)
    batches = {side: random.standard_normal((1, 3, side, side), np.float32) for side in (256, 512)}

    def timed(side: int) -> float:
        """Seconds of one frame, right after another one: the first finds the caches full of other sides."""
        run(batches[side])
        start = time.perf_counter()
        run(batches[side])
        return time.perf_counter() - start

    def probabilities(frames: str) -> str:
        """Writes the maps of prepared frames and returns the file's name."""
        from motes.inference.detector import sigmoid

        with np.load(folder / f"{frames}.npz") as inputs:
            maps = {key: sigmoid(run(inputs[key][None])[0, 0]) for key in inputs.files}
        file = folder / f"{frames}-{name}.npz"
        np.savez(file, **maps)
        return file.name

    answer({"timed": timed, "probabilities": probabilities})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
