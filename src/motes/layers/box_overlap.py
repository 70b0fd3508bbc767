"""How much boxes overlap. Boxes are [N, 4] xyxy in px, half-open: x2 - x1 is the width."""

from __future__ import annotations

import torch
from torch import Tensor

from motes.naming import look_up

KINDS = ("iou", "giou")
SMALLEST_UNION = 1e-6
"""px^2; what pairs are divided by at least, as published: it decides which of several poor overlaps are equal."""


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of ``a`` [N, 4] with every one of ``b`` [M, 4]: [N, M] in [0, 1]."""
    inside = intersection(a[:, None], b[None])
    return inside / (area(a)[:, None] + area(b)[None] - inside).clamp(min=SMALLEST_UNION)


def aligned_iou(a: Tensor, b: Tensor, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """IoU or GIoU of box i of ``a`` with box i of ``b``, both [..., 4]: [...].

    GIoU (Rezatofighi et al. 2019) subtracts the empty share of the box around both, so it is in [-1, 1] and has a
    gradient where boxes do not meet. ``eps``: px^2 that union and surrounding box have at least.
    """
    look_up("overlap", kind, KINDS)
    inside = intersection(a, b)
    union = (area(a) + area(b) - inside).clamp(min=eps)
    if kind == "iou":
        return inside / union
    around = sides(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])).prod(-1)
    around = around.clamp(min=eps)
    return inside / union - (around - union) / around


def area(boxes: Tensor) -> Tensor:
    """px^2 of boxes [..., 4]; negative where one side is inverted, as published."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """px^2 that boxes share; the leading axes are broadcast."""
    return sides(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])).prod(-1)


def sides(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0)
