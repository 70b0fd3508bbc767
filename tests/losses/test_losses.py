"""Values and gradients of the published losses, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from motes.errors import MotesError
from motes.losses import LOSSES, Sum, create_loss

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "losses"
CASES = [c for c in json.loads((REFERENCE / "cases.json").read_text()) if c["loss"] in LOSSES]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return dict(np.load(REFERENCE / "cases.npz"))


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_equals_the_published_loss(case: dict, arrays: dict[str, np.ndarray]) -> None:
    outputs = [torch.from_numpy(arrays[p]).requires_grad_() for p in case["preds"]]
    target = torch.from_numpy(arrays[case["target"]]).reshape(outputs[0].shape)
    value = create_loss(case["loss"])(tuple(outputs), target)
    value.backward()
    assert value.item() == pytest.approx(case["value"], rel=1e-6, abs=1e-6)
    for output, name in zip(outputs, case["grads"], strict=True):
        expected = arrays[name]
        assert np.abs(output.grad.numpy() - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1e-6)


def test_every_published_name_has_a_case() -> None:
    assert {n for n in LOSSES if "." in n} - {c["loss"] for c in CASES} == {
        "repisdnet.dice"
    }  # tested by its train step


def test_sixteen_bit_outputs_are_summed_in_float32() -> None:
    logits = torch.full((1, 1, 512, 512), -9.0, dtype=torch.bfloat16)
    target = torch.zeros(1, 1, 512, 512)
    target[..., :3, :3] = 1
    assert create_loss("soft_iou")(logits, target).item() == pytest.approx(
        create_loss("soft_iou")(logits.float(), target).item()
    )


def test_dice_has_no_gradient_without_targets_and_bce_has() -> None:
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    create_loss("dice")(logits, torch.zeros(1, 1, 8, 8)).backward()
    assert logits.grad.abs().max() == 0
    Sum([create_loss("dice"), create_loss("bce")], [1.0, 1.0])(logits, torch.zeros(1, 1, 8, 8)).backward()
    assert logits.grad.min() > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: create_loss("soft_iuo"), "soft_iou"),
        (lambda: create_loss("soft_iou", smoth=1), "smooth"),
        (lambda: create_loss("dice", outputs="avg"), "known"),
        (lambda: create_loss("dice")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5)), "shape"),
        (lambda: Sum([create_loss("dice")], [1.0, 2.0]), "weights"),
    ],
)
def test_wrong_use(call, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        call()
