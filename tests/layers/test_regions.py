"""Proposals, their suppression in batches, and features of regions."""

from __future__ import annotations

import pytest
import torch
import torchvision

from motes.layers.batched_nms import DROPPED, kept_by_nms, top
from motes.layers.priors import Anchors
from motes.layers.roi_heads import batch_regions, level_of, regions, roi_features
from motes.layers.rpn import RPN


def test_nms_by_image_and_class_is_torchvisions() -> None:
    torch.manual_seed(0)
    low = torch.rand(2, 60, 2) * 30
    boxes = torch.cat((low, low + 5 + torch.rand(2, 60, 2) * 10), -1)
    scores = torch.rand(2, 3, 60)
    scores[0, 1, :40] = DROPPED
    kept = kept_by_nms(boxes, scores, 0.3, keep=9)
    for image in range(2):
        for label in range(3):
            usable = (scores[image, label] > DROPPED).nonzero()[:, 0]
            expected = usable[torchvision.ops.nms(boxes[image, usable], scores[image, label, usable], 0.3)[:9]]
            assert kept[image, label].nonzero()[:, 0].tolist() == sorted(expected.tolist())


def test_nms_of_nothing() -> None:
    assert kept_by_nms(torch.zeros(2, 0, 4), torch.zeros(2, 1, 0), 0.5).shape == (2, 1, 0)
    assert not kept_by_nms(torch.zeros(1, 3, 4), torch.full((1, 1, 3), DROPPED), 0.5).any()


def test_top_takes_what_there_is() -> None:
    values, places = top(torch.tensor([[3.0, 1.0, 2.0]]), 5)
    assert values.tolist() == [[3, 2, 1]] and places.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(("side", "level"), [(3, 0), (111, 0), (113, 1), (223, 1), (225, 2), (5000, 3), (0, 0)])
def test_regions_are_taken_from_the_level_of_their_size(side: float, level: int) -> None:
    assert level_of(torch.tensor([[0.0, 10, 10, 10 + side, 10 + side]]), 4).tolist() == [level]


def test_features_of_a_ramp_are_its_values_at_the_centres_of_the_bins() -> None:
    strides = (4, 8)
    maps = [  # x in px at the centre of every cell
        ((torch.arange(256 // s) + 0.5) * s).expand(1, 1, 256 // s, -1) for s in strides
    ]
    boxes = torch.tensor([[40.0, 50, 68, 64], [20, 20, 230, 230], [100, 100, 107, 107]])
    found = roi_features(maps, strides, regions([boxes]), 7)[:, 0]
    for row, (x1, _, x2, _) in zip(found, boxes.tolist(), strict=True):
        expected = x1 + (torch.arange(7) + 0.5) / 7 * (x2 - x1)
        assert torch.allclose(row, expected.expand(7, 7), atol=1e-3)


def test_regions_know_their_image() -> None:
    boxes = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 5.0)]
    assert regions(boxes)[:, 0].tolist() == [0, 0, 2]
    assert batch_regions(torch.zeros(2, 3, 4))[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_proposals_are_clipped_and_ranked_and_fill_up_with_zeros() -> None:
    torch.manual_seed(0)
    net = RPN(8, Anchors((4, 8), scales=(2.0,)))
    logits, deltas = net([torch.randn(2, 8, 8, 8) * 20, torch.randn(2, 8, 4, 4) * 20])
    found = net.proposals(logits, deltas, (30, 32), per_level=20, keep=25)
    assert found.boxes.shape == (2, 25, 4) and found.valid.shape == (2, 25)
    assert not found.boxes.requires_grad
    good = found.boxes[found.valid]
    assert (good[:, 2:] > good[:, :2]).all() and good.min() >= 0 and good[:, 3].max() <= 30
    assert (found.boxes[~found.valid] == 0).all()
    # What is valid comes first.
    assert (found.valid.int().diff(dim=1) <= 0).all()
