"""Stem, residual stages, head and their initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from motes.layers.residual import Head, ResidualBlock, initialise, stage, stem


@pytest.mark.parametrize(("tiny", "shape"), [(False, (1, 16, 10, 8)), (True, (1, 16, 40, 32))])
def test_stem_resolution(tiny: bool, shape: tuple[int, ...]) -> None:
    assert stem(3, tiny).eval()(torch.rand(1, 3, 40, 32)).shape == shape


def test_input_norm_has_gain_and_shift_on_request_only() -> None:
    assert "0.weight" not in stem(3).state_dict()
    assert "0.weight" in stem(3, learn_input_norm=True).state_dict()


def test_shortcut_is_the_identity_where_shapes_allow() -> None:
    block = ResidualBlock(4, 4).eval()
    nn.init.zeros_(block.body[4].weight)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x.clamp(min=0))
    assert block.downsample is None
    assert ResidualBlock(4, 8).downsample is not None
    assert ResidualBlock(4, 4, stride=2).downsample is not None


def test_stage_changes_channels_and_resolution_once() -> None:
    blocks = stage(4, 8, 3, stride=2).eval()
    assert len(blocks) == 3
    assert blocks(torch.rand(1, 4, 9, 12)).shape == (1, 8, 5, 6)


def test_head_gives_one_map_a_class() -> None:
    assert Head(16, 3).eval()(torch.rand(2, 16, 5, 6)).shape == (2, 3, 5, 6)


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [(nn.Conv2d(32, 128, 3), 32 * 9, 128 * 9), (nn.ConvTranspose2d(64, 128, 4), 64 * 16, 128 * 16)],
)
def test_initialisation(layer: nn.Module, fan_in: int, fan_out: int) -> None:
    torch.manual_seed(0)
    initialise(layer)
    expected = (2 / (1 + 0.25**2) / ((fan_in + fan_out) / 2)) ** 0.5
    assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    assert not layer.bias.any()
