"""Numpy accumulators that can be merged: ``update()``, ``merge()``, ``compute()`` under named protocols."""

from motes.metrics.box_protocols import BOX_PROTOCOLS, BoxProtocol, box_protocol
from motes.metrics.box_score import BoxScore
from motes.metrics.class_protocols import CLASS_PROTOCOLS, ClassProtocol, class_protocol
from motes.metrics.class_score import ClassScore
from motes.metrics.components import Components, components
from motes.metrics.curves import PixelCurve, TargetCurve
from motes.metrics.protocols import PROTOCOLS, Protocol, protocol
from motes.metrics.report import results_table, write_metrics, write_per_image
from motes.metrics.segmentation import SegmentationScore, Value

__all__ = [
    "BOX_PROTOCOLS",
    "CLASS_PROTOCOLS",
    "PROTOCOLS",
    "BoxProtocol",
    "BoxScore",
    "ClassProtocol",
    "ClassScore",
    "Components",
    "PixelCurve",
    "Protocol",
    "SegmentationScore",
    "TargetCurve",
    "Value",
    "box_protocol",
    "class_protocol",
    "components",
    "protocol",
    "results_table",
    "write_metrics",
    "write_per_image",
]
