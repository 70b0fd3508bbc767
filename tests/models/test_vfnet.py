"""VFNet: where its stars read, small targets, training, export."""

from __future__ import annotations

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from motes.benchmark import complexity
from motes.layers.box_coders import boxes_from_distances
from motes.layers.deformable import deform_conv2d
from motes.models.vfnet import STAR_GRADIENT, star

pytest.importorskip("timm")


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("vfnet", variant, **{"backbone": "resnet18", "width": 64, **options})


def test_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        net = motes.create_model("vfnet")
    assert sum(p.numel() for p in net.parameters()) == 32_709_459


@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(variant: str | None) -> None:
    check_training(light(variant))


@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(variant: str | None) -> None:
    check_export(light(variant))


def test_published_counts_leave_deformable_convolutions_out() -> None:
    with torch.device("meta"):
        cost = complexity(motes.create_model("vfnet"), 64, 64)
    cells = 8 * 8 + 4 * 4 + 2 * 2 + 1 + 1
    assert cost.macs - cost.published_macs == 2 * cells * 256 * 256 * 9


def test_a_star_reads_centre_sides_and_corners_of_its_box() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    where = torch.stack((columns, rows))[None]
    left, top, right, bottom = 1.5, 0.25, 2.0, 3.0
    offset = star(torch.tensor([left, top, right, bottom]).reshape(1, 4, 1, 1).expand(1, 4, 9, 11))
    each_tap = torch.eye(9).reshape(9, 1, 3, 3)
    x, y = (deform_conv2d(where[:, i : i + 1], offset, each_tap, padding=1)[0, :, 4, 5] for i in (0, 1))
    assert x.tolist() == pytest.approx([5 - left, 5, 5 + right] * 3)
    assert y.tolist() == pytest.approx([4 - top] * 3 + [4] * 3 + [4 + bottom] * 3)


def test_a_star_moves_its_box_a_little() -> None:
    distances = torch.rand(1, 4, 2, 2, requires_grad=True)
    star(distances)[:, 0].sum().backward()  # the row of the first tap: the upper side
    expected = torch.zeros(1, 4, 2, 2)
    expected[:, 1] = -STAR_GRADIENT
    assert torch.allclose(distances.grad, expected)


@pytest.mark.parametrize(("variant", "share"), [("small", 1.0), (None, 0.5)])
def test_small_targets_get_places(variant: str | None, share: float) -> None:
    net = light(variant)
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 56, (200, 2), generator=generator).float()
    boxes = torch.cat((corners, corners + torch.randint(2, 6, (200, 2), generator=generator)), 1)
    anchors = net.anchors.grid([(-(-64 // s), -(-64 // s)) for s in net.strides])
    targets = [{"boxes": b[None], "labels": torch.zeros(1, dtype=torch.int64)} for b in boxes]
    hits = net.chosen(anchors, targets)
    found = len(hits.image.unique()) / len(boxes)
    assert found == 1 if share == 1 else found < share
    # What the head can say at these places includes the box itself.
    centres = torch.cat([(a[:, :2] + a[:, 2:]) / 2 for a in anchors])[hits.place]
    slack = net.bbox_head.slack
    distances = torch.cat((centres - hits.boxes[:, :2], hits.boxes[:, 2:] - centres), 1)
    assert (distances > -slack).all()
    assert torch.allclose(boxes_from_distances(centres, distances), hits.boxes)


def test_two_classes() -> None:
    net = light("small", num_classes=2).eval()
    targets = targets_of([[[20, 30, 27, 38], [60, 14, 66, 20]]], (64, 96), 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    images = torch.randn(1, 3, 64, 96)
    assert all(torch.isfinite(v) for v in net(images, targets).values())
    assert net.candidates(images)["scores"].shape[-1] == 2
