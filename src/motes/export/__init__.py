"""From a trained network to the file that runs in the field; every export ends in a parity report, or fails."""

from __future__ import annotations

from motes.export.boxes import BoxBounds, BoxParity, export_boxes
from motes.export.conversion import convert, convert_backbone
from motes.export.deployment import with_side, write_deployment
from motes.export.forms import change_form, reparameterize
from motes.export.onnx_file import export_onnx
from motes.export.parity import Bounds, ParityReport, frames_of, synthetic_tiles

__all__ = [
    "Bounds",
    "BoxBounds",
    "BoxParity",
    "ParityReport",
    "change_form",
    "convert",
    "convert_backbone",
    "export_boxes",
    "export_onnx",
    "frames_of",
    "reparameterize",
    "synthetic_tiles",
    "with_side",
    "write_deployment",
]
