"""CenterNet: its heat map and cells, frames without targets, small targets, training, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from motes.models.centernet import CENTRE, Grid

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("centernet", variant, **{"backbone": "resnet18", "width": 64, **options})


def grid_of(net: torch.nn.Module, side: int) -> Grid:
    return Grid([(-(-side // s), -(-side // s)) for s in net.strides], net.strides, torch.device("cpu"))


def test_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        net = motes.create_model("centernet")
    assert sum(p.numel() for p in net.parameters()) == 32_110_922


@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(variant: str | None) -> None:
    check_training(light(variant))


@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(variant: str | None) -> None:
    check_export(light(variant), shapes=((1, 96, 32), (2, 64, 128)))


def test_heat_map_and_regressed_cells_as_published() -> None:
    primitives = json.loads((REFERENCE / "detectors" / "primitives.json").read_text())["assigners"]
    stored = primitives["results"]["CenterNet-update"]
    boxes = torch.tensor(primitives["gt"], dtype=torch.float32)
    net = light()
    grid = grid_of(net, 128)
    heat = net.heat_map(grid, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    assert len(heat) == stored["points"]
    assert float(heat.sum()) == pytest.approx(stored["heatmap_sum"], rel=1e-5)
    assert {i: float(heat[i]) for i in map(int, stored["heatmap_top"])} == pytest.approx(
        {int(i): v for i, v in stored["heatmap_top"].items()}
    )
    cells, distances = net.regressed(grid, boxes)
    assert dict(zip(map(str, cells.tolist()), distances.tolist(), strict=True)) == stored["positive"]


def test_a_frame_without_targets_is_background() -> None:
    net = light().eval()
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    assert not net.heat_map(grid_of(net, 64), empty[0]["boxes"], empty[0]["labels"]).any()
    losses = net(torch.randn(1, 3, 64, 64), empty)
    losses["loss_cls"].backward()
    assert float(losses["loss_bbox"].detach()) == 0
    assert float(net.bbox_head.conv_cls.bias.grad) > 0  # scores go down


def test_the_cell_of_a_centre_is_positive_on_the_level_for_its_size() -> None:
    net = light()
    grid = grid_of(net, 256)
    boxes = torch.tensor([[60.0, 60, 72, 72], [40, 40, 200, 200], [20, 20, 220, 240]])
    cells, owner = net.positives(grid, boxes, torch.zeros(len(grid.places), 4))
    around, _ = grid.around(boxes)
    # Half diagonals of 8, 113 and 149 px; the levels are for up to 80, 64 to 160, 128 to 320 px.
    levels = {0: [0], 1: [1], 2: [1, 2]}
    expected = {(int(around[box, level, CENTRE]), box) for box, own in levels.items() for level in own}
    assert set(zip(cells.tolist(), owner.tolist(), strict=True)) == expected


def test_cells_that_predict_a_box_well_become_positive() -> None:
    net = light()
    grid = grid_of(net, 64)
    box = torch.tensor([[16.0, 16, 48, 48]])
    around, _ = grid.around(box)
    nine = around[0, 0]  # all inside, at stride 8
    distances = torch.zeros(len(grid.places), 4)
    perfect = torch.cat((grid.places - box[:, :2], box[:, 2:] - grid.places), 1) / grid.stride[:, None]
    factors = torch.linspace(0.9, 0.98, 9)[:, None]  # losses of 1 - factor^2, below 0.2
    distances[nine] = perfect[nine] * factors
    cells, _ = net.positives(grid, box, distances)
    assert set(cells.tolist()) == set(nine[1:].tolist())  # those better than the ninth best
    distances[nine[5]] = perfect[nine[5]] * 0.85
    cells, _ = net.positives(grid, box, distances)
    assert set(cells.tolist()) == set(nine.tolist()) - {int(nine[5])}  # that is too poor now, and 0.2 the limit


@pytest.mark.parametrize(("variant", "every"), [("small", True), (None, False)])
def test_small_targets_get_cells(variant: str | None, every: bool) -> None:
    net = light(variant)
    grid = grid_of(net, 64)
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 60, (200, 2), generator=generator).float()
    boxes = torch.cat((corners, corners + torch.randint(2, 5, (200, 2), generator=generator)), 1)
    found = 0
    for box in boxes:
        cells, distances = net.regressed(grid, box[None])
        peaks, _ = net.positives(grid, box[None], torch.zeros(len(grid.places), 4))
        found += bool(len(cells)) and bool(len(peaks))
        reach = torch.tensor(net.bbox_head.slack)[(grid.stride[cells] / net.strides[0]).log2().long()]
        assert (distances > -reach[:, None] - 1e-6).all()  # which the head can say
    assert found == len(boxes) if every else found < len(boxes) / 2


def test_two_classes() -> None:
    net = light("small", num_classes=2).eval()
    targets = targets_of([[[20, 30, 27, 38], [60, 14, 66, 20]]], (64, 96), 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    images = torch.randn(1, 3, 64, 96)
    assert all(torch.isfinite(v) for v in net(images, targets).values())
    assert net.candidates(images)["scores"].shape[-1] == 2
    heat = net.heat_map(grid_of(net, 96), targets[0]["boxes"], targets[0]["labels"])
    assert heat.amax(0).tolist() == [1, 1]
