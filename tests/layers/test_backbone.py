"""timm's backbones: shapes, their ImageNet weights, and what is no backbone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from motes.errors import CardError, CheckpointError, MotesError
from motes.layers.backbone import create_backbone, load_backbone_weights
from motes.models.folding import fold_norms

SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("name", "options", "channels", "strides"),
    [
        ("resnet18", {}, (64, 128, 256, 512), (4, 8, 16, 32)),
        ("resnet18", {"in_channels": 1, "levels": 5}, (64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
        ("resnet18", {"output_stride": 16}, (64, 128, 256, 512), (4, 8, 16, 16)),
        ("convnext_atto", {"depths": (1, 1, 1, 1)}, (40, 80, 160, 320), (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", SWIN, (24, 48, 96, 192), (4, 8, 16, 32)),  # timm's maps are channels last
        ("mobilenetv3_small_050", {}, (8, 16, 24, 288), (4, 8, 16, 32)),
    ],
)
def test_maps_have_the_stated_channels_and_strides(
    name: str, options: dict[str, Any], channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    net = create_backbone(name, **options).eval()
    assert (net.channels, net.strides) == (channels, strides)
    with torch.inference_mode():
        maps = net(torch.zeros(2, options.get("in_channels", 3), 64, 64))
    assert [tuple(m.shape) for m in maps] == [(2, c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnt50", {}, "did you mean 'resnet50'"),
        ("resnet50.nope", {}, "unknown backbone 'resnet50.nope'"),
        ("vit_tiny_patch16_224", {}, r"strides \(16, 16, 16, 16\), expected 4 from 4"),
        ("resnet18", {"levels": 6}, "cannot make a backbone of 'resnet18'"),
        ("resnet18", {"colour": 3}, "unexpected keyword argument 'colour'"),
    ],
)
def test_no_backbone(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        create_backbone(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {}), ("convnext_atto", {"depths": (1, 1, 1, 1)})],  # timm renames the stages of the second
)
def test_a_classifiers_weights_are_taken_and_accounted_for(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    classifier = timm.create_model(name, **options).eval()
    net = SimpleNamespace(backbone=create_backbone(name, **options).eval())
    report = load_backbone_weights(net, {k: v.numpy() for k, v in classifier.state_dict().items()}, "file.pth")
    assert report.used == len(net.backbone.state_dict())
    assert report.used + len(report.left_over) == len(classifier.state_dict())
    assert all("fc" in n or "head" in n for n in report.left_over)
    assert str(report).startswith(f"file.pth: {report.used} tensors used, ")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = classifier.forward_intermediates(x, indices=1, intermediates_only=True)[-1]
        assert torch.equal(net.backbone(x)[-1], expected)


@pytest.mark.parametrize("bands", [1, 6])
def test_three_bands_become_others_with_the_same_answer_to_grey(bands: int) -> None:
    state = timm.create_model("resnet18").state_dict()
    backbones = [create_backbone("resnet18", n).eval() for n in (3, bands)]
    reports = [load_backbone_weights(b, state) for b in backbones]
    assert [r.adapted for r in reports] == [(), ("conv1.weight",)]
    assert "fitted to the bands of the input: conv1.weight" in str(reports[1])
    grey = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        a, b = (net(grey.expand(-1, n, -1, -1))[0] for net, n in zip(backbones, (3, bands), strict=True))
    assert (a - b).abs().max() < 1e-4 * a.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), r"1 are missing \(layer1.0.conv1.weight\)"),
        (lambda s: s.update({"layer9.weight": torch.zeros(1)}), r"1 have no place \(layer9.weight\)"),
        (lambda s: s.update({"bn1.weight": torch.zeros(3)}), r"1 differ in shape \(bn1.weight\)"),
    ],
)
def test_other_weights_are_refused_and_nothing_is_changed(change: Any, message: str) -> None:
    state = dict(timm.create_model("resnet18").state_dict())
    change(state)
    net = create_backbone("resnet18")
    before = net.body.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=f"w.pth: not weights of backbone 'resnet18': {message}"):
        load_backbone_weights(net, state, "w.pth")
    assert torch.equal(before, net.body.conv1.weight)


def test_imagenet_means_torchvisions_weights_and_their_absence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            asked.append(name)
            raise OSError("no route to host")
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    for name in ("resnet50", "resnet18.a1_in1k", "convnext_atto"):
        with pytest.raises(CheckpointError, match=r"cannot be had: no route to host \(give the path"):
            load_backbone_weights(create_backbone(name), "imagenet")
    assert asked == ["resnet50.tv_in1k", "resnet18.a1_in1k", "convnext_atto"]


def test_what_has_no_backbone_takes_no_weights() -> None:
    with pytest.raises(MotesError, match="Linear has no backbone"):
        load_backbone_weights(nn.Linear(2, 2))
    with pytest.raises(MotesError, match="did you mean 'imagenet'"):
        load_backbone_weights(create_backbone("resnet18"), "imagenette")


def test_norms_of_a_resnet_fold_into_its_convolutions() -> None:
    torch.manual_seed(0)
    net = create_backbone("resnet18").eval()
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_var", "weight")) and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.uniform_(-0.2, 0.2)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(x)
        fold_norms(net)
        after = net(x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert all((a - b).abs().max() < 1e-4 * a.abs().max() for a, b in zip(before, after, strict=True))
