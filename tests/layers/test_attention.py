"""The gates against their formulas, worked in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motes.layers.attention import ChannelAttention, SpatialAttention


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("channels", "hidden"), [(4, 1), (16, 1), (48, 3)])
def test_channel_attention(channels: int, hidden: int) -> None:
    gate = ChannelAttention(channels)
    x = np.random.default_rng(1).normal(size=(2, channels, 5, 7)).astype(np.float32)
    first, second = gate.fc1.weight.detach().numpy()[..., 0, 0], gate.fc2.weight.detach().numpy()[..., 0, 0]
    assert first.shape == (hidden, channels)
    pooled = (x.mean((2, 3)), x.max((2, 3)))
    expected = sigmoid(sum(np.maximum(p @ first.T, 0) @ second.T for p in pooled))
    weights = gate(torch.from_numpy(x)).detach().numpy()
    assert weights.shape == (2, channels, 1, 1)
    np.testing.assert_allclose(weights[..., 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("kernel", [3, 7])
def test_spatial_attention_sees_the_mean_then_the_maximum(kernel: int) -> None:
    gate = SpatialAttention(kernel)
    x = np.random.default_rng(2).normal(size=(2, 6, 8, 9)).astype(np.float32)
    with torch.no_grad():
        gate.conv1.weight.zero_()
        gate.conv1.weight[0, 0, kernel // 2, kernel // 2] = 2.0  # the mean of the pixel itself
        gate.conv1.weight[0, 1, 0, kernel // 2] = -1.0  # the maximum kernel // 2 rows above it, 0 outside
        weights = gate(torch.from_numpy(x)).numpy()
    above = np.zeros((2, 8, 9), np.float32)
    above[:, kernel // 2 :] = x.max(1)[:, : -(kernel // 2)]
    np.testing.assert_allclose(weights[:, 0], sigmoid(2 * x.mean(1) - above), atol=1e-6)
