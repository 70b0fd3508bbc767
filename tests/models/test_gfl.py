"""GFL: distances as distributions, and how the losses of boxes are weighted."""

from __future__ import annotations

import pytest
import torch

import motes
from box_checks import targets_of

pytest.importorskip("timm")


def light(variant: str | None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("gfl", variant, **{"backbone": "resnet18", "width": 32, **options})


def sure(net: torch.nn.Module, bins: list[int]) -> torch.Tensor:
    """Logits [1, 68] that are all but certain of one value a side."""
    logits = torch.zeros(1, 4, 17)
    for side, value in enumerate(bins):
        logits[0, side, value] = 60.0
    return net.distances(logits.flatten(1))


def test_a_distance_is_the_mean_of_its_values() -> None:
    assert sure(light(None), [0, 3, 16, 5])[0].tolist() == pytest.approx([0, 3, 16, 5])
    assert light(None).distances(torch.zeros(1, 68))[0].tolist() == pytest.approx([8] * 4)


def test_the_small_variant_reaches_boxes_beside_an_anchors_centre() -> None:
    net = light("small")
    assert sure(net, [0, 1, 2, 3])[0].tolist() == pytest.approx([-1, 0, 1, 2])
    assert net.bbox_head.integral.project[0] == -1
    # Anchor of cell (1, 1) at stride 4: centre (4, 4); a box 1 stride to its right and 2 wide.
    maps = [(2, 2), (1, 1), (1, 1), (1, 1)]
    raw = [[torch.zeros(1, 1, h, w) for h, w in maps], [torch.zeros(1, 68, h, w) for h, w in maps]]
    for side, value in enumerate([0, 1, 4, 2]):
        raw[1][0][0, side * 17 + value, 1, 1] = 60.0
    box = net.candidates_of(raw, (32, 32))["boxes"][0, 3]
    assert box.tolist() == pytest.approx([8, 4, 16, 8])


@pytest.mark.parametrize(("variant", "share"), [(None, 0.01), ("small", 1.0)])
def test_few_boxes_count_in_full_in_the_small_variant(variant: str | None, share: float) -> None:
    net = light(variant, finest=3, extra=2, anchor_scale=8.0, min_side=0.0, first_value=0)
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    score = torch.logit(torch.tensor(0.01))
    raw = [[torch.full((1, 1, h, w), float(score)) for h, w in sizes], [torch.zeros(1, 68, h, w) for h, w in sizes]]
    loss = net.losses_by_level(raw, targets_of([[[20.0, 20, 28, 28]]], (64, 64), 1))["loss_dfl"]
    # One anchor, at (24, 24), and uniform distributions: the cross-entropy is ln 17, weighted 1 / 4.
    assert loss.tolist() == pytest.approx([share * 0.25 * 2.833213, 0, 0, 0, 0], rel=1e-4)
