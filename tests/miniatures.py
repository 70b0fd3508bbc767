"""Small data sets of any layout, made when a test asks for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motes.data.synthesize import write_dataset
from motes.data.synthetic_sets import LAYOUTS

MINIATURE_LAYOUTS = tuple(LAYOUTS)


def miniature(
    root: Path, layout: str = "plain", count: int = 5, *, size: tuple[int, int] = (64, 80), **options: Any
) -> Path:
    """Write ``count`` 8-bit frames (``bits=14`` for counts) with one or two bright targets each; returns ``root``.

    Five frames are three for training, one for validation and one for testing. ``options``: of ``write_dataset``.
    """
    defaults: dict[str, Any] = {"bits": 8, "targets": (1, 2), "snr": (20, 40), "kind": "sky"}
    write_dataset(root, layout, count, height=size[0], width=size[1], **(defaults | options))
    return root
