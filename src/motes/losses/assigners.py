"""Which prior (anchor or point) learns which box. Boxes and anchors are [.., 4] xyxy px, points [.., 2]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from motes.layers.box_coders import centre_and_side, distances_to
from motes.layers.box_overlap import aligned_iou, area, pairwise_iou

BACKGROUND = -1
IGNORED = -2
FAR = 1e8


@dataclass(frozen=True)
class Assignment:
    """``index`` [P] int64: the box of each prior, -1: background, -2: ignored. ``overlap`` [P]: its IoU with the box
    (with its best box where it has none)."""

    index: Tensor
    overlap: Tensor

    @property
    def positive(self) -> Tensor:
        """Bool [P]."""
        return self.index >= 0

    @property
    def ignored(self) -> Tensor:
        """Bool [P]."""
        return self.index == IGNORED


@dataclass(frozen=True)
class MaxIoU:
    """By overlap (Ren et al. 2015). Priors with IoU of at least ``pos`` take their best box, those below ``neg`` are
    background, the rest is ignored.

    ``low_quality``: every box whose best IoU is at least ``min_pos`` is also given its best priors, all that have
    exactly this IoU (``all_ties``) or the first; later boxes take over from earlier ones.
    """

    pos: float
    neg: float
    min_pos: float = 0.0
    low_quality: bool = True
    all_ties: bool = True

    def __call__(self, priors: Tensor, boxes: Tensor) -> Assignment:
        if not len(boxes) or not len(priors):
            return nothing(priors)
        overlap = pairwise_iou(priors, boxes)
        best, which = overlap.max(1)
        index = torch.full_like(which, IGNORED)
        index[best < self.neg] = BACKGROUND
        index = torch.where(best >= self.pos, which, index)
        if self.low_quality:
            best_of_box, first = overlap.max(0)
            if self.all_ties:
                chosen = overlap == best_of_box
            else:
                chosen = torch.arange(len(priors), device=priors.device)[:, None] == first
            chosen &= best_of_box >= self.min_pos
            last = len(boxes) - 1 - chosen.flip(1).int().argmax(1)
            index = torch.where(chosen.any(1), last, index)
        return Assignment(index, best)


@dataclass(frozen=True)
class ATSS:
    """By statistics (Zhang et al. 2020): per box and level the ``k`` priors nearest by centre are candidates; those
    with an IoU of at least mean + standard deviation of all its candidates, and a centre more than .01 px inside, are
    positive. Of several boxes the one with the highest IoU wins. Priors of equal distance: in topk's order.
    """

    k: int = 9

    def __call__(self, priors: Sequence[Tensor], boxes: Tensor) -> Assignment:
        """``priors``: [P_l, 4] a level."""
        every = torch.cat(list(priors))
        if not len(boxes) or not len(every):
            return nothing(every)
        overlap = pairwise_iou(every, boxes)
        distance = (centres(every)[:, None] - centres(boxes)).norm(dim=-1)
        picked = []
        start = 0
        for level in priors:
            near = distance[start : start + len(level)].topk(min(self.k, len(level)), dim=0, largest=False)[1]
            picked.append(near + start)
            start += len(level)
        candidates = torch.cat(picked)
        found = overlap.gather(0, candidates)
        threshold = found.mean(0) + (found.std(0) if len(found) > 1 else 0)
        inside = distances_to(centres(every)[candidates], boxes).amin(-1) > 0.01
        good = (found >= threshold) & inside
        # Overlaps of the positives alone; each prior then takes the best of its boxes.
        kept = torch.full_like(overlap, -1.0)
        kept.scatter_(0, candidates, torch.where(good, found, -1.0))
        best, which = kept.max(1)
        return Assignment(torch.where(best >= 0, which, BACKGROUND), torch.where(best >= 0, best, overlap.amax(1)))


@dataclass(frozen=True)
class TaskAligned:
    """By what the network predicts (Feng et al. 2021): the ``k`` priors with the largest score^alpha * IoU^beta of each
    box are positive if that is above 0 and their centre more than .01 px inside; of several boxes the one with the
    highest IoU of the prediction wins.

    ``priors``: anchors [P, 4] or points [P, 2].
    """

    k: int = 13
    alpha: float = 1.0
    beta: float = 6.0

    def __call__(
        self, scores: Tensor, decoded: Tensor, priors: Tensor, boxes: Tensor, labels: Tensor | None = None
    ) -> tuple[Assignment, Tensor]:
        """The assignment, and the metric of each prior with its box [P], 0 where it has none.

        Args:
            scores: [P, K] probabilities.
            decoded: [P, 4] predicted boxes.
            priors: of them.
            boxes: [N, 4].
            labels: [N] classes of the boxes; default: all 0.
        """
        if not len(boxes) or not len(priors):
            return nothing(priors), scores.new_zeros(len(priors))
        labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device) if labels is None else labels
        overlap = pairwise_iou(decoded, boxes)
        metric = scores[:, labels] ** self.alpha * overlap**self.beta
        best, candidates = metric.topk(min(self.k, len(metric)), dim=0)
        where = priors if priors.shape[1] == 2 else centres(priors)
        inside = distances_to(where[candidates], boxes).amin(-1) > 0.01
        kept = torch.full_like(overlap, -1.0)
        kept.scatter_(0, candidates, torch.where((best > 0) & inside, overlap.gather(0, candidates), -1.0))
        value, which = kept.max(1)
        chosen = value >= 0
        own = metric.gather(1, which[:, None])[:, 0]
        assignment = Assignment(torch.where(chosen, which, BACKGROUND), torch.where(chosen, value, overlap.amax(1)))
        return assignment, torch.where(chosen, own, 0.0)


@dataclass(frozen=True)
class Uniform:
    """The same number of priors for every box, whatever its size (YOLOF, Chen et al. 2021).

    Per box the ``k`` predictions and the ``k`` anchors nearest in L1 distance of (cx, cy, w, h). Pairs whose anchor has
    an IoU below ``least`` with the box are left out; predictions with an IoU above ``most`` with any box that were not
    assigned are ignored.
    """

    k: int = 4
    least: float = 0.15
    most: float = 0.7

    def __call__(self, priors: Tensor, predictions: Tensor, boxes: Tensor) -> tuple[Assignment, Tensor, Tensor, Tensor]:
        """The assignment, and the list of pairs: prior [Q], box [Q], kept bool [Q]; Q = 2 k N.

        The list goes through the ranks; in each first the predictions of all boxes, then the anchors of all boxes. A
        prior may occur twice, and counts for the last.
        """
        none = torch.zeros(0, dtype=torch.int64, device=priors.device)
        if not len(boxes) or not len(priors):
            return nothing(priors), none, none, none.bool()
        index = torch.full((len(priors),), BACKGROUND, device=priors.device)
        near = [nearest(p, boxes, self.k) for p in (predictions, priors)]
        pairs = torch.stack(near, 1).flatten()  # [k, 2, N]
        owners = torch.arange(len(boxes), device=priors.device).repeat(pairs.numel() // len(boxes))
        overlap = pairwise_iou(predictions, boxes)
        index[overlap.amax(1) > self.most] = IGNORED
        kept = aligned_iou(priors[pairs], boxes[owners], eps=1e-6) >= self.least
        # The last entry of a prior decides: scatter by the largest place in the list.
        place = torch.arange(len(pairs), device=priors.device)
        last = torch.full_like(index, -1).scatter_reduce_(0, pairs, place, "amax")
        value = torch.where(kept, owners, IGNORED)
        index = torch.where(last >= 0, value[last.clamp(min=0)], index)
        return Assignment(index, overlap.amax(1)), pairs, owners, kept


def fcos_targets(
    points: Sequence[Tensor],
    boxes: Tensor,
    ranges: Sequence[tuple[float, float]],
    strides: Sequence[float] | None = None,
    radius: float | None = None,
    least_radius: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Boxes of points (FCOS, Tian et al. 2019): index [P] (-1: background) and distances l, t, r, b px [P, 4].

    A point learns a box if it lies strictly inside and the largest distance is within its level's range, both ends
    included; of several boxes the smallest.

    Args:
        points: [P_l, 2] a level.
        boxes: [N, 4].
        ranges: (low, high) px a level.
        strides: px; needed for ``radius``.
        radius: centre sampling: only points within the box and ``radius`` strides around its centre.
        least_radius: px; points at most so far from the box's centre (in x and y) count as inside even outside the box,
            so that a target between the points of the grid is learnt at all. Distances are then negative on one side
            and are cut to 0. 0: as published.
    """
    every = torch.cat(list(points))
    if not len(boxes):
        return torch.full((len(every),), BACKGROUND, device=every.device), every.new_zeros(len(every), 4)
    counts = torch.tensor([len(p) for p in points], device=every.device)
    low, high = (every.new_tensor(v).repeat_interleave(counts)[:, None] for v in zip(*ranges, strict=True))
    distances = distances_to(every[:, None], boxes)  # [P, N, 4]
    from_centre = (every[:, None] - centres(boxes)).abs().amax(-1)
    inside = distances.amin(-1) > 0
    if radius is not None:
        reach = every.new_tensor(strides).repeat_interleave(counts)[:, None] * radius
        inside &= from_centre < reach
    if least_radius > 0:
        inside |= from_centre <= least_radius
    largest = distances.amax(-1)
    usable = inside & (largest >= low) & (largest <= high)
    size = torch.where(usable, area(boxes).expand_as(largest), FAR)
    smallest, which = size.min(1)
    index = torch.where(smallest < FAR, which, BACKGROUND)
    found = distances[torch.arange(len(every), device=every.device), which]
    return index, found.clamp(min=0) if least_radius > 0 else found


