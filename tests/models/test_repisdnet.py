"""RepISD-Net: its three forms, its training step, free sizes, wrong names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.errors import CardError
from motes.models import any_size

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    net = motes.create_model("repisdnet")
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    net.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return net.eval()


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (37, 41)])
def test_three_forms_agree(net: torch.nn.Module, size: tuple[int, int]) -> None:
    x = torch.from_numpy(fill_input((2, 3, *size)))
    with torch.inference_mode():
        expected = net(x)
        assert torch.allclose(net.converted()(x), expected, atol=2e-5 * expected.abs().max())
        assert torch.allclose(net.reparameterize()(x), expected, atol=2e-5 * expected.abs().max())


def test_merging_keeps_the_bias_of_the_1x1(net: torch.nn.Module) -> None:
    stored = np.load(REFERENCE / "case-reparam.npz")
    state = net.reparameterize().state_dict()
    merged = [k for k in stored.files if k.endswith(("rbr_reparam.weight", "rbr_reparam.bias"))]
    assert len(merged) == 4
    for key in merged:
        assert np.abs(state[key].numpy() - stored[key]).max() < 1e-5
        if key.endswith("bias"):
            assert np.abs(state[key].numpy() - stored[f"{key}.without_1x1_bias"]).max() > 1e-2


def test_names_are_the_published_ones() -> None:
    for variant, file in ((None, "keys"), ("converted", "keys"), ("deploy", "keys-deploy")):
        published = json.loads((REFERENCE / f"{file}.json").read_text())
        state = motes.create_model("repisdnet", variant=variant).state_dict()
        assert list(state) == list(published)
        assert {k: list(v.shape) for k, v in state.items()} == {k: v[0] for k, v in published.items()}


def test_training_step_equals_the_authors(net: torch.nn.Module) -> None:
    from motes.losses import create_loss

    case = json.loads((REFERENCE / "case-trainstep.json").read_text())
    net = motes.create_model("repisdnet")
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    net.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    net.cls[3].p = 0.0
    shape = case["input_shape"]
    x = torch.from_numpy(fill_input(shape))
    target = torch.from_numpy(fill_input((shape[0], 1, *shape[2:]), "target") > 0.6).float()
    assert int(target.sum()) == case["target_pixels"]
    loss = create_loss("repisdnet.dice")(net.train()(x), target)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    gradients = dict(net.named_parameters())
    for name, norm in case["grad_l2"].items():
        if norm > 1e-6:
            assert gradients[name].grad.norm().item() == pytest.approx(norm, rel=2e-3), name
    buffers = dict(net.named_buffers())
    for name, norm in case["buffer_l2_after"].items():
        assert buffers[name].float().norm().item() == pytest.approx(norm, rel=1e-4), name


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 4), (5, 30)])
def test_any_size(net: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert any_size(net)(torch.zeros(1, 3, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: motes.create_model("repisdnt"), "repisdnet"),
        (lambda: motes.create_model("repisdnet", variant="deply"), "deploy"),
        (lambda: motes.create_model("repisdnet", depth=3), "depth"),
    ],
)
def test_wrong_names(call, hint: str) -> None:
    with pytest.raises(CardError, match=hint):
        call()


def test_one_channel_network() -> None:
    net = motes.create_model("repisdnet", in_channels=1)
    assert len(net.card.input.mean) == 1
    assert net.train()(torch.zeros(2, 1, 16, 16))[0].shape == (2, 1, 16, 16)
