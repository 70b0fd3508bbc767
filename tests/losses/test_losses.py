"""Values and gradients of the published losses, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from motes.errors import MotesError
from motes.losses import LOSSES, Sum, create_loss
from motes.losses.edges import MaskAndEdge, edges

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "losses"
CASES = json.loads((REFERENCE / "cases.json").read_text())
AERIAL = ("factseg.", "farseg.", "pfnet.")
"""Losses of class labels, with files of tests of their own."""


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return dict(np.load(REFERENCE / "cases.npz"))


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_equals_the_published_loss(case: dict, arrays: dict[str, np.ndarray]) -> None:
    outputs = [torch.from_numpy(arrays[p]).requires_grad_() for p in case["preds"]]
    target = torch.from_numpy(arrays[case["target"]])
    value = create_loss(case["loss"])(tuple(outputs), target)
    value.backward()
    assert value.item() == pytest.approx(case["value"], rel=1e-6, abs=1e-6)
    for output, name in zip(outputs, case["grads"], strict=True):
        expected = arrays[name]
        assert np.abs(output.grad.numpy() - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1e-6)


@pytest.mark.parametrize("scenario", sorted({c["scenario"] for c in CASES if "edge_target" in c}))
def test_edges_equal_the_published_ones(scenario: str, arrays: dict[str, np.ndarray]) -> None:
    found = edges(torch.from_numpy(arrays[f"{scenario}/target"])).numpy()
    assert np.abs(found - arrays[f"{scenario}/edge_target"]).max() < 1e-6


def test_every_published_name_has_a_case() -> None:
    assert {n for n in LOSSES if "." in n and not n.startswith(AERIAL)} ^ {c["loss"] for c in CASES} == {
        "repisdnet.dice"
    }  # tested by its train step


@pytest.mark.parametrize("name", [n for n in LOSSES if not n.startswith(AERIAL)])
@pytest.mark.parametrize("logit", [-200.0, -30.0, 0.0, 30.0, 200.0])
def test_without_target_value_and_gradient_are_finite(name: str, logit: float) -> None:
    """Also saturated, where some of the published ones are 0 / 0."""
    loss = create_loss(name)
    channels = 3 if "cross_entropy" in name else 1
    outputs = torch.full((2, channels, 6, 7), logit).requires_grad_()
    given = outputs.sigmoid() if getattr(loss, "inputs", "logits") == "probabilities" else outputs
    target = torch.zeros(2, 6, 7, dtype=torch.long) if channels == 3 else torch.zeros(2, 1, 6, 7)
    value = loss((given, outputs.sigmoid()) if isinstance(loss, MaskAndEdge) else given, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(outputs.grad).all()


def test_cross_entropy_of_a_batch_that_is_ignored_altogether() -> None:
    outputs = torch.randn(1, 3, 4, 4, requires_grad=True)
    for name in ("cross_entropy", "serankdet.cross_entropy_smooth"):
        value = create_loss(name)(outputs, torch.full((1, 4, 4), 255))
        value.backward()
        assert value.item() == 0
        assert not outputs.grad.any()


def test_cross_entropy_takes_labels_with_and_without_channel_axis_and_several_outputs() -> None:
    outputs = tuple(torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0)))
    labels = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    first, second = (torch.nn.functional.cross_entropy(o, labels) for o in outputs)
    assert create_loss("cross_entropy")(outputs, labels[:, None]).item() == pytest.approx(((first + second) / 2).item())
    assert create_loss("cross_entropy", outputs="first")(outputs, labels).item() == pytest.approx(first.item())


def test_focal_by_hand() -> None:
    p, t = torch.tensor([0.5, 0.25, 0.5]).reshape(1, 1, 1, 3), torch.tensor([1.0, 0.0, 0.5]).reshape(1, 1, 1, 3)
    expected = 0.25 * np.log(2) + 0.0625 * np.log(4 / 3) + 0.0625 * 0.25 * np.log(2)
    assert create_loss("focal", inputs="probabilities")(p, t).item() == pytest.approx(expected)
    assert create_loss("focal")(torch.logit(p), t).item() == pytest.approx(expected)
    # Without the fall-off near targets, a pixel of 0.5 counts as any other that is no target.
    flat = create_loss("focal", inputs="probabilities", beta=0.0)(p, t).item()
    assert flat == pytest.approx(0.5 * np.log(2) + 0.0625 * np.log(4 / 3))


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
        (lambda: create_loss("isnet.train")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), "two outputs"),
        (lambda: create_loss("isnet.train")([torch.zeros(1, 1, 4, 4)] * 3, torch.zeros(1, 1, 4, 4)), "has 3"),
        (lambda: create_loss("cross_entropy")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4)), "integer labels"),
        (lambda: create_loss("cross_entropy")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5).long()), "shape"),
        (lambda: create_loss("cross_entropy")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4).long()), "shape"),
        (lambda: create_loss("cross_entropy", label_smoothing=1.0), "0 <= e < 1"),
        (lambda: create_loss("bce", inputs="probabilities", positive_weight=9.0), "needs logits"),
    ],
)
def test_wrong_use(call, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        call()
