"""Fusion of a high-level and a low-level map: what the formulas say where the gates are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from motes.errors import MotesError
from motes.layers.modulation import FUSIONS, AsymBi, fusion, gate

C = 16


def half_open(module: nn.Module) -> nn.Module:
    """``module`` in eval mode, every gate at 1/2: its last norm gives 0 whatever comes in."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and not name.startswith(("post", "feature_high")):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module.eval()


@pytest.mark.parametrize(
    ("mode", "high_counts", "low_counts"),
    [
        ("asymbi", 1.0, 1.0),  # 2 * 1/2 of each
        ("bilocal", 1.0, 1.0),
        ("biglobal", 1.0, 1.0),
        ("topdownlocal", 1.0, 0.5),
        ("topdownglobal", 1.0, 0.5),
        ("sk", 1.0, 1.0),
        ("directadd", 1.0, 1.0),
    ],
)
def test_half_open_gates(mode: str, high_counts: float, low_counts: float) -> None:
    module = half_open(fusion(mode, C))
    high, low = torch.rand(2, C, 6, 9), torch.rand(2, C, 6, 9)
    assert torch.allclose(module.joined(high, low), high_counts * high + low_counts * low, atol=1e-6)


def test_asymmetric_gates() -> None:
    torch.manual_seed(0)
    module = AsymBi(C).eval()
    x = torch.rand(2, C, 6, 9)
    moved = x.flip(-1)
    assert module.topdown(x).shape == (2, C, 1, 1)  # of the whole frame, wherever things are
    assert torch.allclose(module.topdown(moved), module.topdown(x), atol=1e-6)
    assert module.bottomup(x).shape == x.shape  # of every pixel
    assert torch.allclose(module.bottomup(moved), module.bottomup(x).flip(-1), atol=1e-6)
    weight = module.bottomup(x)
    expected = 2 * x * module.topdown(moved + 1) + 2 * (moved + 1) * weight
    assert torch.allclose(module.joined(moved + 1, x), expected, atol=1e-5)


def test_selective_kernel_divides_two() -> None:
    torch.manual_seed(0)
    module = fusion("sk", C).eval()
    x = torch.rand(2, C, 6, 9)
    assert torch.allclose(module.joined(x, x), 2 * x, atol=1e-6)
    logits = module.attention(x + 0 * x).view(2, 2, C, 1, 1).softmax(1)
    assert torch.allclose(module.joined(x, 0 * x), 2 * x * logits[:, 0], atol=1e-6)


@pytest.mark.parametrize("mode", FUSIONS)
@pytest.mark.parametrize("high_channels", [None, C, 32])
def test_shapes(mode: str, high_channels: int | None) -> None:
    module = fusion(mode, C, high_channels).eval()
    out = module(torch.rand(1, high_channels or C, 5, 7), torch.rand(1, C, 5, 7))
    assert out.shape == (1, C, 5, 7)
    assert bool((out >= 0).all())


@pytest.mark.parametrize("pooled", [True, False])
def test_gate_lies_between_0_and_1(pooled: bool) -> None:
    weights = gate(C, 4, pooled).eval()(10 * torch.randn(3, C, 5, 7)).detach()
    assert weights.shape == (3, C, 1, 1) if pooled else (3, C, 5, 7)
    assert 0 < float(weights.min()) <= float(weights.max()) < 1


def test_unknown_mode() -> None:
    with pytest.raises(MotesError, match="asymbi"):
        fusion("asymby", C)
