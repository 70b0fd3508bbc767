"""Assigners give mmdetection's results (tests/reference/detectors/primitives.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fill import uniform
from motes.layers.box_coders import DeltaCoder
from motes.layers.priors import Anchors, points
from motes.losses.assigners import ATSS, Assignment, MaxIoU, TaskAligned, Uniform, centerness, fcos_targets

PRIMITIVES = json.loads((Path(__file__).resolve().parents[1] / "reference/detectors/primitives.json").read_text())
GIVEN = PRIMITIVES["assigners"]
RESULTS = GIVEN["results"]
BOXES = torch.tensor(GIVEN["gt"], dtype=torch.float32)
STRIDES = (8, 16, 32, 64, 128)
RATIOS = (0.5, 1.0, 2.0)
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
KINDS = {
    "retina": Anchors(STRIDES, RATIOS, octave_base=4, scales_per_octave=3),
    "atss": Anchors(STRIDES),
    "rpn": Anchors((4, 8, 16, 32, 64), RATIOS),
    "yolof": Anchors((32,), scales=(1, 2, 4, 8, 16)),
}


def sizes(strides: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(-(-128 // s), -(-128 // s)) for s in strides]


def anchors_of(name: str) -> list[Tensor]:
    kind = KINDS[next(k for k in KINDS if RESULTS[name]["anchors"].startswith(k))]
    grid = kind.grid(sizes(kind.strides))
    assert sum(map(len, grid)) == RESULTS[name]["priors"]
    return grid


def random(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(((uniform(name, shape) + 1) / 2).astype(np.float32))


def compare(found: Assignment, name: str) -> None:
    positive = {int(i): int(found.index[i]) for i in torch.nonzero(found.positive)[:, 0]}
    assert positive == {int(k): v for k, v in RESULTS[name]["positive"].items()}
    assert torch.nonzero(found.ignored)[:, 0].tolist() == RESULTS[name]["ignored"]


@pytest.mark.parametrize(
    ("name", "assigner"),
    [
        ("MaxIoU retina .5/.4 min 0", MaxIoU(0.5, 0.4)),
        ("MaxIoU rpn .7/.3 min .3", MaxIoU(0.7, 0.3, 0.3)),
        ("MaxIoU rcnn .5 no low quality", MaxIoU(0.5, 0.5, 0.5, low_quality=False)),
        ("MaxIoU paa .1/.1 min 0", MaxIoU(0.1, 0.1)),
        ("MaxIoU ssd .5 gt_max_assign_all False", MaxIoU(0.5, 0.5, all_ties=False)),
    ],
)
def test_by_overlap(name: str, assigner: MaxIoU) -> None:
    compare(assigner(torch.cat(anchors_of(name)), BOXES), name)


def test_by_statistics() -> None:
    compare(ATSS(9)(anchors_of("ATSS topk 9"), BOXES), "ATSS topk 9")


def test_by_alignment() -> None:
    name = "TaskAligned topk 13 alpha 1 beta 6"
    priors = torch.cat(anchors_of(name))
    n = len(priors)
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    distances = random("publictald", n, 4) * 13 + 1
    decoded = torch.cat((centres - distances[:, :2], centres + distances[:, 2:]), 1)
    found, metric = TaskAligned()(random("publictal", n, 1) * 0.85 + 0.05, decoded, priors, BOXES)
    compare(found, name)
    for place, value in RESULTS[name]["metric"].items():
        assert metric[int(place)].item() == pytest.approx(value, rel=1e-3, abs=1e-8)


def test_the_same_number_for_each() -> None:
    name = "Uniform .15/.7 k 4"
    priors = torch.cat(anchors_of(name))
    deltas = random("publicyd", len(priors), 4) - 0.5
    predictions = DeltaCoder(shift_clip=32).decode(priors, deltas)
    found, pairs, owners, kept = Uniform()(priors, predictions, BOXES)
    compare(found, name)
    assert kept.int().tolist() == RESULTS[name]["positive_samples_kept"]
    assert len(pairs) == len(owners) == 2 * 4 * len(BOXES)


@pytest.mark.parametrize(
    ("name", "levels", "radius"),
    [("FCOS 5 levels", 5, None), ("FCOS 5 levels centre sampling 1.5", 5, 1.5), ("BAFE-Net 3 levels", 3, None)],
)
def test_points_inside(name: str, levels: int, radius: float | None) -> None:
    strides = STRIDES[:levels]
    index, distances = fcos_targets(points(sizes(strides), strides), BOXES, RANGES[:levels], strides, radius)
    assert len(index) == RESULTS[name]["points"]
    positive = torch.nonzero(index >= 0)[:, 0]
    assert {int(i): distances[i].tolist() for i in positive} == {
        int(k): v for k, v in RESULTS[name]["positive"].items()
    }
    assert centerness(distances[positive]).tolist() == pytest.approx(RESULTS[name]["centerness"], abs=2e-6)


def test_a_least_radius_finds_targets_between_the_points() -> None:
    tiny = torch.tensor([[5.0, 5.0, 7.0, 7.0], [28.0, 12.0, 31.0, 15.0]])  # no point of stride 8 is inside either
    grid = points([(4, 4)], (8,))
    assert (fcos_targets(grid, tiny, [(-1, 64)])[0] < 0).all()
    index, distances = fcos_targets(grid, tiny, [(-1, 64)], least_radius=4)
    # The first one's centre is (6, 6): 2 px from the point (4, 4); the second's (29.5, 13.5) 1.5 px from (28, 12).
    assert {int(i): int(index[i]) for i in torch.nonzero(index >= 0)[:, 0]} == {0: 0, 7: 1}
    assert distances[0].tolist() == [0, 0, 3, 3]


def test_the_smallest_of_several_boxes_wins() -> None:
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 8.0, 8.0]])
    index, _ = fcos_targets(points([(2, 2)], (8,)), boxes, [(-1, 64)])
    assert index.tolist() == [1, 0, 0, 0]


def test_without_boxes_all_is_background() -> None:
    none = torch.zeros(0, 4)
    grid = KINDS["atss"].grid(sizes(STRIDES))
    every = torch.cat(grid)
    found = [
        MaxIoU(0.5, 0.4)(every, none),
        ATSS()(grid, none),
        TaskAligned()(torch.rand(len(every), 1), every, every, none)[0],
        Uniform()(every, every, none)[0],
    ]
    for one in found:
        assert (one.index == -1).all() and one.overlap.shape == one.index.shape
    index, distances = fcos_targets(points(sizes(STRIDES), STRIDES), none, RANGES)
    assert (index == -1).all() and distances.shape == (341, 4)
