"""Merging, folding and pooling change how a network computes, not what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import motes
from fill import fill_input, fill_state
from motes.checkpoints import load_published
from motes.errors import MotesError
from motes.export import change_form, reparameterize
from motes.export.forms import deployable, fold_norms
from motes.export.pooling import MatrixPooling, replace_pooling

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"


@pytest.fixture(scope="module")
def net() -> nn.Module:
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    return load_published(motes.create_model("repisdnet"), state).eval()


@pytest.mark.parametrize("case", ["train-64x64", "train-64x96", "train-50x70"])
@pytest.mark.parametrize("make", [reparameterize, deployable])
def test_merged_network_gives_the_published_logits(net: nn.Module, case: str, make) -> None:
    stored = np.load(REFERENCE / f"case-{case}.npz")["logits0"]
    x = torch.from_numpy(fill_input((1, 3, *map(int, case.partition("-")[2].split("x")))))
    with torch.inference_mode():
        assert np.abs(make(net)(x)[:, 0].numpy() - stored[:, 1]).max() < 2e-5


def test_merged_network_keeps_its_card(net: nn.Module) -> None:
    merged = reparameterize(net)
    assert (merged.card.name, merged.card.variant, merged.card.form) == ("repisdnet", "deploy", "deploy")
    assert not merged.training
    assert net.card.variant is None
    assert reparameterize(merged) is merged
    plain = nn.Conv2d(1, 1, 3)
    assert reparameterize(plain) is plain


def test_forms_go_one_way(net: nn.Module) -> None:
    converted = change_form(net, "converted")
    assert change_form(net, "train") is net
    assert change_form(converted, "converted") is converted
    assert change_form(change_form(net, "deploy"), "deploy").card.form == "deploy"
    with pytest.raises(MotesError, match="cannot be taken apart into 'train'"):
        change_form(converted, "train")
    with pytest.raises(MotesError, match="did you mean 'deploy'"):
        change_form(net, "deploi")
    with pytest.raises(MotesError, match="unknown form of Conv2d 'deploy'"):
        change_form(nn.Conv2d(1, 1, 1), "deploy")


def test_converting_twice_changes_nothing(net: nn.Module) -> None:
    once = change_form(net, "converted")
    again = load_published(motes.create_model("repisdnet"), once.state_dict()).converted()
    for name, tensor in once.state_dict().items():
        assert torch.allclose(tensor.float(), again.state_dict()[name].float(), atol=1e-6), name


def test_folding_is_exact_and_leaves_other_norms() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)).eval()
    for norm in (chain[1], chain[3]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
    x = torch.randn(2, 2, 9, 8)
    with torch.inference_mode():
        expected = chain(x)
        fold_norms(chain)
        assert torch.allclose(chain(x), expected, atol=1e-5)
    assert isinstance(chain[1], nn.Identity)
    assert isinstance(chain[3], nn.BatchNorm2d)


@pytest.mark.parametrize("bins", [1, 2, 3, 6, (3, 5)])
@pytest.mark.parametrize("size", [(6, 6), (7, 11), (12, 31), (2, 3)])
def test_matrix_pooling_is_adaptive_pooling(bins, size: tuple[int, int]) -> None:
    x = torch.from_numpy(fill_input((2, 4, *size)))
    assert torch.allclose(MatrixPooling(bins)(x), nn.AdaptiveAvgPool2d(bins)(x), atol=1e-6)


def test_only_what_onnx_lacks_is_replaced() -> None:
    chain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d((2, 3))), nn.AdaptiveAvgPool2d(6))
    replace_pooling(chain)
    assert isinstance(chain[0], nn.AdaptiveAvgPool2d)
    assert isinstance(chain[1][0], MatrixPooling)
    assert chain[1][0].bins == (2, 3)
    assert isinstance(chain[2], MatrixPooling)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (7, 23), (33, 64)])
def test_pyramid_as_matrix_products(net: nn.Module, size: tuple[int, int]) -> None:
    x = torch.from_numpy(fill_input((2, 3, *size)))
    with torch.inference_mode():
        expected = reparameterize(net)(x)
        made = deployable(net)
        assert isinstance(made.ppm, nn.Identity)
        assert torch.allclose(made(x), expected, atol=1e-5 * max(1.0, expected.abs().max()))


def test_deployable_is_a_copy(net: nn.Module) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    made = deployable(net)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.AdaptiveAvgPool2d) for m in made.modules())
    assert not any(p.requires_grad for p in made.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(isinstance(f[0], nn.AdaptiveAvgPool2d) for f in net.ppm.features)
