"""TOOD: two phases, where coordinates are read, and the quality of anchors."""

from __future__ import annotations

import pytest
import torch

import motes
from box_checks import targets_of
from motes.models.one_anchor import matched
from motes.models.tood import boxes_around_corners, each_from_its_own_place, qualities

pytest.importorskip("timm")


def light(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("tood", "small", **{"backbone": "resnet18", "width": 32, **options})


def test_the_epoch_decides_the_phase_and_is_no_weight() -> None:
    net = light(initial_epochs=2).eval()
    images, targets = torch.randn(1, 3, 64, 64), targets_of([[[20.0, 30, 27, 38]]], (64, 64), 1)
    found = []
    with torch.inference_mode():
        for epoch in (0, 1, 2, 9):
            net.progress(epoch)
            found.append(float(net(images, targets)["loss_cls"]))
    assert found[0] == found[1] and found[2] == found[3]
    assert found[1] != found[2]
    assert not [k for k in net.state_dict() if "epoch" in k]


def test_boxes_lie_around_the_corners_of_the_cells() -> None:
    boxes = boxes_around_corners(torch.tensor([1.0, 2, 3, 4])[None, :, None, None].expand(1, 4, 2, 3))
    assert boxes[0, :, 0, 0].tolist() == [-1, -2, 3, 4]
    assert boxes[0, :, 1, 2].tolist() == [1, -1, 5, 5]


def test_each_coordinate_is_read_at_its_own_place() -> None:
    boxes = torch.arange(4 * 5 * 6, dtype=torch.float32).reshape(1, 4, 5, 6)
    offsets = torch.zeros(1, 8, 5, 6)
    assert torch.equal(each_from_its_own_place(boxes, offsets), boxes)
    offsets[:, 0] = 1  # the first coordinate one row below
    offsets[:, 3] = -0.5  # the second half a column to the left
    offsets[:, 6:] = 100  # the last outside
    found = each_from_its_own_place(boxes, offsets)[0]
    assert torch.equal(found[0, :4], boxes[0, 0, 1:]) and not found[0, 4].any()
    assert torch.allclose(found[1, :, 1:], (boxes[0, 1, :, 1:] + boxes[0, 1, :, :-1]) / 2)
    assert torch.equal(found[2], boxes[0, 2]) and not found[3].any()


def test_inverted_boxes_are_left_where_they_were_predicted() -> None:
    head = light().bbox_head.eval()
    with torch.inference_mode():
        for part in (head.tood_reg, head.reg_offset_module[-1]):
            torch.nn.init.zeros_(part.weight)
        head.reg_offset_module[-1].bias[1] = 6  # left sides are read six columns to the right
        score, boxes = head.level(torch.randn(1, 32, 8, 8), head.scales[0])
    # Distances are exp(0): two columns would have their left side at x + 5, right of x + 1; the others read outside.
    assert boxes[0, 0, 3].tolist() == [-1, 0, 0, 0, 0, 0, 0, 0]
    assert boxes[0, 2, 3].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ((score > 0) & (score < 1)).all()


def test_the_best_anchor_of_a_box_has_the_boxs_best_overlap() -> None:
    targets = targets_of([[[0.0, 0, 10, 10], [40, 40, 50, 50]], [[0, 0, 10, 10]]], (64, 64), 2)
    indices = [torch.tensor([0, 0, 1, -1]), torch.tensor([-1, 0, -1, -1])]
    boxes = torch.tensor(
        [
            [[0, 0, 10, 10], [0, 0, 10, 5], [40, 40, 50, 48], [0, 0, 1, 1]],
            [[0, 0, 1, 1], [0, 0, 5, 5], [0, 0, 1, 1], [0, 0, 1, 1]],
        ],
        dtype=torch.float32,
    )
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])[..., None]
    found = qualities(matched(indices, targets), scores, boxes, targets).tolist()
    # First box: 0.1 * 1^6 against 0.9 * 0.5^6; the others have one anchor each, of IoU 0.8 and 0.25.
    assert found == pytest.approx([1, 0.9 * 0.5**6 / 0.1, 0.8, 0.25], rel=1e-3)
