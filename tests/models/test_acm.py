"""ACM: its published costs, names of all code bases, size limits, training, export, bad options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_network, load_published
from motes.checkpoints.loading import variant_of
from motes.errors import CardError, CheckpointError, MotesError
from motes.export import convert, export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "acm"
TRAINED = {"port-unet": "acm-pytorch-unet-asymbi.pth", "port-fpn": "acm-pytorch-fpn-asymbi.pth"}


def published(variant: str | None) -> dict[str, np.ndarray]:
    """Weights under the published names, with those leaf names that a converted file has."""
    return fill_state(json.loads((REFERENCE / f"keys{'-' + variant if variant else ''}.json").read_text()))


def filled(variant: str | None) -> torch.nn.Module:
    return load_published(motes.create_model("acm", variant), published(variant)).eval()


@pytest.mark.parametrize(
    ("variant", "options", "params", "at_256", "at_512"),
    [
        (None, {}, 518_413, 440_025_728, 1_760_100_992),
        (None, {"blocks": 3}, 397_965, 345_653_888, 1_382_613_632),
        ("unet-tiny", {}, 516_869, 6_559_105_664, 26_236_420_736),
        ("fpn", {}, 387_181, 276_447_872, 1_105_789_568),
        ("fpn-tiny", {}, 385_637, 3_941_859_968, 15_767_437_952),
        ("port-unet", {}, 519_843, 442_122_880, 1_768_489_600),
        ("port-fpn", {}, 387_187, 276_447_872, 1_105_789_568),
        ("basicirstd", {}, 397_823, 343_294_592, 1_373_176_448),
    ],
)
def test_published_costs(variant: str | None, options: dict, params: int, at_256: int, at_512: int) -> None:
    with torch.device("meta"):
        net = motes.create_model("acm", variant, **options)
    small, large = complexity(net), complexity(net, 512, 512)
    assert (small.params, small.macs, large.macs) == (params, at_256, at_512)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("keys*.json")), ids=lambda p: p.stem)
def test_names_tell_the_variant(path: Path) -> None:
    variant = path.stem.partition("-")[2] or None
    assert variant_of("acm", published(variant)) == variant


def test_gluon_leaf_names() -> None:
    state = published("unet-tiny")
    leaves = {".weight": ".gamma", ".bias": ".beta"}
    norms = {n.rpartition(".")[0] for n in state if n.endswith("running_mean")}
    gluon = {}
    for name, value in state.items():
        module, dot, leaf = name.rpartition(".")
        if leaf != "num_batches_tracked":
            gluon[module + leaves.get(dot + leaf, dot + leaf) if module in norms else name] = value
    gluon |= {"stem.0.gamma": np.ones(3, np.float32), "stem.0.beta": np.zeros(3, np.float32)}  # stored, never trained
    net = load_published(motes.create_model("acm", "unet-tiny"), gluon).eval()
    x = torch.from_numpy(fill_input((1, 3, 32, 32)))
    assert torch.equal(net(x), filled("unet-tiny")(x))


def test_basicirstd_file(tmp_path: Path) -> None:
    state = {f"module.model.{n}": torch.from_numpy(np.asarray(v)) for n, v in published("basicirstd").items()}
    torch.save({"state_dict": state, "epoch": 400}, tmp_path / "ACM_400.pth.tar")
    net, card = load_network(tmp_path / "ACM_400.pth.tar", "acm")
    assert (card.variant, card.input.channels) == ("basicirstd", 1)
    x = torch.from_numpy(fill_input((1, 1, 32, 32)))
    assert torch.equal(net(x), filled("basicirstd")(x))


@pytest.mark.parametrize("variant", TRAINED)
def test_trained_files_convert(variant: str, reference_root: Path, tmp_path: Path) -> None:
    source = reference_root / "acm" / "weights" / TRAINED[variant]
    net, card = load_network(source, "acm")
    assert card.variant == variant
    convert(source, tmp_path / "net.safetensors", "acm", "train", synthetic_tiles(card, ((48, 64),)))
    again, stored = load_network(tmp_path / "net.safetensors")
    assert (stored.variant, stored.input) == (variant, card.input)
    x = torch.from_numpy(fill_input((1, 3, 48, 64)))
    assert torch.equal(again(x), net(x))


@pytest.mark.parametrize(
    ("variant", "stride"),
    [(None, 16), ("fpn", 8), ("unet-tiny", 4), ("fpn-tiny", 2), ("port-fpn", 8), ("basicirstd", 16)],
)
def test_any_size_pads_to_the_stride(variant: str | None, stride: int) -> None:
    net = filled(variant)
    spec = net.card.input
    assert (spec.stride, spec.min_size) == (stride, stride)
    with torch.inference_mode():
        for size in ((stride, 3 * stride), (1, 1), (37, 50)):
            assert any_size(net)(torch.zeros(1, spec.channels, *size)).shape == (1, 1, *size)
        x = torch.from_numpy(fill_input((1, spec.channels, 48, 64)))
        assert torch.equal(any_size(net)(x), net(x))


@pytest.mark.parametrize("variant", [None, "fpn-biglobal", "unet-sk"])
def test_a_frame_does_not_depend_on_its_batch(variant: str | None) -> None:
    net = filled(variant)
    x = torch.from_numpy(fill_input((2, 3, 48, 32)))
    with torch.inference_mode():
        both, alone = net(x), torch.cat([net(x[:1]), net(x[1:])])
    assert torch.allclose(both, alone, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("variant", [None, *motes.model_card("acm").variants])
def test_trains(variant: str | None) -> None:
    torch.manual_seed(0)
    net = motes.create_model("acm", variant, num_classes=1).train()
    target = torch.zeros(2, 1, 32, 48)  # the second frame has none
    target[0, 0, 10:13, 20:23] = 1
    out = net(torch.randn(2, net.card.input.channels, 32, 48))
    assert isinstance(out, tuple)
    assert [o.shape for o in out] == [target.shape]
    create_loss("acm.soft_iou")(out, target).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("variant", [None, "fpn", "unet-sk", "basicirstd"])
def test_exports(variant: str | None, tmp_path: Path) -> None:
    net = filled(variant)
    tiles = synthetic_tiles(net.card, ((48, 64), (37, 90), (96, 32), (96, 32)))
    report = export_onnx(net, net.card, tmp_path / "acm.onnx", tiles)
    assert [row.shape[0] for row in report.rows] == [1, 1, 2]


def test_other_bands_and_classes() -> None:
    net = motes.create_model("acm", in_channels=1, num_classes=3, host="fpn", blocks=1)
    assert net.train()(torch.randn(2, 1, 32, 32))[0].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"host": "unett"}, "unet"),
        ({"fusion": "asymby"}, "asymbi"),
        ({"blocks": 0}, "at least 1, found 0"),
        ({"depth": 3}, "depth"),
        ({"variant": "unet-tini"}, "unet-tiny"),
    ],
)
def test_bad_options(options: dict, hint: str) -> None:
    with pytest.raises(MotesError, match=hint):
        motes.create_model("acm", **options)


def test_weights_of_another_variant() -> None:
    with pytest.raises(CheckpointError, match="fuse23") as error:
        load_published(motes.create_model("acm"), published("fpn"))
    assert "acm, variant 'fpn'" in str(error.value) + str(error.value.hint)


def test_unknown_variant_is_a_card_error() -> None:
    with pytest.raises(CardError):
        motes.create_model("acm", "port")
