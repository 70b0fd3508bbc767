"""motes: finds targets only a few pixels wide.

The names below are imported when first used, so that ``import motes`` costs nothing.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Detections": "motes.inference",
    "Detector": "motes.inference",
    "detect": "motes.inference",
    "create_model": "motes.models",
    "list_models": "motes.cards",
    "model_card": "motes.cards",
}
__all__ = ["Detections", "Detector", "__version__", "create_model", "detect", "list_models", "model_card"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'motes' has no attribute '{name}'")
