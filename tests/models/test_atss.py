"""ATSS, PAA, GFL and TOOD: the published losses, training, export, small targets, what a detection is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.cards import BoxSpec
from motes.checkpoints import load_published
from motes.errors import CardError
from motes.losses.assigners import grown
from motes.models.one_anchor import centreness_of

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PARAMETERS = {"atss": 32_113_227, "paa": 32_113_227, "gfl": 32_258_442, "tood": 32_018_399}
BY_CENTRE = ("atss", "gfl", "tood")
"""Those that choose anchors by their centres."""


def light(name: str, variant: str | None = "small", **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model(name, variant, **{"backbone": "resnet18", "width": 64, **options})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_published_table(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in motes.create_model(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_losses(name: str) -> None:
    stored = json.loads((REFERENCE / name / "losses.json").read_text())
    net = motes.create_model(name).eval()
    load_published(net, fill_state(json.loads((REFERENCE / name / "keys.json").read_text())))
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    with torch.inference_mode():
        raw = net.raw(torch.from_numpy(fill_input(tuple(shape))))
        for phase, epoch in (("initial_epochs.", 0), ("later_epochs.", 4)) if name == "tood" else (("", 0),):
            if name == "tood":
                net.progress(epoch)
            expected = {k.removeprefix(phase): v for k, v in stored["losses"].items() if k.startswith(phase)}
            sums = net.losses_of(raw, targets, tuple(shape[2:]))
            assert sums.keys() == expected.keys()
            if name != "paa":
                for key, levels in net.losses_by_level(raw, targets).items():
                    assert levels.tolist() == pytest.approx(expected[key], rel=2e-5, abs=1e-7)
            for key, value in sums.items():
                assert float(value) == pytest.approx(float(torch.tensor(expected[key]).sum()), rel=2e-5)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(name: str, variant: str | None) -> None:
    net = light(name, variant)
    check_training(net)
    if name == "tood":
        net.zero_grad()
        net.progress(4)
        check_training(net)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_batch_without_targets_teaches_scores_alone(name: str) -> None:
    net = light(name)
    for epoch in (0, 4) if name == "tood" else (0,):
        if name == "tood":
            net.progress(epoch)
        losses = net.train()(torch.randn(2, 3, 64, 64), targets_of([[]], (64, 64), 2))
        sum(losses.values()).backward()
        assert float(losses.pop("loss_cls").detach()) > 0
        assert all(float(v.detach()) == 0 for v in losses.values())


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(name: str, variant: str | None) -> None:
    check_export(light(name, variant))


@pytest.mark.parametrize("name", PARAMETERS)
def test_detections_lie_in_the_image_and_depend_on_nothing_else(name: str) -> None:
    net = light(name).eval()
    net.card = net.card.replace(boxes=BoxSpec(score=0.0, nms=0.6, keep=7, vote=net.card.boxes.vote))
    images = torch.randn(2, 3, 50, 70)
    with torch.inference_mode():
        both, alone = net(images), net(images[1:])
    for key, value in alone[0].items():
        assert torch.allclose(both[1][key], value, atol=1e-3), key
    boxes = both[1]["boxes"]
    assert boxes.shape == (7, 4)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([70, 50, 70, 50]) + 1e-3).all()  # a mean of votes is rounded


@pytest.mark.parametrize("name", BY_CENTRE)
def test_the_small_variant_learns_every_target_wherever_it_lies(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=generator) * 56
    boxes = torch.cat((corners, corners + torch.rand(200, 2, generator=generator) * 4 + 1), 1)
    targets = [{"boxes": box[None], "labels": torch.zeros(1, dtype=torch.int64)} for box in boxes]
    learnt = {}
    for variant in (None, "small"):
        net = light(name, variant)
        anchors = net.anchors.grid([(-(-64 // s), -(-64 // s)) for s in net.strides])
        learnt[variant] = len(net.chosen(anchors, targets).image.unique())
    assert learnt["small"] == len(boxes)
    assert learnt[None] < len(boxes) / 2  # as published only what covers a cell's corner


@pytest.mark.parametrize("name", PARAMETERS)
def test_two_classes(name: str) -> None:
    net = light(name, num_classes=2).eval()
    target = targets_of([[[20, 30, 27, 38], [40, 14, 46, 20]]], (64, 64), 1)
    target[0]["labels"] = torch.tensor([0, 1])
    assert all(torch.isfinite(v) for v in net(torch.randn(1, 3, 64, 64), target).values())
    with torch.inference_mode():
        assert net.candidates(torch.randn(1, 3, 64, 64))["scores"].shape[-1] == 2


def test_centreness_is_one_in_the_middle_and_none_outside() -> None:
    anchors = torch.tensor([[4.0, 4, 12, 12], [0, 4, 8, 12], [20, 4, 28, 12], [-2, 4, 6, 12]])
    boxes = torch.tensor([[0.0, 0, 16, 16]]).expand(4, 4)
    # Middle; a quarter of the width from the left: sqrt(4 / 12); outside; an eighth: sqrt(2 / 14).
    assert centreness_of(anchors, boxes).tolist() == pytest.approx([1, (1 / 3) ** 0.5, 0, (1 / 7) ** 0.5])


def test_boxes_grow_about_their_centres_and_large_ones_stay() -> None:
    boxes = torch.tensor([[10.0, 10, 12, 30], [0, 0, 7, 8]])
    assert grown(boxes, 6).tolist() == [[8, 10, 14, 30], [0, 0, 7, 8]]
    assert grown(boxes, 0) is boxes


def test_what_is_refused() -> None:
    with pytest.raises(CardError, match="option 'finest' of atss must be a whole number"):
        motes.create_model("atss", finest="fine")
    with pytest.raises(CardError, match="vgg16"):
        motes.create_model("tood", backbone="vgg16_x")