def centerness(distances: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances [N, 4]: [N] in [0, 1]."""
    across, down = distances[:, 0::2], distances[:, 1::2]
    ratio = (across.amin(1) / across.amax(1).clamp(min=1e-9)) * (down.amin(1) / down.amax(1).clamp(min=1e-9))
    return ratio.clamp(min=0).sqrt()


def nothing(priors: Tensor) -> Assignment:
    """All background."""
    index = torch.full((len(priors),), BACKGROUND, device=priors.device)
    return Assignment(index, torch.zeros(len(priors), dtype=torch.float32, device=priors.device))


def grown(boxes: Tensor, least: float) -> Tensor:
    """Boxes [N, 4] about the same centres, no side shorter than ``least`` px."""
    if least <= 0:
        return boxes
    middle = centres(boxes)
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=least / 2)
    return torch.cat((middle - half, middle + half), 1)


def centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def nearest(priors: Tensor, boxes: Tensor, k: int) -> Tensor:
    """Indices of priors [k, N], each column from the nearest of a box in (cx, cy, w, h); equals in topk's order."""
    a, b = (torch.cat(centre_and_side(v), -1) for v in (priors, boxes))
    return torch.cdist(a, b, p=1).topk(min(k, len(priors)), dim=0, largest=False)[1]
