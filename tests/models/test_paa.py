"""PAA: the mixture of normals, the anchors it keeps, scores and voting."""

from __future__ import annotations

import pytest
import torch

import motes
from motes.losses.mixture import likely_positives, two_normals


def fitted(rows: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    values = torch.tensor([r + [0.0] * (width - len(r)) for r in rows], dtype=torch.float32).double()
    valid = torch.tensor([[True] * len(r) + [False] * (width - len(r)) for r in rows])
    return two_normals(values, valid)


TIED = [
    1.3042045831680298, 1.3059455156326294, 1.3061141967773438, 1.3092503547668457, 1.30947744846344,
    1.309880256652832, 1.3143374919891357, 1.3146233558654785, 1.3146363496780396,
]  # fmt: skip
"""Losses of the third box of losses.json; scikit-learn 1.9.1 gives the first five to the first normal."""


def test_rounding_decides_as_in_the_authors_code() -> None:
    first, density = fitted([TIED])
    assert first[0].tolist() == [True] * 5 + [False] * 4
    # GaussianMixture(2, covariance_type="diag", given starts).fit(x).score_samples(x)
    expected = [3.587, 4.1319, 4.1744, 4.619, 4.6247, 4.6279, 3.9596, 3.8728, 3.8671]
    assert density[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_two_heaps_are_told_apart_whatever_the_other_rows_are() -> None:
    heaps = [0.1, 0.12, 0.15, 0.2, 2.0, 2.2, 2.5, 2.6]
    first, density = fitted([heaps])
    assert first[0].tolist() == [True] * 4 + [False] * 4
    among, of_them = fitted([TIED, heaps, [5.0, 5.0], []])
    assert torch.equal(among[1, :8], first[0])
    assert torch.allclose(of_them[1, :8], density[0], rtol=1e-12)
    assert of_them.isfinite().all()


def test_equal_losses_all_belong_to_the_first() -> None:
    first, _ = fitted([[1.5] * 6])
    assert first.all()


def test_candidates_are_the_nine_best_of_each_level() -> None:
    losses = torch.arange(40, dtype=torch.float32) / 1000
    index = torch.zeros(40, dtype=torch.int64)
    kept = likely_positives(losses, index, 1, [30, 10])
    assert kept.any()
    assert not kept[9:30].any() and not kept[39]


def test_each_box_keeps_its_own_and_one_candidate_is_too_few() -> None:
    losses = torch.tensor([0.1, 0.11, 2.0, 2.1, 0.5, 9.0, 0.3, 0.31])
    index = torch.tensor([0, 0, 0, 0, 1, -1, 2, 2])
    kept = likely_positives(losses, index, 4, [8])
    assert not kept[2:6].any()  # the far heap, the lone candidate, the background
    assert kept[:2].any() and kept[6]


def test_no_boxes_no_positives() -> None:
    kept = likely_positives(torch.zeros(5), torch.full((5,), -1), 0, [3, 2])
    assert kept.tolist() == [False] * 5


def test_scores_are_the_mean_of_class_and_iou() -> None:
    pytest.importorskip("timm")
    net = motes.create_model("paa", "small", backbone="resnet18", width=32).eval()
    maps = [(8, 8), (4, 4), (2, 2), (1, 1)]
    raw = [[torch.full((1, c, h, w), v) for h, w in maps] for c, v in ((1, 0.0), (4, 0.0), (1, 2.0))]
    found = net.candidates_of(raw, (32, 32))
    assert "factors" not in found
    expected = (0.5 / (1 + torch.tensor(-2.0).exp())) ** 0.5
    assert torch.allclose(found["scores"], expected)
    assert found["levels"].tolist() == [64, 16, 4, 1]
    assert net.card.boxes.vote and not motes.model_card("atss").boxes.vote
