"""Losses of detectors give mmdetection's numbers (tests/reference/detectors/primitives.json)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motes.losses.boxes import (
    balanced_l1,
    distribution_focal,
    focal_on_probabilities,
    gaussian_focal,
    giou_loss,
    iou_loss,
    quality_focal,
    quality_focal_on_probabilities,
    sigmoid_focal,
    smooth_l1,
    varifocal,
    weighted_mean,
)

LOSSES = json.loads((Path(__file__).resolve().parents[1] / "reference/detectors/primitives.json").read_text())["losses"]
INPUTS = LOSSES["inputs"]
LOGITS, QUALITY, BOXES, TRUTH, WEIGHT = (
    torch.tensor(INPUTS[k]) for k in ("logits", "quality", "pred_boxes", "target_boxes", "weight")
)
OBJECT = 1 - torch.tensor(INPUTS["labels_0_is_object_1_is_background"])
P = LOGITS.sigmoid()
A, B = BOXES / 10, TRUTH / 10


@pytest.mark.parametrize(
    ("name", "loss", "weight", "total"),
    [
        ("focal g2 a.25", lambda: sigmoid_focal(LOGITS, OBJECT), None, 7),
        ("focal on probabilities", lambda: focal_on_probabilities(P, OBJECT), None, 7),
        ("quality focal beta 2", lambda: quality_focal(LOGITS, QUALITY, OBJECT > 0), None, 7),
        ("quality focal on", lambda: quality_focal_on_probabilities(P, QUALITY), None, 7),
        ("varifocal", lambda: varifocal(LOGITS, QUALITY), None, 7),
        ("giou", lambda: giou_loss(BOXES, TRUTH), WEIGHT, 5),
        ("iou -log", lambda: iou_loss(BOXES, TRUTH), WEIGHT, 5),
        ("iou 1-x", lambda: iou_loss(BOXES, TRUTH, "linear"), WEIGHT, 5),
        ("l1 of", lambda: smooth_l1(A, B, 0), None, 5),
        ("smooth_l1 beta 1/9", lambda: smooth_l1(A, B, 1 / 9), None, 5),
        ("smooth_l1 beta 1 ", lambda: smooth_l1(A, B), None, 5),
        ("balanced_l1", lambda: balanced_l1(A, B), None, 5),
    ],
)
def test_published_numbers(name: str, loss: Callable[[], Tensor], weight: Tensor | None, total: float) -> None:
    (expected,) = (v for k, v in LOSSES.items() if k.startswith(name))
    assert weighted_mean(loss(), weight, total).item() == pytest.approx(expected, rel=2e-6)


def test_distribution_focal() -> None:
    given = LOSSES["dfl"]
    loss = distribution_focal(torch.tensor(given["logits"]), torch.tensor(given["target"]))
    assert weighted_mean(loss, None, 4).item() == pytest.approx(given["loss_avg_factor_4"], rel=2e-6)


def test_gaussian_focal() -> None:
    (given,) = (v for k, v in LOSSES.items() if k.startswith("gaussian focal"))
    positive = torch.zeros(24, dtype=torch.bool)
    positive[[3, 7, 11]] = True
    loss = gaussian_focal(LOGITS, torch.tensor(given["target"]), positive)
    assert weighted_mean(loss, None, 3).item() == pytest.approx(given["loss_avg_factor_3"], rel=2e-6)


def test_nothing_to_average_is_nothing_and_has_a_gradient() -> None:
    boxes = torch.zeros(3, 4, requires_grad=True)
    loss = weighted_mean(giou_loss(boxes[:0], boxes[:0]), total=0.0)
    loss.backward()
    assert loss.item() == 0 and boxes.grad is not None and not boxes.grad.any()
    assert weighted_mean(torch.tensor([1.0, 3.0])).item() == pytest.approx(2)


@pytest.mark.parametrize("loss", [sigmoid_focal, quality_focal, varifocal])
def test_sure_and_wrong_logits_stay_finite(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    value = loss(logits, torch.tensor([1.0, 0.0])).sum()
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
