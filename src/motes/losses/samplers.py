"""Which of too many candidates a loss is computed on. All draw from torch's generator: a seed repeats them.

A sampler takes an :class:`~motes.losses.assigners.Assignment` of P candidates and returns the places of the positives
and of the negatives it chose, int64 [n] each, ascending.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from motes.losses.assigners import BACKGROUND, Assignment

Chosen = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RandomSampler:
    """At most ``number * positive`` positives, and negatives up to ``number`` in all.

    Attributes:
        number: candidates of an image; None: all of them.
        positive: share of positives, at most.
        negatives: at most so many a positive (one where there is none); None: no limit.
    """

    number: int | None = 512
    positive: float = 0.25
    negatives: float | None = None

    def __call__(self, assignment: Assignment) -> Chosen:
        positives, negatives = places(assignment)
        if self.number is None:
            return positives, negatives
        positives = self.choose_positives(positives, int(self.number * self.positive), assignment)
        rest = self.number - len(positives)
        if self.negatives is not None:
            rest = min(rest, int(self.negatives * max(1, len(positives))))
        return positives, self.choose_negatives(negatives, rest, assignment)

    def choose_positives(self, found: Tensor, number: int, assignment: Assignment) -> Tensor:
        return some(found, number)

    def choose_negatives(self, found: Tensor, number: int, assignment: Assignment) -> Tensor:
        return some(found, number)


@dataclass(frozen=True)
class BalancedSampler(RandomSampler):
    """Libra R-CNN's (Pang et al., CVPR 2019, section 3.1): positives equally from every box, negatives equally from
    ``bins`` intervals of overlap between 0 and the highest of a negative.
    """

    bins: int = 3

    def choose_positives(self, found: Tensor, number: int, assignment: Assignment) -> Tensor:
        if len(found) <= number:
            return found
        box = assignment.index[found]
        boxes = int(box.unique().numel())
        # The rank of each candidate among those of its box, in a random order.
        order = shuffled(found)
        box = assignment.index[order]
        by_box = torch.argsort(box, stable=True)
        rank = torch.empty_like(by_box)
        rank[by_box] = rank_in_run(box[by_box])
        equal = rank < round(number / boxes) + 1
        return filled_up(order[equal], order[~equal], number)

    def choose_negatives(self, found: Tensor, number: int, assignment: Assignment) -> Tensor:
        if len(found) <= number:
            return found
        order = shuffled(found)
        overlap = assignment.overlap[order]
        interval = (overlap * self.bins / overlap.max().clamp(min=1e-6)).long().clamp(0, self.bins - 1)
        by_bin = torch.argsort(interval, stable=True)
        rank = torch.empty_like(by_bin)
        rank[by_bin] = rank_in_run(interval[by_bin])
        equal = rank < number // self.bins
        return filled_up(order[equal], order[~equal], number)


def places(assignment: Assignment) -> Chosen:
    """All positives and all negatives; what is ignored is neither."""
    positive, background = assignment.index >= 0, assignment.index == BACKGROUND
    return positive.nonzero().squeeze(1), background.nonzero().squeeze(1)


def some(found: Tensor, number: int) -> Tensor:
    """``number`` of the entries at random, ascending; all if there are fewer."""
    return found if len(found) <= number else shuffled(found)[:number].sort().values


def shuffled(found: Tensor) -> Tensor:
    return found[torch.randperm(len(found), device=found.device)]


def filled_up(preferred: Tensor, others: Tensor, number: int) -> Tensor:
    """``number`` of them, ascending: at random from ``preferred``, and from ``others`` (in order) what is missing."""
    chosen = some(preferred, number)
    return torch.cat((chosen, others[: number - len(chosen)])).sort().values


def rank_in_run(values: Tensor) -> Tensor:
    """How many equal values stand before each one; ``values`` is sorted."""
    position = torch.arange(len(values), device=values.device)
    starts = torch.ones_like(values, dtype=torch.bool)
    starts[1:] = values[1:] != values[:-1]
    return position - torch.where(starts, position, 0).cummax(0).values
