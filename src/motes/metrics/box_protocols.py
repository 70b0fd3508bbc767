"""What "scored as in X" means for boxes, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from motes.errors import MotesError
from motes.naming import look_up


@dataclass(frozen=True)
class BoxProtocol:
    """The rules under which boxes become numbers.

    Attributes:
        name: what the user types.
        title: one line for tables and reports.
        plus_one: widths are x2 - x1 + 1 in the IoU of ``map07``, ``map12``, ``recall`` and ``precision``, for truths
            and detections alike, although boxes are half-open.
        reader: how VOC files are read, of `motes.data.annotations.READERS`. ``deepir`` moves the truth.
        resolution: (H, W) that images are resized to before the network sees them; boxes come back in px of the
            original. None = native size.
        image_filter: Pillow filter for that.
        iou: overlap from which a detection is a hit in VOC's rule; inclusive.
        threshold: score from which a detection counts in Pd and Fa; inclusive.
        distance: of the centres in px, below which a detection hits in Pd, Fa and ``centre_ap``; strict.
        most: detections of an image and class that COCO's rule looks at.
        zero: value of a metric without any truth.
        source: whose rules these are.
    """

    name: str
    title: str
    plus_one: bool = False
    reader: str = "exact"
    resolution: tuple[int, int] | None = None
    image_filter: str = "bilinear"
    iou: float = 0.5
    threshold: float = 0.5
    distance: float = 3.0
    most: int = 100
    zero: float | None = None
    source: str = ""

    def at(self, threshold: float) -> BoxProtocol:
        """The same rules with another score threshold for Pd and Fa."""
        if not 0 <= threshold <= 1:
            raise MotesError(f"threshold {threshold:g} is outside 0 to 1", "it is compared as score >= T")
        return replace(self, threshold=threshold)

    def overlapping(self, iou: float) -> BoxProtocol:
        """The same rules with another IoU for VOC's numbers."""
        if not 0 < iou <= 1:
            raise MotesError(f"IoU {iou:g} is outside 0 to 1")
        return replace(self, iou=iou)


def box_protocol(name: str | BoxProtocol) -> BoxProtocol:
    """The protocol of that name (``native`` is ``exact``); an unknown one raises :class:`MotesError`."""
    if isinstance(name, BoxProtocol):
        return name
    name = "exact" if name == "native" else name
    return BOX_PROTOCOLS[look_up("protocol for boxes", name, BOX_PROTOCOLS)]


BOX_PROTOCOLS: dict[str, BoxProtocol] = {
    p.name: p
    for p in (
        BoxProtocol("exact", "true half-open boxes, native size", source="motes' default"),
        BoxProtocol(
            "deepir",
            "BAFE-Net's table: 512x512, corners read minus 1, widths plus 1",
            plus_one=True,
            reader="deepir",
            resolution=(512, 512),
            zero=0.0,
            source="BAFE-Net's package deepir on mmdetection 3.3 (VOCMetric)",
        ),
    )
}
"""Every named protocol. ``box_protocol(name)`` looks one up."""
