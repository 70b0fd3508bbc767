"""Backbone, pyramid and towers of the detectors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from motes.errors import CardError
from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_fpn import BoxFPN
from motes.layers.box_towers import ConvUnit, Scale, Tower, init_head, prior_bias

pytest.importorskip("timm")


def trained(net: nn.Module, part: str) -> set[bool]:
    return {p.requires_grad for n, p in net.named_parameters() if n.startswith(f"body.{part}")}


@pytest.mark.parametrize(
    ("frozen_stages", "stem", "first", "second"),
    [(-1, True, True, True), (0, False, True, True), (1, False, False, True)],
)
def test_frozen_stages(frozen_stages: int, stem: bool, first: bool, second: bool) -> None:
    net = create_box_backbone("resnet18", norm="train", frozen_stages=frozen_stages)
    assert trained(net, "conv1") == {stem} and trained(net, "bn1") == {stem}
    assert trained(net, "layer1") == {first}
    assert trained(net, "layer2") == {second} and trained(net, "layer4") == {True}
    # What is not trained keeps its statistics, whatever the norm.
    assert net.body.bn1.training == stem
    assert net.body.layer4[0].bn1.training


@pytest.mark.parametrize(("norm", "affine"), [("fixed", True), ("frozen", False)])
def test_fixed_statistics_never_change(norm: str, affine: bool) -> None:
    torch.manual_seed(0)
    net = create_box_backbone("resnet18", levels=(2, 5), norm=norm, frozen_stages=-1).train()
    assert net.channels == (64, 512) and net.strides == (4, 32)
    before = {n: b.clone() for n, b in net.named_buffers()}
    first = net(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in first] == [(2, 64, 16, 24), (2, 512, 2, 3)]
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers())
    assert {net.body.layer3[1].bn2.weight.requires_grad, net.body.bn1.bias.requires_grad} == {affine}
    # Values keep their size without statistics, and no branch is dead.
    assert 0.05 < first[1].std() < 20
    assert net.body.layer4[1].bn2.weight.abs().min() > 0


def test_caffes_bottlenecks_halve_in_their_first_convolution() -> None:
    with torch.device("meta"):
        nets = [create_box_backbone("resnet50", style) for style in ("pytorch", "caffe")]
    for name in ("layer2", "layer3", "layer4"):
        strides = [tuple(getattr(getattr(n.body, name)[0], c).stride[0] for c in ("conv1", "conv2")) for n in nets]
        assert strides == [(1, 2), (2, 1)]
    assert nets[1].body.layer1[0].conv1.stride == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet5"}, "unknown backbone 'resnet5'"),
        ({"style": "coffee"}, "unknown style of backbone 'coffee'"),
        ({"norm": "freeze"}, "unknown norm of backbone 'freeze'"),
        ({"name": "resnet18", "frozen_stages": 9}, "cannot freeze 9 stages"),
        ({"name": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224"),
    ],
)
def test_backbones_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(CardError, match=message), torch.device("meta"):
        create_box_backbone(**options)


@pytest.mark.parametrize("name", ["convnext_atto", "pvt_v2_b0", "efficientnet_b0"])
def test_other_pyramids(name: str) -> None:
    with torch.device("meta"):
        net = create_box_backbone(name, levels=(3, 4, 5)).eval()
    frozen = sum(not p.requires_grad for p in net.parameters())
    assert 0 < frozen < sum(1 for _ in net.parameters())
    assert [m.shape[-1] for m in net(torch.empty(1, 3, 64, 64, device="meta"))] == [8, 4, 2]


MAPS = [(3, 9, 12), (5, 5, 6), (7, 3, 3)]


@pytest.mark.parametrize("extra_from", ["output", "input"])
@pytest.mark.parametrize("relu", [False, True])
def test_a_pyramid_written_out(extra_from: str, relu: bool) -> None:
    torch.manual_seed(0)
    net = BoxFPN([c for c, _, _ in MAPS], 4, extra=2, extra_from=extra_from, relu_before_extra=relu)
    maps = [torch.randn(2, *m) for m in MAPS]
    out = net(maps)
    top = net.lateral_convs[2].conv(maps[2])
    middle = net.lateral_convs[1].conv(maps[1]) + F.interpolate(top, (5, 6))
    assert torch.allclose(out[2], net.fpn_convs[2].conv(top), atol=1e-6)
    assert torch.allclose(out[1], net.fpn_convs[1].conv(middle), atol=1e-6)
    sixth = net.fpn_convs[3].conv(maps[2] if extra_from == "input" else out[2])
    assert torch.allclose(out[3], sixth, atol=1e-6)
    assert torch.allclose(out[4], net.fpn_convs[4].conv(sixth.relu() if relu else sixth), atol=1e-6)
    assert [tuple(m.shape[1:]) for m in out] == [(4, 9, 12), (4, 5, 6), (4, 3, 3), (4, 2, 2), (4, 1, 1)]


def test_a_pyramid_that_pools_and_one_with_norms() -> None:
    pooled = BoxFPN((3, 5, 7), 4, extra=1, extra_from="pool")
    maps = [torch.randn(1, *m) for m in MAPS]
    out = pooled(maps)
    assert torch.equal(out[3], out[2][..., ::2, ::2])
    normed = BoxFPN((3, 5, 7), 4, extra=2, norm=True).eval()
    assert normed.fpn_convs[4].conv.bias is None and normed.lateral_convs[0].conv.bias is not None
    assert len(normed(maps)) == 5
    with pytest.raises(CardError, match="unknown extra_from 'inputs'"):
        BoxFPN((3,), extra_from="inputs")


def test_a_tower_and_how_it_starts() -> None:
    tower = Tower(8, 16, depth=2, groups=4)
    assert set(tower.state_dict()) == {f"{i}.{n}" for i in (0, 1) for n in ("conv.weight", "gn.weight", "gn.bias")}
    assert tower(torch.rand(1, 8, 5, 3)).shape == (1, 16, 5, 3)
    assert {"0.conv.bias", "1.conv.bias"} == {n for n in Tower(8, 16, 2, norm=None).state_dict() if "bias" in n}
    assert len(Tower(8, depth=0)) == 0 and Tower(8, depth=0).out_channels == 8
    with pytest.raises(CardError, match="found 'ln'"):
        ConvUnit(8, 8, norm="ln")
    init_head(tower, std=0.01)
    assert 0.005 < tower[1].conv.weight.std() < 0.02
    assert torch.sigmoid(torch.tensor(prior_bias(0.02))).item() == pytest.approx(0.02)
    assert Scale(2.0)(torch.ones(3)).tolist() == [2, 2, 2]
