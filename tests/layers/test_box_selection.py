"""What becomes of candidates, and the deformable convolution."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import deform_conv2d as reference

from motes.cards import BoxSpec, Card
from motes.errors import CardError
from motes.layers.box_selection import select
from motes.layers.deformable import sampled

BOXES = torch.tensor(
    [
        [0.0, 0, 4, 4],  # level 0
        [0, 0, 4, 5],
        [20, 20, 24, 24],
        [30, 30, 30, 34],  # no width
        [1, 0, 5, 4],  # level 1
        [40, 40, 44, 44],
    ]
)
SCORES = torch.tensor([0.9, 0.8, 0.06, 0.9, 0.5, 0.04])


def chosen(**changes: object) -> dict[str, torch.Tensor]:
    given = {"boxes": BOXES[None], "scores": SCORES[None, :, None], "levels": torch.tensor([4, 2])}
    given.update({k: v for k, v in changes.items() if k == "factors"})
    return select(given, BoxSpec(**{k: v for k, v in changes.items() if k != "factors"}))[0]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, [0, 2]),  # 1 overlaps 0 by .8, 4 overlaps it by .6
        ({"nms": 0.7}, [0, 4, 2]),
        ({"nms": 0.9}, [0, 1, 4, 2]),
        ({"nms": None}, [0, 1, 4, 2]),
        ({"nms": 0.7, "keep": 2}, [0, 4]),
        ({"score": 0.0}, [0, 2, 5]),
        ({"nms": 0.7, "per_level": 1}, [0, 4]),
        ({"per_level": 1, "score": 0.6}, [0]),
    ],
)
def test_steps_of_the_selection(changes: dict, places: list[int]) -> None:
    found = chosen(**changes)
    assert torch.equal(found["boxes"], BOXES[places])
    assert torch.equal(found["scores"], SCORES[places])
    assert found["labels"].tolist() == [0] * len(places)


def test_a_second_factor_comes_after_the_threshold() -> None:
    factors = torch.tensor([[0.1, 1.0, 0.1, 1.0, 1.0, 1.0]])
    found = chosen(factors=factors, nms=0.55)
    # The first box now is the third best of its neighbours, and .06 passed the threshold before it became .006.
    assert found["scores"].tolist() == pytest.approx([0.8, 0.5, 0.006], abs=1e-6)


def test_classes_do_not_suppress_each_other() -> None:
    scores = torch.tensor([[[0.9, 0.0], [0.0, 0.8]]])
    given = {"boxes": BOXES[None, :2], "scores": scores, "levels": torch.tensor([2])}
    (found,) = select(given, BoxSpec())
    assert found["labels"].tolist() == [0, 1] and torch.equal(found["boxes"], BOXES[:2])


def test_nothing_above_the_threshold() -> None:
    found = chosen(score=0.95, vote=True)
    assert found["boxes"].shape == (0, 4) and found["scores"].shape == (0,) and found["labels"].dtype == torch.int64


def test_voting_moves_boxes_to_the_mean_of_their_neighbours() -> None:
    found = chosen(nms=0.5, vote=True)
    iou = torch.tensor([1, 0.8, 0.6])
    weight = torch.exp(-((1 - iou) ** 2) / 0.025) * SCORES[[0, 1, 4]]
    assert torch.allclose(found["boxes"][0], weight @ BOXES[[0, 1, 4]] / weight.sum(), atol=1e-5)
    assert torch.equal(found["boxes"][1], BOXES[2])


def test_the_card_keeps_how_boxes_are_chosen() -> None:
    card = Card("x", "detection", boxes=BoxSpec(nms=None, vote=True))
    assert card.to_dict()["boxes"] == {"nms": None, "vote": True}
    assert Card.from_json(card.to_json()) == card
    assert "boxes" not in Card("x", "irstd").to_dict()
    for wrong in ({"score": 1.5}, {"nms": -0.1}, {"keep": 0}, {"per_level": 0}):
        with pytest.raises(CardError, match=f"boxes.{next(iter(wrong))}"):
            BoxSpec(**wrong)
    with pytest.raises(CardError, match="did you mean 'keep'"):
        Card.from_dict({"name": "x", "task": "detection", "boxes": {"keeps": 3}})


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "offset_groups", "masked"),
    [(1, 1, 1, 1, 1, False), (2, 1, 1, 1, 1, True), (1, 2, 2, 2, 1, True), (1, 1, 1, 1, 4, False)],
)
def test_deformable_convolution_as_a_sampled_grid(
    stride: int, padding: int, dilation: int, groups: int, offset_groups: int, masked: bool
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 8, 7, 9), torch.randn(6, 8 // groups, 3, 3), torch.randn(6)
    h, w = ((n + 2 * padding - 2 * dilation - 1) // stride + 1 for n in (7, 9))
    offset = torch.randn(2, 2 * offset_groups * 9, h, w) * 3
    mask = torch.rand(2, offset_groups * 9, h, w) if masked else None
    expected = reference(x, offset, weight, bias, stride, padding, dilation, mask)
    pairs = ((n, n) for n in (stride, padding, dilation))
    assert torch.allclose(sampled(x, offset, weight, bias, *pairs, mask), expected, atol=1e-4)


def test_a_deformable_convolution_of_one_pixel() -> None:
    torch.manual_seed(0)
    x, weight, offset = torch.randn(1, 4, 1, 1), torch.randn(3, 4, 3, 3), torch.randn(1, 18, 1, 1) / 2
    expected = reference(x, offset, weight, None, 1, 1, 1)
    assert torch.allclose(sampled(x, offset, weight, None, (1, 1), (1, 1), (1, 1), None), expected, atol=1e-5)
