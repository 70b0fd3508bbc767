"""AutoAssign: the prior, boxes without a place, small targets, training, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from motes.layers.priors import points
from motes.models.autoassign import CentrePrior, negative_loss, positive_loss

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("autoassign", variant, **{"backbone": "resnet18", "width": 64, **options})


def test_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        net = motes.create_model("autoassign")
    assert sum(p.numel() for p in net.parameters()) == 36_244_047


@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(variant: str | None) -> None:
    check_training(light(variant))


@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(variant: str | None) -> None:
    check_export(light(variant), shapes=((1, 96, 32), (2, 64, 128)))


def test_the_prior_as_published() -> None:
    primitives = json.loads((REFERENCE / "detectors" / "primitives.json").read_text())["assigners"]
    boxes = torch.tensor(primitives["gt"], dtype=torch.float32)
    strides = (8, 16, 32, 64, 128)
    levels = points([(128 // s, 128 // s) for s in strides], strides, offset=0.0)
    stride = torch.cat([torch.full((len(p), 1), float(s)) for p, s in zip(levels, strides, strict=True)])
    places = torch.cat(levels)
    prior = CentrePrior(1)
    with torch.no_grad():
        prior.mean.fill_(0.1)
        prior.sigma.fill_(1.2)
        found = prior(places, stride, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    inside = ((places[:, None] > boxes[:, :2]) & (places[:, None] < boxes[:, 2:])).all(-1)
    stored = primitives["results"]["AutoAssign centre prior mean .1 sigma 1.2"]
    expected = {tuple(int(n) for n in k.split(",")): v for k, v in stored.items()}
    rows = {(p, n): float(found[p, n]) for p, n in inside.nonzero().tolist()}
    assert {k: v for k, v in rows.items() if v > 1e-4} == pytest.approx(expected, abs=2e-6)


def test_a_box_without_a_place_costs_a_constant_and_teaches_nothing() -> None:
    p, found = torch.tensor([[0.3]], requires_grad=True), torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
    box, prior = torch.tensor([[1.0, 1, 3, 3]]), torch.zeros(1, 1)
    loss = positive_loss(p, found, box, prior, torch.zeros(1, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 100  # -ln 0, cut as in the authors' cross-entropy
    assert not p.grad.any() and not found.grad.any()


def test_the_best_place_of_a_box_is_no_background() -> None:
    box, labels = torch.tensor([[0.0, 0, 8, 8]]), torch.zeros(1, dtype=torch.int64)
    found = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 6], [0, 0, 8, 8]])
    p = torch.full((4, 1), 0.5, requires_grad=True)
    inside = torch.tensor([True, True, False, False])[:, None]
    negative_loss(p, found, box, labels, inside).backward()
    best, worst, outside, far = p.grad.flatten().tolist()
    assert best == pytest.approx(0, abs=1e-6)
    assert worst == outside == far > 0  # the worst inside counts as much as one outside, however well that fits


@pytest.mark.parametrize(("variant", "every"), [("small", True), (None, False)])
def test_small_targets_get_places(variant: str | None, every: bool) -> None:
    net = light(variant)
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 60, (60, 2), generator=generator).float()
    boxes = torch.cat((corners, corners + torch.randint(2, 5, (60, 2), generator=generator)), 1)
    with torch.inference_mode():
        raw = net.raw(torch.randn(1, 3, 64, 64))
    missed = 0
    for box in boxes:
        target = [{"boxes": box[None], "labels": torch.zeros(1, dtype=torch.int64)}]
        missed += float(net.losses_of(raw, target, (64, 64))["loss_pos"].detach()) > 24.9  # a quarter of 100
    assert missed == 0 if every else missed > len(boxes) / 2


def test_two_classes() -> None:
    net = light("small", num_classes=2).eval()
    targets = targets_of([[[20, 30, 27, 38], [60, 14, 66, 20]]], (64, 96), 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    images = torch.randn(1, 3, 64, 96)
    losses = net(images, targets)
    losses["loss_center"].backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert net.bbox_head.center_prior.sigma.grad.abs().min() > 0  # each class its own prior
    assert net.candidates(images)["scores"].shape[-1] == 2
