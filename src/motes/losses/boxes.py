"""Losses of detectors, element by element; ``weighted_mean`` makes a number of them. Box losses take xyxy px."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.layers.box_overlap import aligned_iou

EPSILON = float(torch.finfo(torch.float32).eps)
"""1.19e-7, added to what sums are divided by, as published."""


def weighted_mean(loss: Tensor, weight: Tensor | None = None, total: Tensor | float | None = None) -> Tensor:
    """sum(loss * weight) / (total + 1.19e-7), a scalar; ``total``: default the number of elements.

    An empty ``loss`` gives 0 that is still connected to what it was made of.
    """
    if weight is not None:
        loss = loss * weight
    if total is None:
        total = max(loss.numel(), 1)
    return loss.sum() / (total + EPSILON)


def sigmoid_focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 5); ``targets`` 0 or 1, of the shape of ``logits``."""
    p = logits.sigmoid()
    miss = torch.where(targets > 0, 1 - p, p)
    share = torch.where(targets > 0, alpha, 1 - alpha)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none") * share * miss**gamma


def focal_on_probabilities(p: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """:func:`sigmoid_focal` where the network gives probabilities."""
    miss = torch.where(targets > 0, 1 - p, p)
    share = torch.where(targets > 0, alpha, 1 - alpha)
    return F.binary_cross_entropy(p, targets.to(p.dtype), reduction="none") * share * miss**gamma


def quality_focal(logits: Tensor, quality: Tensor, positive: Tensor | None = None, beta: float = 2.0) -> Tensor:
    """|q - p|^beta * BCE(p, q) with the quality (IoU) ``q`` in [0, 1] at positives, 0 elsewhere (Li et al. 2020, QFL).

    ``positive``: where ``quality`` counts; default: everywhere, ``quality`` being 0 at the background.
    """
    quality = quality if positive is None else torch.where(positive, quality, 0.0)
    loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return loss * (quality - logits.sigmoid()).abs() ** beta


def quality_focal_on_probabilities(p: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """:func:`quality_focal` where the network gives probabilities."""
    return F.binary_cross_entropy(p, quality, reduction="none") * (quality - p).abs() ** beta


def distribution_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the two whole numbers around ``targets`` [N], weighted by nearness: [N] (Li et al. 2020, DFL).

    ``logits`` [N, n + 1] are of the values 0..n; targets are below n.
    """
    low = targets.detach().floor().long()
    far = targets - low
    return (
        F.cross_entropy(logits, low, reduction="none") * (1 - far)
        + F.cross_entropy(logits, low + 1, reduction="none") * far
    )


def varifocal(logits: Tensor, quality: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """BCE(p, q) weighted by q at positives (q > 0) and by alpha * p^gamma elsewhere (Zhang et al. 2021, equation 2)."""
    p = logits.sigmoid()
    weight = torch.where(quality > 0, quality, alpha * (p - quality).abs() ** gamma)
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight


def giou_loss(boxes: Tensor, targets: Tensor, eps: float = 1e-7) -> Tensor:
    """1 - GIoU of boxes [N, 4]: [N] in [0, 2]."""
    return 1 - aligned_iou(boxes, targets, "giou", eps)


def iou_loss(boxes: Tensor, targets: Tensor, mode: str = "log", eps: float = 1e-6) -> Tensor:
    """-ln IoU (``mode`` "log", UnitBox) or 1 - IoU ("linear") of boxes [N, 4]: [N]; the IoU is at least ``eps``."""
    overlap = aligned_iou(boxes, targets, eps=1e-6).clamp(min=eps)
    return -overlap.log() if mode == "log" else 1 - overlap


def smooth_l1(predictions: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) below ``beta``, d - beta / 2 above; ``beta`` 0: the plain difference d."""
    d = (predictions - targets).abs()
    return torch.where(d < beta, d * d / (2 * beta), d - beta / 2) if beta > 0 else d


def balanced_l1(
    predictions: Tensor, targets: Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0
) -> Tensor:
    """L1 whose gradient grows towards small differences (Pang et al. 2019, equation 10)."""
    d = (predictions - targets).abs()
    b = math.e ** (gamma / alpha) - 1
    small = alpha / b * (b * d + 1) * torch.log(b * d / beta + 1) - alpha * d
    return torch.where(d < beta, small, gamma * d + gamma / b - alpha * beta)


def gaussian_focal(
    logits: Tensor,
    heat: Tensor,
    positive: Tensor,
    positive_weight: float = 0.25,
    negative_weight: float = 0.75,
    alpha: float = 2.0,
    gamma: float = 4.0,
) -> Tensor:
    """Focal loss of a heat map: -(1 - p)^alpha ln p at ``positive`` (bool), -p^alpha (1 - heat)^gamma ln(1 - p).

    The second term counts everywhere, at positives too (CenterNet2; there ``heat`` is 1 in the centre alone).
    """
    p = logits.sigmoid()
    hit = (1 - p) ** alpha * F.softplus(-logits) * positive
    miss = p**alpha * (1 - heat) ** gamma * F.softplus(logits)
    return positive_weight * hit + negative_weight * miss
