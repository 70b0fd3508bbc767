"""What "scored as in X" means for class maps: how a network sees an image, and at which size it is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from motes.errors import MotesError
from motes.naming import look_up


@dataclass(frozen=True)
class ClassProtocol:
    """How an image becomes a class map, and where it is compared with its label.

    Attributes:
        name: what the user types.
        title: one line for tables and reports.
        window: side of the sliding window in px; None = every image in one piece.
        stride: distance of neighbouring windows in px, at most ``window``.
        blend: ``mean`` = the plain mean of all windows over a pixel, the last window of an axis shifted back to end at
            the border (published); ``ramp`` = evenly spread windows whose weights pass linearly from one to the next
            and are 0 along inner borders, where a convolution sees its padding.
        padding: of windows whose sides are no multiple of the network's stride, at the right and bottom, after
            normalisation: ``zero`` (published) or ``reflect`` (as `motes.models.any_size`, so exported files agree).
        scales: each window is also resized by these factors (bilinear), and the probabilities are averaged.
        flip: each scale also mirrored left to right.
        average: what is averaged over scales and mirrored passes, ``probabilities`` or ``logits``.
        resolution: (H, W) that the image is resized to before all else; None = native size.
        image_filter: Pillow filter for that.
        scored_at: ``native`` size, or the ``resolution`` that the label is resized to as well (nearest).
        cut: (rule, patch, stride) by which whole images are cut into patches that are scored one by one; images that
            are patches already stay as they are. None = images are scored whole.
        source: whose rules these are.
    """

    name: str
    title: str
    window: int | None = 896
    stride: int = 512
    blend: Literal["mean", "ramp"] = "ramp"
    padding: Literal["zero", "reflect"] = "reflect"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    average: Literal["probabilities", "logits"] = "probabilities"
    resolution: tuple[int, int] | None = None
    image_filter: str = "bilinear"
    scored_at: Literal["native", "resolution"] = "native"
    cut: tuple[str, int, int] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.window is not None and not (self.window >= 1 and 1 <= self.stride <= self.window):
            raise MotesError(
                f"windows of {self.window} px every {self.stride} px do not cover an image",
                "the stride is 1 px at least and at most the window",
            )
        if not self.scales or not all(0.05 <= s <= 8 for s in self.scales):
            raise MotesError(
                f"scales {', '.join(f'{s:g}' for s in self.scales) or '(none)'}: expected factors from 0.05 to 8"
            )

    def replace(self, **changes: Any) -> ClassProtocol:
        """The same rules but for ``changes``; what is None is left as it is. The name says that they were changed."""
        changes = {k: v for k, v in changes.items() if v is not None and v != getattr(self, k)}
        if not changes:
            return self
        window = changes.get("window")
        if window and "stride" not in changes and self.stride > window:
            changes["stride"] = max(1, window * self.stride // (self.window or 896))
        return replace(self, name=self.name if self.name.endswith("*") else f"{self.name}*", **changes)


def class_protocol(name: str | ClassProtocol) -> ClassProtocol:
    """The protocol of that name; an unknown one raises :class:`MotesError` naming the nearest."""
    if isinstance(name, ClassProtocol):
        return name
    return CLASS_PROTOCOLS[look_up("protocol for class maps", name, CLASS_PROTOCOLS)]


CLASS_PROTOCOLS: dict[str, ClassProtocol] = {
    p.name: p
    for p in (
        ClassProtocol(
            "native",
            "whole images, 896/512 windows blended without seams",
            source="motes' default",
        ),
        ClassProtocol(
            "window",
            "whole images, 896/512 windows, mean of probabilities",
            blend="mean",
            padding="zero",
            source="FarSeg, FactSeg: the protocol of their iSAID tables",
        ),
        ClassProtocol(
            "multiscale",
            "whole images, 896/512 windows at scales 0.5, 1, 1.5, each also mirrored, mean of probabilities",
            blend="mean",
            padding="zero",
            scales=(0.5, 1.0, 1.5),
            flip=True,
            source="the usual test-time augmentation; the published systems report single-scale numbers",
        ),
        ClassProtocol(
            "patch",
            "every image as it is, in one piece (patches prepared on disk, overlaps counted repeatedly)",
            window=None,
            source="mmsegmentation, PaddleRS",
        ),
        ClassProtocol(
            "pfnet",
            "patches of rule split 896/512, each resized to 896x896 with its label, overlaps counted repeatedly",
            window=None,
            resolution=(896, 896),
            image_filter="bicubic",
            scored_at="resolution",
            cut=("split", 896, 512),
            source="PFNet (PointFlow)",
        ),
        ClassProtocol(
            "gaofen",
            "image resized to 512x512, also mirrored, mean of logits at native size",
            window=None,
            resolution=(512, 512),
            flip=True,
            average="logits",
            source="run.py of the GaoFen entries of PFNet-Jittor",
        ),
    )
}
"""Every named protocol. ``class_protocol(name)`` looks one up."""
