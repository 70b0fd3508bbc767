"""Which anchors of a box are likely to learn it: a mixture of two normal distributions of their losses (PAA).

Kim, Lee, "Probabilistic Anchor Assignment with IoU Prediction for Object Detection", ECCV 2020, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

STEPS = 100
TOLERANCE = 1e-3
SMALLEST_VARIANCE = 1e-6


@torch.no_grad()
def likely_positives(losses: Tensor, index: Tensor, boxes: int, sizes: Sequence[int], best: int = 9) -> Tensor:
    """Which anchors stay positive, bool [P].

    Of every box and level the ``best`` anchors of smallest loss are candidates. Two normals are fitted to a box's
    candidates; of those that belong to the first one (its start is the smallest loss) the densest is the cut: it and
    those of smaller loss stay. A box with fewer than two candidates keeps none, as published.

    Args:
        losses: [P], read where ``index`` is a box.
        index: [P] int64, the box that an anchor was first given to; negative: none.
        boxes: how many there are.
        sizes: anchors of each level, in the order of ``losses``; their sum is P.
        best: candidates per box and level.
    """
    own = index[None] == torch.arange(boxes, device=index.device)[:, None]
    table = losses.double().cpu().masked_fill(index.cpu() < 0, math.inf)  # small, and not every device has float64
    table = table.expand(boxes, -1).masked_fill(~own.cpu(), math.inf)
    values, places, start = [], [], 0
    for n in sizes:
        value, place = table[:, start : start + n].topk(min(best, n), largest=False)
        values.append(value)
        places.append(place + start)
        start += n
    value, order = torch.cat(values, 1).sort(dim=1, stable=True)
    place = torch.cat(places, 1).gather(1, order)
    valid = value.isfinite()
    fitted = valid.sum(1) >= 2
    first, density = two_normals(value.masked_fill(~valid, 0), valid)
    first &= valid & fitted[:, None]
    cut = density.masked_fill(~first, -math.inf).argmax(1, keepdim=True)
    stay = first & (torch.arange(value.shape[1]) <= cut)
    kept = torch.zeros(len(index), dtype=torch.bool)
    kept[place[stay]] = True
    return kept.to(index.device)


def two_normals(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Fits weight, mean and variance of two normals to each row by expectation maximisation.

    The start: means at the row's extremes, variance 1, equal weights. A row is done once a step changes its mean
    log-likelihood by less than 1e-3, at the latest after 100 steps; 1e-6 is added to the variances.

    Args:
        values: [G, N] float64.
        valid: [G, N] bool; entries that count. Rows without any give meaningless numbers, but finite ones.

    Returns:
        Whether the first normal is the likelier origin, bool [G, N], and the logarithm of the mixture's density [G, N].
    """
    one = valid.to(values.dtype)
    count = one.sum(1).clamp(min=1)
    low = values.masked_fill(~valid, math.inf).amin(1)
    high = values.masked_fill(~valid, -math.inf).amax(1)
    mean = torch.stack((low, high), 1).nan_to_num(0.0, 0.0, 0.0)
    variance, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    # Squares of float32 losses are rounded to float32 in the authors' code; which anchors stay may hang on that.
    squares, mean_squares = as_float32_square(values), as_float32_square(mean)
    likelihood = torch.full_like(count, -math.inf)
    active = valid.any(1)
    for _ in range(STEPS):
        if not active.any():
            break
        log_parts = log_densities(values, squares, mean, mean_squares, variance, weight)
        log_sum = log_parts.logsumexp(-1)
        share = (log_parts - log_sum[..., None]).exp() * one[..., None]
        total = share.sum(1) + 10 * torch.finfo(values.dtype).eps
        new_mean = (share * values[..., None]).sum(1) / total
        new_variance = ((share * squares[..., None]).sum(1) / total - new_mean.square()).clamp(min=0)
        turn = active[:, None]
        mean = torch.where(turn, new_mean, mean)
        mean_squares = torch.where(turn, new_mean.square(), mean_squares)
        variance = torch.where(turn, new_variance + SMALLEST_VARIANCE, variance)
        weight = torch.where(turn, total / total.sum(1, keepdim=True), weight)
        now = (log_sum * one).sum(1) / count
        active = active & ~((now - likelihood).abs() < TOLERANCE)
        likelihood = now
    log_parts = log_densities(values, squares, mean, mean_squares, variance, weight)
    return log_parts[..., 0] >= log_parts[..., 1], log_parts.logsumexp(-1)


def log_densities(
    values: Tensor, squares: Tensor, mean: Tensor, mean_squares: Tensor, variance: Tensor, weight: Tensor
) -> Tensor:
    """Logarithm of each normal's weighted density, [G, N, 2]."""
    distance = squares[..., None] - 2 * values[..., None] * mean[:, None] + mean_squares[:, None]
    distance = distance / variance[:, None]
    return weight.log()[:, None] - 0.5 * (distance + variance.log()[:, None] + math.log(2 * math.pi))


def as_float32_square(x: Tensor) -> Tensor:
    return x.float().square().to(x.dtype)
