"""A backbone by itself: taken out of a network, read from a file of its own, and put into a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from motes.checkpoints import load_network, read_state, write_state
from motes.checkpoints.backbones import backbone_state, is_backbone_of, load_backbone, network_of_backbone
from motes.errors import CheckpointError, MotesError
from motes.export import convert_backbone
from motes.layers.backbone import create_backbone

SMALL = {"backbone": "resnet10t"}
"""timm's smallest ResNet."""


@cache
def small() -> torch.nn.Module:
    """Made once: the tests leave it as it is."""
    torch.manual_seed(0)
    return motes.create_model("semantic_fpn", **SMALL).eval()


@cache
def resnet18() -> dict[str, np.ndarray]:
    """A torchvision ResNet-18 by its names, drawn by chance."""
    import timm

    torch.manual_seed(1)
    return {k: v.numpy() for k, v in timm.create_model("resnet18").state_dict().items()}


def saved(path: Path, net: torch.nn.Module) -> Path:
    write_state(path, net.state_dict(), card=net.card if path.suffix == ".safetensors" else None)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pdparams", ".pkl"])
def test_from_a_network_to_another(tmp_path: Path, suffix: str) -> None:
    net = small()
    source, output = saved(tmp_path / "net.safetensors", net), tmp_path / f"backbone{suffix}"
    facts = convert_backbone(source, output)
    assert (facts["model"], facts["backbone"]) == ("semantic_fpn", "resnet10t")
    found = read_state(output)
    assert "conv1.0.weight" in found
    assert not [n for n in found if n.startswith(("backbone", "fpn", "decoder"))]
    other = create_backbone("resnet10t").eval()
    assert "tensors used" in load_backbone(other, found, str(output))
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(net.backbone(x), other(x), strict=True))


def test_file_of_a_backbone_says_what_it_is(tmp_path: Path) -> None:
    output = tmp_path / "backbone.safetensors"
    convert_backbone(saved(tmp_path / "net.safetensors", small()), output)
    assert read_state(output).facts["backbone"] == "resnet10t"
    with pytest.raises(CheckpointError, match=r"a backbone alone.*model\.backbone_weights="):
        load_network(output)
    again = tmp_path / "again.pth"
    convert_backbone(output, again, options=SMALL)
    assert all(np.array_equal(v, read_state(output)[k]) for k, v in read_state(again).items())


def test_a_classifier_is_recognised(tmp_path: Path) -> None:
    state = resnet18()
    file, output = tmp_path / "resnet18.pth", tmp_path / "backbone.safetensors"
    write_state(file, state)
    with pytest.raises(CheckpointError, match="a backbone alone"):
        load_network(file, "agpcnet")
    facts = convert_backbone(file, output)
    assert facts["backbone"] == "agpcnet"  # the network whose backbone it was found to be
    assert "2 of the classifier left out (fc.weight, fc.bias)" in facts["source"]
    found = read_state(output)
    assert found.keys() == state.keys() - {"fc.weight", "fc.bias"}
    assert all(np.array_equal(found[k], state[k]) for k in found if not k.endswith("num_batches_tracked"))


@pytest.mark.parametrize("given", [{"model": "agpcnet"}, {"options": {"backbone": "resnet18"}}])
def test_network_or_backbone_may_be_named(tmp_path: Path, given: dict) -> None:
    state = resnet18()
    file = tmp_path / "resnet18.pdparams"
    write_state(file, state, linear={"fc.weight"})
    convert_backbone(file, tmp_path / "backbone.pth", **given)
    found = read_state(tmp_path / "backbone.pth")
    assert found.keys() == state.keys() - {"fc.weight", "fc.bias"}
    assert np.array_equal(found["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_deep_stem_of_pfnet_is_told_from_the_plain_one(tmp_path: Path) -> None:
    import timm

    with torch.device("meta"):
        shapes = {name: timm.create_model(name).state_dict() for name in ("resnet50", "resnet50s", "resnet101s")}
    for name, expected in (("resnet50s", "resnet50s"), ("resnet101s", "resnet101s"), ("resnet50", "resnet50")):
        # zeros of no memory: shapes are all that is looked at
        state = {k: np.broadcast_to(np.float32(0), tuple(v.shape)) for k, v in shapes[name].items()}
        model, variant = network_of_backbone(state, tmp_path / "a.pth")
        with torch.device("meta"):
            assert motes.create_model(model, variant).backbone.name == expected


def test_encoder_of_acm_moves_to_its_other_host(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = motes.create_model("acm", blocks=1)
    file, output = saved(tmp_path / "acm.safetensors", source), tmp_path / "encoder.safetensors"
    convert_backbone(file, output)
    found = read_state(output)
    assert {n.partition(".")[0] for n in found} == {"stem", "layer1", "layer2", "layer3"}
    target = motes.create_model("acm", "fpn-concat")
    load_backbone(target, found)
    assert torch.equal(target.layer3[0].body[0].weight, source.layer3[0].body[0].weight)
    assert not is_backbone_of("acm", None, read_state(file))


def test_agpcnet_takes_a_classifier() -> None:
    state, net = resnet18(), motes.create_model("agpcnet", scales=(3,))
    head = net.head.block[0].weight.clone()
    text = load_backbone(net, state, "resnet18.pth")
    assert text.startswith("resnet18.pth: ")
    assert "fc.weight" in text
    assert np.array_equal(net.backbone.layer2[0].conv1.weight.detach(), state["layer2.0.conv1.weight"])
    assert torch.equal(net.head.block[0].weight, head)


@cache
def on_resnet18(name: str) -> torch.nn.Module:
    return motes.create_model(name, backbone="resnet18")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, "1 are missing (conv1.weight)"),
        (lambda s: {**s, "layer9.weight": np.ones(2)}, "1 have no place (layer9.weight)"),
        (lambda s: {**s, "bn1.bias": np.ones(9)}, "1 differ in shape (bn1.bias)"),
    ],
    ids=["missing", "left over", "shape"],
)
@pytest.mark.parametrize("name", ["agpcnet", "semantic_fpn"])
def test_what_does_not_fit_is_named(name: str, change, expected: str) -> None:
    net = on_resnet18(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_backbone(net, change(resnet18()), "a.pth")
    assert expected in str(error.value)
    assert str(error.value).startswith("a.pth: not weights of")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_networks_without_a_backbone(tmp_path: Path) -> None:
    net = motes.create_model("rdian")
    with pytest.raises(CheckpointError, match="rdian has no backbone"):
        backbone_state(net)
    with pytest.raises(CheckpointError, match=r"rdian has no backbone of its own .*init=PATH"):
        load_backbone(net, {})
    with pytest.raises(CheckpointError, match="rdian has no backbone"):
        convert_backbone(saved(tmp_path / "a.safetensors", net), tmp_path / "b.pth")
    write_state(tmp_path / "c.pth", {"x.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(MotesError, match="of no backbone of a known network"):
        convert_backbone(tmp_path / "c.pth", tmp_path / "d.pth")
    assert not (tmp_path / "b.pth").exists()
    assert not (tmp_path / "d.pth").exists()
