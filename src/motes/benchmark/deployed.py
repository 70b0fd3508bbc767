"""Inference from an exported file alone, as a program: ``python -P deployed.py NET.onnx FRAMES.npz FOUND.npz``.

It is run in a process of its own, where PyTorch cannot be imported, because that is where the file will be run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def infer(model: Path, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Finds targets, or the classes, in ``frames`` [N, H, W, C] (counts).

    Returns:
        ``logits`` [N, K, H, W] of all frames as one batch; ``probability`` [N, H, W] of each frame on its own;
        ``centroids<i>`` [n, 2] (x, y) px of the targets in frame i. Of a network with classes: ``logits`` and
        ``labels`` [N, H, W] uint8 of each frame on its own. Of a detector: see `boxes`.
    """
    from motes.imaging import network_input
    from motes.inference import Detector, OnnxBackend
    from motes.inference.detector import pad_to

    backend = OnnxBackend(model)
    if backend.card.task == "detection":
        return boxes(backend, frames)
    spec = backend.card.input
    height, width = frames.shape[1:3]
    batch = np.stack([network_input(f, spec) for f in frames])
    logits = backend.run(pad_to(batch, spec.stride, spec.min_size))[..., :height, :width]
    if backend.card.task == "aerial":
        from motes.inference import Segmenter

        segmenter = Segmenter(backend=backend)
        return {"logits": logits, "labels": np.stack([segmenter.labels(f) for f in frames])}
    detector = Detector(backend=backend)
    probability = np.stack([detector.probability(f) for f in frames])
    targets = [detector.find(p, f) for p, f in zip(probability, frames, strict=True)]
    return {
        "logits": logits,
        "probability": probability,
        **{f"centroids{i}": found.centroids for i, found in enumerate(targets)},
    }


def boxes(backend: Any, frames: np.ndarray) -> dict[str, np.ndarray]:
    """``boxes<i>`` [N, 4] px, ``scores<i>`` and ``labels<i>`` [N] of frame i, ``sky<i>`` [H, W] where it is said."""
    from motes.inference.box_detector import BoxDetector

    detector = BoxDetector(backend=backend)
    found = [detector.boxes(f)._asdict() for f in frames]
    return {f"{k}{i}": v for i, one in enumerate(found) for k, v in one.items() if v is not None}


if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]  # importing it is an error from here on
    network, given, found = map(Path, sys.argv[1:])
    with np.load(given) as arrays:
        np.savez(found, **infer(network, arrays["frames"]))  # type: ignore[arg-type]
