"""Faster, Dynamic, Cascade, Grid and Libra R-CNN: proposals given or their own, losses, export, training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import motes
import motes.checkpoints
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.benchmark.complexity import complexity
from motes.errors import CardError

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
pytest.importorskip("timm")

NETWORKS = {  # parameters and G multiply-adds at 512 px of the published table
    "faster_rcnn": (33_035_409, 759.45),
    "dynamic_rcnn": (41_348_181, 63.179),
    "cascade_rcnn": (69_151_841, 90.978),
    "grid_rcnn": (64_467_226, 176.676),
    "libra_rcnn": (41_611_349, 63.990),
}
FORMS = [(name, "small") for name in NETWORKS] + [("faster_rcnn", None), ("dynamic_rcnn", None)]


def tiny(name: str, variant: str | None = "small", **options: object) -> torch.nn.Module:
    """On ResNet-18 and with few proposals."""
    torch.manual_seed(0)
    net = motes.create_model(name, variant, backbone="resnet18", **options)
    net.amounts = {mode: dataclasses.replace(a, per_level=40, keep=30) for mode, a in net.amounts.items()}
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_has_the_published_size(name: str) -> None:
    params, macs = NETWORKS[name]
    with torch.device("meta"):
        cost = complexity(motes.create_model(name), 512, 512)
    assert cost.params == params
    # The table's counter also counts batch norms and the like.
    assert cost.macs / 1e9 == pytest.approx(macs, rel=0.003)


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_equal_the_published_ones_for_given_proposals(name: str) -> None:
    stored = json.loads((REFERENCE / name / "losses.json").read_text())
    net = motes.create_model(name)
    motes.checkpoints.load_published(net, fill_state(json.loads((REFERENCE / name / "keys.json").read_text())))
    net.eval()
    # The reference samples nothing: all candidates count.
    net.rpn_loss = dataclasses.replace(net.rpn_loss, sampler=dataclasses.replace(net.rpn_loss.sampler, number=None))
    net.roi_head.sampler = dataclasses.replace(net.roi_head.sampler, number=None)
    images = torch.from_numpy(fill_input(stored["shape"]))
    size = tuple(stored["shape"][2:])
    targets = targets_of(stored["gt_boxes"], size, len(images))
    with torch.no_grad():
        raw = net.raw(images)
        objects, boxes = net.proposal_losses(raw, targets, size)
        proposals = [torch.tensor(p) for p in stored["roi_proposals"]]
        found = {k: v.item() for k, v in net.roi_head.losses(raw["maps"], proposals, targets, size).items()}
    found |= {"rpn.loss_rpn_cls": [v.item() for v in objects], "rpn.loss_rpn_bbox": [v.item() for v in boxes]}
    expected = {k: v for k, v in stored["losses"].items() if not k.endswith("acc")}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize(("name", "variant"), FORMS)
def test_trains(name: str, variant: str | None) -> None:
    losses = check_training(tiny(name, variant))
    assert {"loss_rpn_cls", "loss_rpn_bbox"} < losses.keys()
    # Targets of a few px overlap none of the published anchors enough.
    assert (losses["loss_rpn_bbox"] > 0) == (variant == "small")


@pytest.mark.parametrize("name", ["cascade_rcnn", "grid_rcnn"])
def test_trains_on_a_batch_without_targets(name: str) -> None:
    net = tiny(name).train()
    none = targets_of([[]], (64, 64), 1)
    sum(net(torch.randn(1, 3, 64, 64), none).values()).backward()
    assert not [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", ["cascade_rcnn", "libra_rcnn", "grid_rcnn"])
def test_a_seed_repeats_the_losses(name: str) -> None:
    net = tiny(name).train()
    images = torch.randn(1, 3, 64, 64)
    targets = targets_of([[[20.0, 30, 27, 38], [50, 50, 54, 54]]], (64, 64), 1)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append({k: v.item() for k, v in net(images, targets).items()})
    assert found[0] == found[1] != found[2]


def test_odd_targets_leave_losses_finite() -> None:
    net = tiny("cascade_rcnn").train()
    boxes = torch.tensor([[5.0, 5, 5, 9], [500, 500, 510, 505], [-20, -20, 200, 200], [3, 3, 6, 6]])
    losses = net(torch.randn(1, 3, 40, 56), [{"boxes": boxes, "labels": torch.zeros(4, dtype=torch.int64)}])
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.parametrize(("name", "variant"), FORMS)
def test_candidates_export(name: str, variant: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.models.grid_rcnn.KEEP", 10)
    net = tiny(name, variant)
    with torch.no_grad():  # scores that differ
        for part in net.rpn_head, net.roi_head:
            for parameter_name, parameter in part.named_parameters():
                if parameter_name.endswith(("rpn_cls.weight", "fc_cls.weight")):
                    parameter.mul_(10)
    check_export(net)


@pytest.mark.parametrize("name", NETWORKS)
def test_detects_in_frames_of_any_size_one_by_one_as_together(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.models.grid_rcnn.KEEP", 10)
    net = tiny(name, num_classes=2).eval()
    net.card = net.card.replace(boxes=dataclasses.replace(net.card.boxes, score=0.2))
    images = torch.randn(2, 3, 50, 70)
    with torch.inference_mode():
        both = net(images)
        alone = [net(image[None])[0] for image in images]
    for a, b in zip(both, alone, strict=True):
        assert len(a["boxes"]) > 0 and set(a["labels"].tolist()) <= {0, 1}
        assert torch.allclose(a["boxes"], b["boxes"], atol=1e-2) and torch.allclose(a["scores"], b["scores"], atol=1e-4)
        assert (a["boxes"] >= 0).all() and (a["boxes"][:, 2] <= 70).all() and (a["boxes"][:, 3] <= 50).all()


def test_c4_needs_a_resnet() -> None:
    with pytest.raises(CardError, match="last stage"):
        motes.create_model("faster_rcnn", backbone="convnext_atto")


def test_c4_takes_blue_first_and_the_pyramid_red() -> None:
    assert motes.create_model("faster_rcnn", backbone="resnet18").bgr
    other = motes.create_model("faster_rcnn", "fpn", backbone="resnet18")
    assert not other.bgr and other.card.input.std == (0.229, 0.224, 0.225)
