"""Losses of several classes: FactSeg's and FarSeg's published values and gradients, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from motes.errors import MotesError
from motes.losses import LOSSES, create_loss
from motes.models.factseg import log_joint_probability

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
NAMES = [n for n in LOSSES if n.startswith(("factseg.", "farseg."))]


def factseg(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(REFERENCE / "factseg" / f"case-loss-{name}.npz"))


def tensors(case: dict[str, np.ndarray], *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(case[n]).requires_grad_(n != "label") for n in names]


def close(found: torch.Tensor | None, expected: np.ndarray) -> bool:
    assert found is not None
    return float(np.abs(found.numpy() - expected).max()) <= 1e-8 + 1e-6 * float(np.abs(expected).max())


@pytest.mark.parametrize(
    "case", ["som-r0.1", "som-r0.2", "som-r1.0", "som-r0.1-mostly-ignored", "som-r0.1-all-ignored"]
)
def test_joint_loss_equals_the_published_one(case: str) -> None:
    stored = factseg(f"joint-{case}")
    (fg, bi), label = tensors(stored, "fg", "bi"), torch.from_numpy(stored["label"])
    joint = log_joint_probability(fg, bi)
    loss = create_loss("factseg.joint", ratio=float(stored["ratio"]))((joint, fg, bi), label)
    loss.backward()
    assert loss.item() == pytest.approx(float(stored["value"]), rel=1e-6)
    assert close(fg.grad, stored["grad_fg"])
    assert close(bi.grad, stored["grad_bi"])
    assert int((bi.grad.abs() + fg.grad.abs().sum(1, keepdim=True) > 0).sum()) == int(stored["kept"])


@pytest.mark.parametrize(
    ("case", "name", "options"),
    [
        ("ohem-ce-thresh0.7-kept20", "factseg.ohem", ("min_kept",)),
        ("ohem-ce-thresh0.7-kept350", "factseg.ohem", ("min_kept",)),
        ("ohem-ce-thresh0.7-kept100000", "factseg.ohem", ()),
        ("inverse-ce", "factseg.inverse_frequency", ()),
        ("focal", "factseg.focal", ("alpha", "gamma")),
    ],
)
def test_ablations_equal_the_published_ones(case: str, name: str, options: tuple[str, ...]) -> None:
    stored = factseg(case)
    (fg,) = tensors(stored, "fg")
    chosen = {o: stored[o].tolist() for o in options}
    # The class logits are the second of FactSeg's outputs.
    loss = create_loss(name, **chosen)((fg.detach() * 0, fg, fg[:, :1]), torch.from_numpy(stored["label"]))
    loss.backward()
    assert loss.item() == pytest.approx(float(stored["value"]), rel=1e-6)
    assert close(fg.grad, stored["grad_fg"])
    if "kept" in stored:
        assert int((fg.grad.abs().sum(1) > 0).sum()) == int(stored["kept"])


FARSEG = dict(np.load(REFERENCE / "farseg" / "case-loss-focal.npz"))


@pytest.mark.parametrize("which", [k.removeprefix("value_") for k in FARSEG if k.startswith("value_")])
def test_annealed_focal_loss_equals_the_published_one(which: str) -> None:
    kind, _, at = which.partition("_")
    if kind == "focal":
        loss = create_loss("farseg.focal", anneal="none", normalised=at == "norm1")
    else:
        loss = create_loss("farseg.focal", anneal=kind)
        loss.step.fill_(int(at))
    loss.eval()
    (fg,) = tensors(FARSEG, "fg")
    value = loss((fg,), torch.from_numpy(FARSEG["label"]))
    value.backward()
    assert value.item() == pytest.approx(float(FARSEG[f"value_{which}"]), rel=1e-6)
    if f"grad_{which}" in FARSEG:
        assert close(fg.grad, FARSEG[f"grad_{which}"])


def test_annealing_counts_its_steps_in_training_alone_and_goes_on_from_a_saved_state() -> None:
    loss = create_loss("farseg.focal", steps=4)
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    loss.train()
    loss(logits, labels)
    loss(logits, labels)
    loss.eval()
    loss(logits, labels)
    assert int(loss.step) == 2
    other = create_loss("farseg.focal", steps=4)
    other.load_state_dict(loss.state_dict())
    assert int(other.step) == 2
    assert [float(loss.share_of_plain()) for loss.step in map(torch.tensor, (0, 2, 4, 9))] == pytest.approx(
        [1, 0.5, 0, 0], abs=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logit", [-200.0, -30.0, 0.0, 30.0, 200.0])
@pytest.mark.parametrize("label", [0, 1, 255])
def test_value_and_gradient_are_finite_also_where_saturated_or_ignored(name: str, logit: float, label: int) -> None:
    loss = create_loss(name)
    logits = torch.zeros(2, 3, 6, 7)
    logits[:, 0] = logit
    logits.requires_grad_()
    foreground = (logits[:, :1] * 1.0) - logits[:, 1:2]
    labels = torch.full((2, 6, 7), label)
    labels[0, 0, 0] = label
    value = loss((log_joint_probability(logits, foreground), logits, foreground), labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    if label == 255:
        assert value.item() == 0
        assert not logits.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_have_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[:, 2:5] = 255
    channels = getattr(create_loss(name), "channels", None)
    output = logits[:, :1] if channels == 1 else logits
    create_loss(name)(output.log_softmax(1) if name == "factseg.joint" else output, labels).backward()
    assert not logits.grad[:, :, 2:5].any()
    assert logits.grad.any()


def test_foreground_losses_follow_their_formulas() -> None:
    torch.manual_seed(0)
    bi, labels = torch.randn(2, 1, 4, 5), torch.randint(0, 4, (2, 1, 4, 5))
    labels[1, 0, 2] = 255
    valid = labels != 255
    p, t = torch.sigmoid(bi)[valid], (labels > 0)[valid].float()
    outputs = (torch.zeros(2, 4, 4, 5), torch.zeros(2, 4, 4, 5), bi)
    expected = F.binary_cross_entropy(p, t)
    assert create_loss("factseg.binary")(outputs, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    assert create_loss("factseg.dice")(outputs, labels).item() == pytest.approx(dice.item(), rel=1e-5)


def test_mining_keeps_the_share_of_all_pixels_with_the_largest_loss() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 10, 10), torch.randint(0, 3, (1, 10, 10))
    each = F.cross_entropy(logits, labels, reduction="none").flatten().sort(descending=True).values
    assert create_loss("factseg.som", ratio=0.07)(logits, labels).item() == pytest.approx(each[:7].mean().item())
    plain = create_loss("factseg.cross_entropy")(logits, labels).item()
    assert plain == pytest.approx(F.cross_entropy(logits, labels).item())


def test_sixteen_bit_outputs_are_summed_in_32_bits() -> None:
    logits = torch.full((1, 2, 300, 300), 3.0, dtype=torch.float16)
    logits[:, 1] = -3
    labels = torch.ones(1, 300, 300, dtype=torch.long)
    for name in ("farseg.focal", "factseg.cross_entropy"):
        assert create_loss(name, output=0)(logits, labels).item() == pytest.approx(6.0025, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("factseg.joint", {"ratio": 0.0}, "ratio 0 is outside"),
        ("factseg.joint", {"ratio": 1.5}, "ratio 1.5 is outside"),
        ("factseg.inverse_frequency", {"margin": 1.0}, "margin 1 is not above 1"),
        ("factseg.focal", {"gamma": 0.5}, "gamma 0.5 has no finite gradient"),
        ("farseg.focal", {"anneal": "cosin"}, "did you mean 'cosine'"),
        ("farseg.focal", {"steps": 0}, "steps must be at least 1"),
        ("farseg.focal", {"normalised": False}, "set anneal to none"),
        ("factseg.ohem", {"treshold": 0.7}, "did you mean 'threshold'"),
    ],
)
def test_bad_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(MotesError, match=message):
        create_loss(name, **options)


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        (
            "factseg.ohem",
            (torch.zeros(1, 3, 4, 4),),
            torch.zeros(1, 4, 4).long(),
            "output 1, the network has 1",
        ),
        ("factseg.joint", torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5).long(), "against labels of"),
        ("factseg.joint", torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "need integer labels"),
        ("factseg.binary", torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long(), "an output of 1 channel, found 3"),
        (
            "factseg.inverse_frequency",
            (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)),
            torch.zeros(1, 4, 4).long(),
            "output 1 has one in all",
        ),
    ],
)
def test_bad_input(name: str, outputs: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(MotesError, match=message):
        create_loss(name)(outputs, labels)


def test_focal_factors_need_one_for_each_class() -> None:
    with pytest.raises(MotesError, match="alpha has 2 factors for 3 classes"):
        create_loss("factseg.focal", alpha=[1, 2])(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long())
