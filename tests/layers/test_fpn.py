"""The pyramid and the light decoder, against the same sums written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from motes.layers.fpn import FPN, LightDecoder


def test_a_pyramid_adds_what_the_coarser_levels_know() -> None:
    torch.manual_seed(0)
    net = FPN((3, 5), width=4)
    fine, coarse = torch.randn(2, 3, 8, 12), torch.randn(2, 5, 4, 6)
    a, b = net((fine, coarse))
    top = net.fpn_inner2(coarse)
    below = net.fpn_inner1(fine) + top.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(a, net.fpn_layer1(below), atol=1e-6)
    assert torch.allclose(b, net.fpn_layer2(top), atol=1e-6)
    assert all(not m.bias.any() for m in net.children())


def test_the_decoder_doubles_after_each_layer_and_takes_the_mean() -> None:
    torch.manual_seed(0)
    net = LightDecoder(4, 6, levels=3).eval()
    maps = [torch.randn(1, 4, 16 // 2**i, 24 // 2**i) for i in range(3)]

    def layer(level: int, k: int, x: torch.Tensor) -> torch.Tensor:
        conv, norm = net.blocks[level][k][:2]
        return torch.relu(norm(conv(x)))

    def doubled(x: torch.Tensor) -> torch.Tensor:
        size = [2 * n for n in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    expected = layer(0, 0, maps[0]) + doubled(layer(1, 0, maps[1]))
    expected = (expected + doubled(layer(2, 1, doubled(layer(2, 0, maps[2]))))) / 3
    assert [len(b) for b in net.blocks] == [1, 1, 2]
    assert torch.allclose(net(maps), expected, atol=1e-6)
