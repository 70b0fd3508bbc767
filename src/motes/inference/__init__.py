"""Detection and class maps: backend + tiling + targets + writers + overlay.

The names below are imported when first used: reading a card needs neither OpenCV nor ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motes.inference.backend import Backend, list_weights, load_backend
    from motes.inference.box_detector import BoxDetector
    from motes.inference.detections import Detections
    from motes.inference.detector import Detector, detect
    from motes.inference.onnx_backend import OnnxBackend
    from motes.inference.onnx_card import read_onnx_card
    from motes.inference.openvino_backend import OpenVinoBackend
    from motes.inference.segmenter import Segmenter
    from motes.inference.targets import find_targets

_HOME = {
    "Backend": "backend",
    "BoxDetector": "box_detector",
    "Detections": "detections",
    "Detector": "detector",
    "OnnxBackend": "onnx_backend",
    "OpenVinoBackend": "openvino_backend",
    "Segmenter": "segmenter",
    "detect": "detector",
    "find_targets": "targets",
    "list_weights": "backend",
    "load_backend": "backend",
    "read_onnx_card": "onnx_card",
}
__all__ = [
    "Backend",
    "BoxDetector",
    "Detections",
    "Detector",
    "OnnxBackend",
    "OpenVinoBackend",
    "Segmenter",
    "detect",
    "find_targets",
    "list_weights",
    "load_backend",
    "read_onnx_card",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"motes.inference.{_HOME[name]}"), name)
    raise AttributeError(f"module 'motes.inference' has no attribute '{name}'")
