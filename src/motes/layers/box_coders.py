"""What a head predicts instead of a box, both ways: deltas to an anchor, distances from a point. All in px, xyxy."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Size = tuple[Any, Any]


class DeltaCoder:
    """Shift of the centre in units of the anchor's sides, and logarithm of the ratio of the sides (R-CNN).

    Args:
        stds: what (dx, dy, dw, dh) are divided by.
        ratio_clip: decoded sides are between ratio_clip and 1 / ratio_clip of the anchor's; None: no limit.
        shift_clip: px the centre may move at most, and then sides are limited from above only (YOLOF).
    """

    def __init__(
        self,
        stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        ratio_clip: float | None = 16 / 1000,
        shift_clip: float | None = None,
    ) -> None:
        self.stds = tuple(float(s) for s in stds)
        self.ratio_clip, self.shift_clip = ratio_clip, shift_clip

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Deltas [..., 4] that turn ``priors`` [..., 4] into ``boxes`` [..., 4]; boxes have positive sides."""
        centre, side = centre_and_side(priors)
        box_centre, box_side = centre_and_side(boxes)
        deltas = torch.cat(((box_centre - centre) / side, torch.log(box_side / side)), -1)
        return deltas / deltas.new_tensor(self.stds)

    def decode(self, priors: Tensor, deltas: Tensor, size: Size | None = None) -> Tensor:
        """Boxes [..., 4]; ``size`` (h, w): clipped to the image. The leading axes are broadcast."""
        deltas = deltas * deltas.new_tensor(self.stds)
        centre, side = centre_and_side(priors)
        shift, ratio = deltas[..., :2] * side, deltas[..., 2:]
        limit = math.inf if self.ratio_clip is None else abs(math.log(self.ratio_clip))
        if self.shift_clip is not None:
            shift = shift.clamp(-self.shift_clip, self.shift_clip)
            ratio = ratio.clamp(max=limit)
        elif self.ratio_clip is not None:
            ratio = ratio.clamp(-limit, limit)
        half = side * ratio.exp() / 2
        centre = centre + shift
        return clipped(torch.cat((centre - half, centre + half), -1), size)


def boxes_from_distances(points: Tensor, distances: Tensor, size: Size | None = None) -> Tensor:
    """Boxes [..., 4] from points [..., 2] and distances to the left, top, right and bottom side [..., 4]."""
    return clipped(torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1), size)


def distances_to(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances l, t, r, b [..., 4] of points [..., 2] to the sides of boxes [..., 4]; negative outside."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), -1)


def clipped(boxes: Tensor, size: Size | None) -> Tensor:
    """Boxes [..., 4] cut to an image of ``size`` (h, w), numbers or scalar tensors; None: as they are."""
    if size is None:
        return boxes
    h, w = (torch.as_tensor(n, dtype=boxes.dtype, device=boxes.device) for n in size)
    limit = torch.stack((w, h, w, h))
    return torch.minimum(boxes.clamp(min=0), limit)


def centre_and_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(cx, cy) and (w, h), [..., 2] each."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
