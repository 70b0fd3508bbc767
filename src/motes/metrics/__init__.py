"""Numpy accumulators that can be merged: ``update()``, ``merge()``, ``compute()`` under named protocols."""

from motes.metrics.components import Components, components
from motes.metrics.curves import PixelCurve, TargetCurve
from motes.metrics.protocols import PROTOCOLS, Protocol, protocol
from motes.metrics.report import results_table, write_metrics, write_per_image
from motes.metrics.segmentation import SegmentationScore, Value

__all__ = [
    "PROTOCOLS",
    "Components",
    "PixelCurve",
    "Protocol",
    "SegmentationScore",
    "TargetCurve",
    "Value",
    "components",
    "protocol",
    "results_table",
    "write_metrics",
    "write_per_image",
]
