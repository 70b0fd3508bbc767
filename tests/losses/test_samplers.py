"""Samplers take what they are told of each kind, at random and repeatably."""

from __future__ import annotations

import pytest
import torch

from motes.losses.assigners import Assignment
from motes.losses.samplers import BalancedSampler, RandomSampler, rank_in_run


def assignment(positives: int, negatives: int, ignored: int = 0) -> Assignment:
    index = torch.cat((torch.zeros(positives), torch.full((negatives,), -1), torch.full((ignored,), -2))).long()
    return Assignment(index, torch.zeros(len(index)))


@pytest.mark.parametrize(
    ("sampler", "positives", "negatives", "expected"),
    [
        (RandomSampler(10, 0.5), 8, 20, (5, 5)),
        (RandomSampler(10, 0.5), 2, 20, (2, 8)),
        (RandomSampler(10, 0.5), 2, 3, (2, 3)),
        (RandomSampler(10, 0.5, negatives=3), 2, 20, (2, 6)),
        (RandomSampler(10, 0.5, negatives=3), 0, 20, (0, 3)),
        (RandomSampler(None), 8, 20, (8, 20)),
        (RandomSampler(10), 0, 0, (0, 0)),
        (BalancedSampler(12, 0.25), 8, 100, (3, 9)),
        (BalancedSampler(12, 0.25), 0, 5, (0, 5)),
    ],
)
def test_numbers(sampler: RandomSampler, positives: int, negatives: int, expected: tuple[int, int]) -> None:
    given = assignment(positives, negatives, ignored=7)
    chosen = sampler(given)
    assert tuple(len(c) for c in chosen) == expected
    assert (given.index[chosen[0]] >= 0).all() and (given.index[chosen[1]] == -1).all()
    assert all(len(c.unique()) == len(c) for c in chosen)


@pytest.mark.parametrize("kind", [RandomSampler, BalancedSampler])
def test_a_seed_repeats_the_choice(kind: type[RandomSampler]) -> None:
    given = Assignment(torch.tensor([0] * 50 + [-1] * 500), torch.rand(550))
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(torch.cat(kind(64, 0.25)(given)).tolist())
    assert found[0] == found[1] != found[2]


def test_balanced_positives_come_from_every_box() -> None:
    index = torch.tensor([0] * 200 + [1] * 4 + [2] * 4 + [-1] * 10)
    chosen, _ = BalancedSampler(24, 0.5)(Assignment(index, torch.zeros(len(index))))
    counts = index[chosen].bincount(minlength=3)
    # 12 of three boxes: round(12 / 3) + 1 of each at most, where it has them.
    assert counts.sum() == 12 and (counts[1:] >= 3).all() and counts[0] <= 5


def test_balanced_negatives_come_from_every_overlap() -> None:
    overlap = torch.cat(
        (torch.rand(900) * 0.1, 0.15 + torch.rand(30) * 0.04, 0.25 + torch.rand(29) * 0.04, torch.tensor([0.3]))
    )
    given = Assignment(torch.full((960,), -1), overlap)
    _, chosen = BalancedSampler(30, 0.25)(given)
    bins = (overlap[chosen] / 0.1).long().clamp(max=2).bincount(minlength=3)
    assert bins.tolist() == [10, 10, 10]


def test_balanced_negatives_fill_up_where_an_interval_is_poor() -> None:
    overlap = torch.cat((torch.rand(900) * 0.1, torch.tensor([0.15, 0.16, 0.3])))
    _, chosen = BalancedSampler(30, 0.25)(Assignment(torch.full((903,), -1), overlap))
    assert len(chosen) == 30 and {900, 901, 902} <= set(chosen.tolist())


def test_rank_in_run() -> None:
    assert rank_in_run(torch.tensor([2, 2, 2, 5, 7, 7])).tolist() == [0, 1, 2, 0, 0, 1]
    assert rank_in_run(torch.zeros(0)).tolist() == []
