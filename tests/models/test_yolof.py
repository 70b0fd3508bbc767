"""YOLOF: objectness in the logits, losses as published, training, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.checkpoints import load_published
from motes.models.yolof import YOLOFHead

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("yolof", variant, **{"backbone": "resnet18", "width": 64, **options})


def test_parameters_and_losses_of_the_published_network() -> None:
    stored = json.loads((REFERENCE / "yolof" / "losses.json").read_text())
    net = motes.create_model("yolof").eval()
    assert sum(p.numel() for p in net.parameters()) == 42_339_422
    load_published(net, fill_state(json.loads((REFERENCE / "yolof" / "keys.json").read_text())))
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    with torch.inference_mode():
        found = net.losses_of(net.raw(torch.from_numpy(fill_input(tuple(shape)))), targets, tuple(shape[2:]))
    assert {k: float(v) for k, v in found.items()} == pytest.approx(stored["losses"], rel=2e-5)


@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(variant: str | None) -> None:
    check_training(light(variant), (96, 128))


@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(variant: str | None) -> None:
    check_export(light(variant))


def test_a_class_counts_where_there_is_an_object() -> None:
    head = YOLOFHead(32, 1, 1)
    cases = [(2.0, 3.0), (-4.0, 1.0), (60.0, 60.0), (500.0, -5.0), (90.0, 400.0)]
    for c, o in cases:
        with torch.no_grad():
            for conv, value in ((head.cls_score, c), (head.object_pred, o)):
                conv.weight.zero_()
                conv.bias.fill_(value)
        for parameter in head.parameters():
            parameter.grad = None
        logits, _ = head(torch.zeros(2, 32, 1, 1))
        wanted = c + o - torch.log(1 + torch.tensor([c, o], dtype=torch.float64).exp().clamp(max=1e8).sum())
        assert float(logits[0].detach()) == pytest.approx(float(wanted), rel=1e-5, abs=1e-5)
        logits.sum().backward()
        assert torch.isfinite(head.cls_score.bias.grad).all() and torch.isfinite(head.object_pred.bias.grad).all()


def test_two_classes_share_an_objectness() -> None:
    net = light("small", num_classes=2).eval()
    images = torch.randn(1, 3, 64, 96)
    targets = targets_of([[[20, 30, 24, 34], [60, 14, 64, 18]]], (64, 96), 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    with torch.no_grad():
        assert all(torch.isfinite(v) for v in net(images, targets).values())
        net.bbox_head.object_pred.bias.fill_(-30.0)
        scores = net.candidates(images)["scores"]
    assert scores.shape == (1, 8 * 12 * 4, 2) and scores.max() < 1e-9


def test_the_small_variant_matches_small_targets() -> None:
    small, published = light("small"), light()
    target = torch.tensor([[21.0, 30, 25, 34]])
    found = []
    for net, side in ((small, 8), (published, 2)):
        (anchors,) = net.anchors.grid([(side, side)])
        found.append(int(net.assign(anchors, anchors, target)[0].positive.sum()))
    assert found[0] >= 1 and found[1] == 0


def test_blue_first_is_the_published_networks_alone() -> None:
    assert light().bgr and not light("small").bgr
    assert light().card.input.std == (1 / 255,) * 3 and light("small").card.input.std == (0.229, 0.224, 0.225)
