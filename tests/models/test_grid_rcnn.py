"""Grid R-CNN's points: what heat maps are to show, and what is read from them."""

from __future__ import annotations

import pytest
import torch

from motes.layers.grid_head import COLUMN, EDGES, ROW, boxes_from_maps, jittered, neighbours, wanted_maps

REGION = torch.tensor([[20.0, 30.0, 48.0, 58.0]])  # 28 px: a cell of the enlarged region is 1 px, from (6, 16) on


@pytest.mark.parametrize(("point", "expected"), [(0, [1, 3]), (4, [1, 3, 5, 7]), (8, [5, 7]), (2, [1, 5])])
def test_neighbours(point: int, expected: list[int]) -> None:
    assert sorted(neighbours(point)) == expected
    assert len(EDGES) == 24


@pytest.mark.parametrize("truth", [[20, 30, 48, 58], [22, 27, 50, 60], [15, 40, 42, 50]])
def test_box_is_read_back_from_its_maps(truth: list[float]) -> None:
    truth = torch.tensor([truth], dtype=torch.float32)
    maps = wanted_maps(REGION, truth, radius=0)
    assert (maps.sum((2, 3)) == 1).all()
    read = boxes_from_maps(REGION, maps * 20 - 10)
    assert (read - truth).abs().max() <= 1  # a cell


def test_points_stand_column_by_column() -> None:
    maps = wanted_maps(REGION, REGION, radius=0)
    for point in range(9):
        y, x = (maps[0, point] == 1).nonzero()[0].tolist()
        # The region begins at cell 14 of the enlarged one; a map at cell 0, 14 or 28.
        assert (x, y) == (14 + 14 * COLUMN[point] - 14 * COLUMN[point], 14 + 14 * ROW[point] - 14 * ROW[point])


def test_a_radius_of_one_is_a_cross() -> None:
    assert (wanted_maps(REGION, REGION).sum((2, 3)) == 5).all()


@pytest.mark.parametrize(
    ("region", "truth"), [([0, 0, 1, 1], [0, 0, 1, 1]), ([20, 30, 48, 58], [200, 300, 210, 310])], ids=["1 px", "far"]
)
def test_nothing_is_shown_of(region: list[float], truth: list[float]) -> None:
    assert wanted_maps(torch.tensor([region]).float(), torch.tensor([truth]).float()).sum() == 0


def test_sides_are_weighted_by_the_height_of_their_points() -> None:
    maps = torch.full((1, 9, 28, 28), -20.0)
    maps[0, :, 14, 14] = 0.0
    maps[0, 0, 14, 14], maps[0, 0, 14, 4] = (
        -20.0,
        20.0,
    )  # the upper left point: surer (1 against 0.5), 10 px to the left
    left = boxes_from_maps(REGION, maps)[0, 0].item()
    assert left == pytest.approx((10.5 * 1 + 20.5 * 0.5 + 20.5 * 0.5) / 2, abs=1e-4)


def test_jitter_stays_near_and_inside() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]]).repeat(200, 1)
    moved = jittered(boxes, 0.15, (18, 64))
    assert moved.min() >= 0 and moved[:, 3].max() <= 18 and moved[:, 2].max() <= 10 * (1 + 0.15 + 0.075) + 1e-4
    assert moved[:, 2].std() > 0.1
