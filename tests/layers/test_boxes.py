"""Priors, coders and overlaps give mmdetection's numbers (tests/reference/detectors/primitives.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from motes.errors import MotesError
from motes.layers.box_coders import DeltaCoder, boxes_from_distances, distances_to
from motes.layers.box_overlap import aligned_iou, pairwise_iou
from motes.layers.priors import Anchors, points

PRIMITIVES = json.loads((Path(__file__).resolve().parents[1] / "reference/detectors/primitives.json").read_text())
CODERS = {k: torch.tensor(v) for k, v in PRIMITIVES["coders"].items()}
STRIDES = (8, 16, 32, 64, 128)
RATIOS = (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "anchors"),
    [
        ("retina", Anchors(STRIDES, RATIOS, octave_base=4, scales_per_octave=3)),
        ("atss", Anchors(STRIDES)),
        ("rpn fpn", Anchors((4, 8, 16, 32, 64), RATIOS)),
        ("rpn c4", Anchors((16,), RATIOS, scales=(2, 4, 8, 16, 32))),
        ("yolof", Anchors((32,), scales=(1, 2, 4, 8, 16))),
    ],
)
def test_base_anchors(name: str, anchors: Anchors) -> None:
    expected = next(v for k, v in PRIMITIVES["base_anchors"].items() if k.startswith(name))
    assert anchors.per_cell == [len(e) for e in expected]
    for base, wanted in zip(anchors.base, expected, strict=True):
        assert torch.allclose(base, torch.tensor(wanted), atol=1e-4)


def test_a_grid_goes_row_by_row_from_the_corner() -> None:
    (grid,) = Anchors((4,), RATIOS).grid([(2, 2)])
    assert torch.allclose(grid, torch.tensor(PRIMITIVES["rpn_level0_anchors_2x2"]), atol=1e-3)


def test_points_stand_in_the_middle_of_their_cells_unless_told_otherwise() -> None:
    fine, coarse = points([(2, 3), (1, 1)], (8, 16))
    assert fine.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert coarse.tolist() == [[8, 8]]
    assert points([(1, 2)], (8,), offset=0)[0].tolist() == [[0, 0], [8, 0]]


@pytest.mark.parametrize(
    ("border", "usable"),
    [
        (-1, [True, True, False, True, True, False]),  # the third column begins at 16 px: outside
        (0, [False, False, False, False, True, False]),  # 8 px around (8, 8) fit into 16 x 13, around 0 they do not
        (4, [True, True, False, True, True, False]),
    ],
)
def test_anchors_that_training_may_use(border: int, usable: list[bool]) -> None:
    (found,) = Anchors((8,), scales=(1.0,)).inside([(2, 3)], (13, 16), border)
    assert found.tolist() == usable


def test_as_many_base_sizes_as_strides() -> None:
    with pytest.raises(MotesError, match="2 strides of anchors and 1 base sizes"):
        Anchors((8, 16), base_sizes=(4,))


def test_deltas_both_ways() -> None:
    coder = DeltaCoder((0.1, 0.1, 0.2, 0.2))
    encoded = coder.encode(CODERS["anchors"], CODERS["boxes"])
    assert torch.allclose(encoded, CODERS["encode_std_1122"], rtol=1e-5)
    decoded = coder.decode(CODERS["anchors"], CODERS["deltas"], size=(128, 128))
    assert torch.allclose(decoded, CODERS["decode_std_1122_clip_128"], atol=1e-4)
    assert torch.allclose(coder.decode(CODERS["anchors"], encoded * 0), CODERS["anchors"], atol=1e-4)


def test_yolofs_deltas_move_at_most_32_px() -> None:
    decoded = DeltaCoder(shift_clip=32).decode(CODERS["anchors"], CODERS["deltas"])
    assert torch.allclose(decoded, CODERS["decode_yolof_ctr_clamp"], rtol=1e-5, atol=1e-4)


def test_distances_both_ways() -> None:
    decoded = boxes_from_distances(CODERS["points"], CODERS["deltas"].abs() * 8, (128, 128))
    assert torch.allclose(decoded, CODERS["decode_distance_abs_deltas_clip_128"], atol=1e-4)
    boxes = CODERS["boxes"]
    assert torch.allclose(
        boxes_from_distances(CODERS["points"], distances_to(CODERS["points"], boxes)), boxes, atol=1e-4
    )


def test_overlaps_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 4, 4], [10, 10, 12, 12]])
    b = torch.tensor([[2.0, 2, 6, 6], [0, 0, 4, 4], [5, 5, 5, 5]])
    assert torch.allclose(pairwise_iou(a, b), torch.tensor([[4 / 28, 1, 0], [0, 0, 0]]))
    assert pairwise_iou(a, b[:0]).shape == (2, 0)
    assert torch.allclose(aligned_iou(a, b[:2]), torch.tensor([4 / 28, 0]))
    # Around the first pair are 36 px^2, 8 of them empty; around the second 144, of which 20 are covered.
    assert torch.allclose(aligned_iou(a, b[:2], "giou"), torch.tensor([4 / 28 - 8 / 36, -124 / 144]))
    with pytest.raises(MotesError, match="unknown overlap 'diou'"):
        aligned_iou(a, b[:2], "diou")
