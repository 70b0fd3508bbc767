"""PFNet's losses: values and gradients of the authors' code, outlines of masks, ignored pixels, wrong use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fill import fill_input
from motes.errors import MotesError
from motes.losses import create_loss
from motes.losses.boundaries import IGNORED, Edges, boundary, edge_dice, edge_entropy

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "pfnet"


def case(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(REFERENCE / f"case-{name}.npz"))


def edge_logits(stored: dict[str, np.ndarray], name: str) -> torch.Tensor:
    shape = tuple(int(n) for n in stored["edge_shape"])
    return torch.from_numpy(fill_input(shape, name) * np.float32(stored["edge_scale"])).requires_grad_()


def close(found: torch.Tensor, expected: np.ndarray, share: float = 1e-6) -> bool:
    return bool(np.abs(found.detach().numpy() - expected).max() <= share * np.abs(expected).max())


@pytest.mark.parametrize("name", ["default", "thresh0.2-kept450", "thresh0.7-kept100", "thresh0.7-kept720"])
def test_the_hardest_pixels(name: str) -> None:
    stored = case(f"loss-ohem-{name}")
    logits = torch.from_numpy(stored["fg"]).requires_grad_()
    loss = create_loss("pfnet.ohem", thresh=float(stored["thresh"]), min_kept=int(stored["min_kept"]))
    value = loss(logits, torch.from_numpy(stored["label"]).long())
    value.backward()
    assert close(value, stored["value"]) and close(logits.grad, stored["grad_fg"])
    assert int((logits.grad.abs().sum(1) > 0).sum()) == int(stored["kept"])


def test_the_edges() -> None:
    stored = case("loss-edge")
    edge = edge_logits(stored, "edge0")
    assert IGNORED in stored["edge"]
    value = edge_entropy(edge, torch.from_numpy(stored["edge"]))
    value.backward()
    assert close(value, stored["value"]) and close(edge.grad, stored["grad_edge"])


def test_dice_of_the_edges() -> None:
    stored = case("loss-edge")
    edge = edge_logits(stored, "edge0")
    value = edge_dice(edge, torch.from_numpy(stored["dice_edge"]))
    value.backward()
    p = torch.sigmoid(edge.detach())
    assert close(value, stored["dice_value"])
    assert close(edge.grad / (p * (1 - p)), stored["dice_grad_prob"], 1e-5)


def test_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = case("loss-joint")
    # The case's boundaries are not those of its labels.
    monkeypatch.setattr(Edges, "target", lambda *_: torch.from_numpy(stored["edge"]))
    outputs = [torch.from_numpy(stored["fg"]).requires_grad_(), *(edge_logits(stored, f"edge{i}") for i in range(3))]
    labels = torch.from_numpy(stored["label"]).long()
    value = create_loss("pfnet.joint", min_kept=int(stored["min_kept"]))(tuple(outputs), labels)
    value.backward()
    assert close(value, stored["total"])
    assert close(outputs[0].grad, stored["grad_fg"])
    for i in range(3):
        assert close(outputs[1 + i].grad, stored[f"grad_edge{i}"])
    edges = sum(float(stored[f"value_edge_loss_layer{i}"]) for i in (1, 2, 3)) / float(stored["edge_weight"])
    assert create_loss("pfnet.edges")(outputs, labels).item() == pytest.approx(edges)


def test_outlines_of_masks() -> None:
    stored = case("boundary")
    for thickness, expected in zip(stored["thickness"], stored["boundary"], strict=True):
        for mask, drawn in zip(stored["masks"], expected, strict=True):
            assert np.array_equal(boundary(mask, int(thickness)), drawn)
    labels = torch.from_numpy(stored["masks"]).long()
    assert np.array_equal(Edges(8).target(labels).numpy(), stored["boundary"][0])
    assert torch.equal(Edges(8).target(labels[:, None]), Edges(8).target(labels))


def test_ignored_pixels_are_foreground_or_left_out() -> None:
    labels = torch.zeros(1, 24, 40, dtype=torch.long)
    labels[..., 20:] = 255
    published, skipped = Edges(thickness=2).target(labels), Edges(thickness=2, skip_ignored=True).target(labels)
    assert (published[..., 20] == 1).all()
    assert (skipped == torch.where(labels == 255, IGNORED, 0)).all()
    labels[:, 5:15, 4:12] = 3
    skipped = Edges(thickness=1, skip_ignored=True).target(labels)
    assert np.array_equal(skipped[0, :, :20].numpy(), boundary(labels[0, :, :20].numpy() == 3, 1))


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("label", [0, 1, 255])
def test_one_label_everywhere_gives_finite_numbers(logit: float, label: int) -> None:
    logits = torch.full((2, 3, 12, 10), logit, requires_grad=True)
    edges = [torch.full((2, 1, 12, 10), logit, requires_grad=True) for _ in range(3)]
    labels = torch.full((2, 12, 10), label)
    for options in ({"min_kept": 5}, {"dice_weight": 1.0, "skip_ignored": True}):
        value = create_loss("pfnet.joint", **options)((logits, *edges), labels)
        value.backward()
        assert torch.isfinite(value)
        assert all(torch.isfinite(t.grad).all() for t in (logits, *edges))
    # Nothing but ignored pixels: nothing to learn for the classes.
    assert (create_loss("pfnet.ohem")(logits, labels).item() == 0) == (label == 255)


def test_of_equally_hard_pixels_all_are_kept() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    logits = torch.zeros(1, 2, 6, 6, requires_grad=True)
    create_loss("pfnet.ohem", thresh=0.1, min_kept=4)(logits, labels).backward()
    assert (logits.grad != 0).all()


def test_weights_add_up_and_sixteen_bits_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 20, 24), generator=generator)
    logits, edge = torch.randn(2, 4, 20, 24, generator=generator), torch.randn(2, 1, 20, 24, generator=generator)
    outputs = (logits.bfloat16(), edge.bfloat16())
    ohem, edges = (create_loss(f"pfnet.{n}")(tuple(o.float() for o in outputs), labels) for n in ("ohem", "edges"))
    total = create_loss("pfnet.joint", seg_weight=2.0, edge_weight=3.0)(outputs, labels)
    assert total.item() == pytest.approx(2 * ohem.item() + 3 * edges.item(), rel=1e-6)
    dice = edge_dice(outputs[1].float(), Edges().target(labels))
    with_dice = create_loss("pfnet.edges", dice_weight=0.5)(outputs, labels)
    assert with_dice.item() == pytest.approx(edges.item() + 0.5 * dice.item(), rel=1e-6)


def test_without_edge_maps_the_joint_loss_is_that_of_the_classes() -> None:
    logits, labels = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    expected = create_loss("pfnet.ohem")(logits, labels)
    for outputs in (logits, (logits,)):
        assert torch.equal(create_loss("pfnet.joint")(outputs, labels), expected)


LABELS = torch.zeros(2, 8, 8, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: create_loss("pfnet.ohm"), "pfnet.ohem"),
        (lambda: create_loss("pfnet.joint", edge_wieght=1), "edge_weight"),
        (lambda: create_loss("pfnet.ohem", min_kept=0), "at least 1"),
        (lambda: create_loss("pfnet.edges", thickness=0), "at least 1"),
        (lambda: create_loss("pfnet.edges")(torch.zeros(2, 4, 8, 8), LABELS), "one output"),
        (lambda: create_loss("pfnet.edges")([torch.zeros(2, 4, 8, 8)], LABELS), "one output"),
        (lambda: create_loss("pfnet.edges")([torch.zeros(2, 4, 8, 8)] * 2, LABELS), r"edge map of shape \(2, 4"),
        (lambda: create_loss("pfnet.edges")([torch.zeros(2, 1, 4, 4)] * 2, LABELS), r"edge map of shape \(2, 1, 4"),
        (lambda: create_loss("pfnet.edges")([torch.zeros(2, 1, 8, 8)] * 2, LABELS.float()), "integer labels"),
        (lambda: create_loss("pfnet.joint")(torch.zeros(2, 4, 8, 8), LABELS.float()), "integer labels"),
        (lambda: create_loss("pfnet.joint")(torch.zeros(2, 4, 8, 9), LABELS), "shape"),
    ],
)
def test_wrong_use(call, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        call()
