"""What "scored as in X" means, as data: one :class:`Protocol` a published evaluation code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from motes.errors import MotesError
from motes.naming import look_up


@dataclass(frozen=True)
class Protocol:
    """The rules under which a set of probability maps becomes numbers.

    Thresholds are strict (``probability > threshold``), components 8-connected, centroids unweighted.

    Attributes:
        name: what the user types.
        title: one line for tables and reports.
        resolution: (H, W) that image and mask are resized to BEFORE scoring, by the caller; None = native size.
        image_filter: Pillow filter for the image where ``resolution`` is given.
        mask_filter: Pillow filter for the mask where ``resolution`` is given.
        threshold: for pixel metrics (IoU, nIoU, precision, recall, F1).
        target_threshold: for components (Pd, Fa, hIoU).
        matching: which predicted component belongs to which target: ``greedy`` (each target in raster order takes the
            first free component whose centroid is nearer than ``distance``), ``opdc`` (overlap first, then distance,
            both by assignment), ``diameter`` (each component hits the first target whose centroid is nearer than half
            its equivalent diameter), ``shooting`` (any predicted pixel in the 3x3 neighbourhood of a target's pixels).
        distance: centroid distance in px of the scored resolution; strict.
        overlap: IoU from which ``opdc`` pairs by overlap.
        false_alarms: which pixels are false alarms: ``unmatched`` components; ``membership`` = unmatched components
            except those whose area equals that of a matched one in the same image; ``far`` = predicted pixels more
            than 4 px from any target.
        phantoms: count one false alarm in images without prediction and one miss in images without target (a defect
            kept only to reproduce published numbers).
        niou_empty: images with neither target nor prediction are left out of nIoU (``exclude``) or count as 0
            (``zero``).
        pixel_zero: value of a pixel metric whose denominator is 0.
        target_zero: value of a target metric whose denominator is 0.
        fa_needs_targets: Fa has no value over images without any target (the authors' code raises).
        epsilon: added to the denominators of precision and recall.
        f1_epsilon: added to the denominator of F1.
        roc_thresholds: thresholds of the pixel ROC; None = some 3,300 levels, uniform in log-odds, ends closed.
        roc_epsilon: added to the denominators of the ROC's rates and of the precision along the curve.
        source: whose rules these are.
    """

    name: str
    title: str
    resolution: tuple[int, int] | None = None
    image_filter: str = "bilinear"
    mask_filter: str = "nearest"
    threshold: float = 0.5
    target_threshold: float = 0.5
    matching: Literal["greedy", "opdc", "diameter", "shooting"] = "greedy"
    distance: float = 3.0
    overlap: float = 0.5
    false_alarms: Literal["unmatched", "membership", "far"] = "unmatched"
    phantoms: bool = False
    niou_empty: Literal["exclude", "zero"] = "zero"
    pixel_zero: float | None = 0.0
    target_zero: float | None = None
    fa_needs_targets: bool = False
    epsilon: float = 0.0
    f1_epsilon: float = 0.0
    roc_thresholds: tuple[float, ...] | None = None
    roc_epsilon: float = 0.0
    source: str = ""

    def at(self, threshold: float) -> Protocol:
        """The same rules with another threshold for pixels and targets alike."""
        if not 0 <= threshold < 1:
            raise MotesError(f"threshold {threshold:g} is outside 0 <= T < 1", "it is compared as probability > T")
        return replace(self, threshold=threshold, target_threshold=threshold)


def protocol(name: str | Protocol) -> Protocol:
    """The protocol of that name; an unknown one raises :class:`MotesError` naming the nearest."""
    return name if isinstance(name, Protocol) else PROTOCOLS[look_up("protocol", name, PROTOCOLS)]


_TENTHS = tuple(i / 10 for i in range(11))

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "native",
            "native size, exact false-alarm area, nothing counted that is not there",
            niou_empty="exclude",
            pixel_zero=None,
            source="motes' default; Pd and Fa are those of BasicIRSTD and of pyirstdmetrics' basic class",
        ),
        Protocol(
            "acm",
            "ACM and ALCNet: 512x512, IoU pooled, nIoU the mean over images",
            resolution=(512, 512),
            source="open-acm and acm-pytorch (no target metrics there: Pd and Fa by the native rules)",
        ),
        Protocol(
            "serankdet",
            "SeRankDet and ABC toolbox: 512x512, Fa by area membership",
            resolution=(512, 512),
            false_alarms="membership",
            epsilon=1e-3,
            f1_epsilon=1e-5,
            roc_thresholds=_TENTHS,
            roc_epsilon=1e-3,
            source="SeRankDet, ABC utils/metric.py (256x256 for NUDT-SIRST and SIRST-AUG)",
        ),
        Protocol(
            "dnanet",
            "DNANet: 256x256, Fa by area membership",
            resolution=(256, 256),
            false_alarms="membership",
            epsilon=1e-3,
            f1_epsilon=1e-5,
            roc_thresholds=_TENTHS,
            roc_epsilon=1e-3,
            source="DNANet model/metric.py; copied by MSHNet, SCTransNet, DRPCA-Net",
        ),
        Protocol(
            "basicirstd",
            "BasicIRSTD: native size, exact false-alarm area",
            fa_needs_targets=True,
            source="BasicIRSTD metrics.py",
        ),
        Protocol(
            "repisdnet",
            "RepISD-Net: 256x256, IoU at 0.5, Pd and Fa at 0.9, Fa by area membership",
            resolution=(256, 256),
            target_threshold=0.9,
            false_alarms="membership",
            source="RepISD-Net utils/metrics.py",
        ),
        Protocol(
            "pyirstdmetrics",
            "pyirstdmetrics 1.0.2, OPDC matching with its phantom counts",
            matching="opdc",
            phantoms=True,
            target_zero=0.0,
            source="PyIRSTDMetrics 1.0.2, class MatchingBasedMetrics with OPDC",
        ),
        Protocol(
            "hiou",
            "hIoU paper: OPDC matching, no phantom counts",
            matching="opdc",
            niou_empty="exclude",
            pixel_zero=None,
            source="Rethinking Evaluation of Infrared Small Target Detection, NeurIPS 2025, arXiv 2509.16888",
        ),
        Protocol(
            "agpcnet",
            "AGPCNet: 256x256, pixel metrics and the area under 201 ROC points",
            resolution=(256, 256),
            epsilon=2.2e-16,
            f1_epsilon=2.2e-16,
            roc_thresholds=tuple(i / 200 for i in range(201)),
            roc_epsilon=1e-3,
            source="AGPCNet utils/metrics.py (no target metrics there: Pd and Fa by the native rules)",
        ),
        Protocol(
            "mtunet",
            "MTU-Net: 1024x1024, a component hits a target within half its diameter",
            resolution=(1024, 1024),
            matching="diameter",
            false_alarms="membership",
            source="MTU-Net model/metric.py",
        ),
        Protocol(
            "shooting-rule",
            "shooting rule: hit within 1 px, false alarm beyond 4 px",
            matching="shooting",
            false_alarms="far",
            target_zero=0.0,
            source="DTUM (TNNLS 2023), as in pyirstdmetrics",
        ),
    )
}
"""Every named protocol. ``protocol(name)`` looks one up."""
