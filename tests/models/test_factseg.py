"""FactSeg: the joint probability, its outputs, costs, the authors' and Paddle's files, training, its export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_published
from motes.data.classes import class_table
from motes.errors import CardError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size
from motes.models.class_order import reorder_classes
from motes.models.factseg import PUBLISHED_CLASSES, log_joint_probability

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "factseg"


def published_weights() -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / "keys.json").read_text()))


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    torch.manual_seed(3)
    return motes.create_model("factseg", num_classes=4, backbone="resnet18").eval()


def test_joint_probability_follows_its_definition() -> None:
    torch.manual_seed(0)
    classes, foreground = torch.randn(3, 5, 4, 6).double(), torch.randn(3, 1, 4, 6).double()
    p, s = classes.softmax(1), foreground.sigmoid()
    q = torch.cat([p[:, :1] * (1 - s), p[:, 1:] * s], dim=1)
    expected = q / q.sum(1, keepdim=True)
    assert torch.allclose(log_joint_probability(classes, foreground).exp().double(), expected, atol=1e-6)


@pytest.mark.parametrize(("foreground", "expected"), [(900.0, -700.0), (-900.0, 0.0)])
def test_joint_probability_is_finite_where_the_published_one_is_not(foreground: float, expected: float) -> None:
    """The product of probabilities underflows at these logits, and its logarithm is infinite."""
    classes = torch.tensor([200.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    joint = log_joint_probability(classes, torch.full((1, 1, 1, 1), foreground))
    assert joint[0, 0].item() == pytest.approx(expected, abs=1)
    assert torch.isfinite(joint).all()


def test_costs_what_is_published() -> None:
    with torch.device("meta"):
        net = motes.create_model("factseg")
    costs = [complexity(net, n, n) for n in (256, 512, 896)]
    assert costs[0].params == 33_446_609
    assert [round(c.macs / 1e9, 3) for c in costs] == [16.659, 66.637, pytest.approx(204.08, abs=5e-3)]


def test_training_returns_the_joint_logarithm_classes_and_foreground(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 32)))
    for module in small.modules():
        module.training = module is small  # batch norms as in eval
    with torch.inference_mode():
        joint, classes, foreground = small(x)
        small.eval()
        assert torch.equal(small(x), joint)
        published = small.published_outputs(x)
    assert (classes.shape, foreground.shape) == ((2, 4, 64, 32), (2, 1, 64, 32))
    assert torch.equal(joint, log_joint_probability(classes, foreground))
    assert torch.allclose(joint.exp().sum(1), torch.ones(2, 64, 32), atol=1e-5)
    assert torch.allclose(published["out0"], joint.exp())


def test_a_frame_does_not_depend_on_the_others_of_its_batch_nor_on_its_size(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 64)))
    with torch.inference_mode():
        both, first = small(x), small(x[:1])
        odd = any_size(small)(x[..., :50, :39])
    assert (both[:1] - first).abs().max() < 1e-4
    assert odd.shape == (2, 4, 50, 39)


def test_it_learns_from_a_batch_with_an_image_without_target(small: torch.nn.Module) -> None:
    net = small.train()
    torch.manual_seed(0)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[0, 10:20, 10:20] = 2
    labels[1, :, 40:] = 255
    create_loss("factseg.joint")(net(torch.randn(2, 3, 64, 64)), labels).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert net.bi_cls.weight.grad.any()
    net.zero_grad(set_to_none=True)
    net.eval()


@pytest.mark.parametrize("form", ["module.", "paddle"])
def test_the_forms_of_its_published_files_load(form: str) -> None:
    state = published_weights()
    expected = load_published(motes.create_model("factseg"), state).state_dict()
    if form == "paddle":  # no counters, other names, and an unused classifier
        names = json.loads((REFERENCE / "paddlers_names.json").read_text())
        given = {names[k]: v for k, v in state.items() if k in names}
        given["resencoder.resnet.fc.weight"] = np.zeros((2048, 1000), "float32")
    else:
        given = {form + k: v for k, v in state.items()}
    found = load_published(motes.create_model("factseg"), given).state_dict()
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_published_weights_can_be_put_in_the_order_of_the_data_sets_ids() -> None:
    assert PUBLISHED_CLASSES[2] == "Roundabout" and PUBLISHED_CLASSES[12] == "storage_tank"
    net = motes.create_model("factseg", backbone="resnet18").eval()
    assert net.card.classes == class_table("isaid").names
    net.card = net.card.replace(classes=PUBLISHED_CLASSES)
    x = torch.from_numpy(fill_input((1, 3, 32, 32)))
    with torch.inference_mode():
        before = net(x)
        assert reorder_classes(net, class_table("isaid").names) is net
        after = net(x)
    order = list(range(16))
    order[2], order[12] = 12, 2
    assert torch.allclose(after, before[:, order], atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-2)
    assert net.card.classes == class_table("isaid").names


def test_other_classes_are_no_other_order(small: torch.nn.Module) -> None:
    with pytest.raises(CardError, match="classes are not those wanted, they differ in class3, ship"):
        reorder_classes(small, ["class0", "class1", "class2", "ship"])
    with pytest.raises(CardError, match="its background 'class0' must stay the first class"):
        reorder_classes(small, ["class1", "class0", "class2", "class3"])
    with pytest.raises(CardError, match="repisdnet: its classes cannot be put in another order"):
        reorder_classes(motes.create_model("repisdnet"), ["target"])


def test_backbone_is_checked() -> None:
    with pytest.raises(CardError, match="unknown backbone 'resnet19'"):
        motes.create_model("factseg", backbone="resnet19")
    with pytest.raises(CardError, match="option 'backbone' of factseg must be a name"):
        motes.create_model("factseg", backbone=50)


def test_it_exports(tmp_path: Path, small: torch.nn.Module) -> None:
    tiles = synthetic_tiles(small.card, ((32, 32), (50, 90), (50, 90)))
    report = export_onnx(small, small.card, tmp_path / "factseg.onnx", tiles)
    assert report.passed
    assert [r.shape for r in report.rows] == [(1, 3, 32, 32), (2, 3, 64, 96)]
