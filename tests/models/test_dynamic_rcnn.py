"""Dynamic R-CNN's thresholds follow the proposals; as published it has none."""

from __future__ import annotations

import pytest
import torch

import motes
from motes.losses.two_stage import Sampled

pytest.importorskip("timm")


def sampled(overlaps: list[torch.Tensor], shift: float) -> Sampled:
    """20 positives, each ``shift`` of its width off, and overlaps of the proposals of two images."""
    boxes = torch.tensor([[10.0, 10, 20, 20]]).repeat(20, 1)
    aim = boxes + torch.tensor([1.0, 0, 1, 0]) * shift * 10
    rois = torch.cat((torch.zeros(20, 1), boxes), 1)
    labels, yes = torch.zeros(20, dtype=torch.int64), torch.ones(20, dtype=torch.bool)
    return Sampled(rois, labels, yes, aim, ~yes, overlaps)


@pytest.mark.parametrize(
    ("overlap", "shift", "threshold", "beta"),
    [(0.6, 0.1, 0.6, 0.5), (0.2, 0.1, 0.4, 0.5), (0.7, 1.0, 0.7, 1.0), (0.5, 0.0, 0.5, 1.0)],
    ids=["better", "not below 0.4", "not above 1", "no error seen"],
)
def test_thresholds_follow_every_100_iterations(overlap: float, shift: float, threshold: float, beta: float) -> None:
    head = motes.create_model("dynamic_rcnn", "true", backbone="resnet18").roi_head
    # 74 better ones, then the 75th; shift / std 0.1, averaged over x and y, is the error.
    found = torch.cat((torch.full((74,), 0.9), torch.full((26,), overlap)))
    for _ in range(99):
        head.follow(sampled([found, found], shift), torch.zeros(20, 4))
    assert (head.overlap.item(), head.beta.item()) == pytest.approx((0.4, 1.0))
    head.follow(sampled([found, found], shift), torch.zeros(20, 4))
    assert head.overlap.item() == pytest.approx(threshold)
    assert head.beta.item() == pytest.approx(beta)


def test_batches_without_targets_do_not_count_as_errors() -> None:
    head = motes.create_model("dynamic_rcnn", "true", backbone="resnet18").roi_head
    no = torch.zeros(0, dtype=torch.bool)
    empty = Sampled(torch.zeros(0, 5), no.long(), no, torch.zeros(0, 4), no, [torch.zeros(0)])
    for i in range(100):
        head.follow(sampled([torch.full((80,), 0.5)], 0.1) if i % 2 else empty, torch.zeros(0 if i % 2 == 0 else 20, 4))
    assert head.beta.item() == pytest.approx(0.5)


def test_state_goes_on_after_a_resume() -> None:
    first, second = (motes.create_model("dynamic_rcnn", "true", backbone="resnet18") for _ in range(2))
    for _ in range(7):
        first.roi_head.follow(sampled([torch.full((80,), 0.5)], 0.1), torch.zeros(20, 4))
    second.load_state_dict(first.state_dict())
    assert second.roi_head.step.item() == 7
    assert torch.equal(second.roi_head.errors[:7], torch.full((7,), 0.5))


def test_published_has_no_such_state() -> None:
    published = motes.create_model("dynamic_rcnn", backbone="resnet18")
    assert published.rpn_head.nms == 0.7
    assert not [n for n in published.state_dict() if n.startswith("roi_head") and "bbox_head" not in n]
    assert motes.create_model("dynamic_rcnn", "true", backbone="resnet18").rpn_head.nms == 0.85
