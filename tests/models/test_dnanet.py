"""DNANet: its published costs, deep supervision, sizes, options, the authors' files, its export."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_network, load_published
from motes.errors import CardError, CheckpointError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size
from motes.models.folding import fold_norms

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "dnanet"
SMALL = {"backbone": "resnet10", "channels": "two"}


def published_weights(variant: str | None = None) -> dict[str, np.ndarray]:
    name = f"keys-{variant}.json" if variant else "keys.json"
    return fill_state(json.loads((REFERENCE / name).read_text()))


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    """A small network whose batch norms are not at their start."""
    torch.manual_seed(3)
    net = motes.create_model("dnanet", **SMALL)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.uniform_(-0.2, 0.2)
    return net.eval()


@pytest.mark.parametrize(
    ("variant", "params", "macs"),
    [
        (None, 4_696_888, 13_930_104_192),
        ("resnet10", 2_612_196, 10_902_324_096),
        ("resnet34", 8_792_702, 19_677_627_264),
        ("vgg10", 2_456_020, 10_060_317_568),
        ("four", 18_751_992, 55_486_392_832),
        ("gray", 4_696_568, 13_909_132_672),
        ("nods", 4_696_517, 13_905_986_944),
    ],
)
def test_costs_what_is_published(variant: str | None, params: int, macs: int) -> None:
    cost = complexity(motes.create_model("dnanet", variant))
    assert (cost.params, cost.published_macs) == (params, macs)


def test_costs_what_is_published_at_512() -> None:
    assert complexity(motes.create_model("dnanet"), 512, 512).published_macs == 55_720_243_584


def test_parameters_come_in_the_published_order() -> None:
    with torch.device("meta"):
        for variant in (None, "nods", "vgg10"):
            assert list(motes.create_model("dnanet", variant).state_dict()) == list(published_weights(variant))


def test_deep_supervision_follows_the_prediction(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 32, 48)))
    with torch.inference_mode():
        outputs = small.published_outputs(x)
        prediction = small(x)
        net = copy.deepcopy(small).train()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # so that training's outputs are eval's
        in_training = net(x)
    assert [f"out{i}" for i in range(4)] == sorted(outputs)
    assert torch.equal(prediction, outputs["out3"])
    for found, name in zip(in_training, ("out3", "out0", "out1", "out2"), strict=True):
        assert torch.equal(found, outputs[name])


@pytest.mark.parametrize("options", [SMALL, {**SMALL, "backbone": "vgg10", "deep_supervision": False}])
def test_trains_with_and_without_targets(options: dict) -> None:
    net = motes.create_model("dnanet", in_channels=1, **options).train()
    target = torch.zeros(2, 1, 32, 32)
    target[0, 0, 10:13, 20:22] = 1
    outputs = net(torch.from_numpy(fill_input((2, 1, 32, 32))))
    assert len(outputs) == (4 if options.get("deep_supervision", True) else 1)
    create_loss("dnanet.deep")(outputs, target).backward()
    # A hidden unit of a gate may be dead on a batch as small as this, its gradient then is exactly 0.
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    heads = [p.grad.abs().sum() for n, p in net.named_parameters() if n.startswith("final") and n.endswith("weight")]
    assert len(heads) == len(outputs) and all(g > 0 for g in heads)


@pytest.mark.parametrize("channels", ["one", "two"])
def test_the_narrow_settings_run(channels: str) -> None:
    net = motes.create_model("dnanet", backbone="resnet10", channels=channels, num_classes=3).eval()
    assert net.conv0_0[0].ca.fc1.out_channels == 1
    with torch.inference_mode():
        logits = net(torch.zeros(1, 3, 16, 32))
    assert logits.shape == (1, 3, 16, 32) and torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 30), (50, 16)])
def test_any_size(small: torch.nn.Module, size: tuple[int, int]) -> None:
    assert (small.card.input.stride, small.card.input.min_size) == (16, 16)
    x = torch.from_numpy(fill_input((1, 3, *size)))
    with torch.inference_mode():
        logits = any_size(small)(x)
        assert logits.shape == (1, 1, *size)
        if size == (16, 16):
            assert torch.equal(logits, small(x))


def test_a_frame_does_not_depend_on_its_neighbours(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 32, 32)))
    with torch.inference_mode():
        together, alone = small(x), small(x[:1])
    assert torch.allclose(together[:1], alone, atol=1e-6 * float(alone.abs().max()))


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"backbone": "resnet_18"}, "resnet18"),
        ({"backbone": "vgg16"}, "vgg10"),
        ({"channels": "tree"}, "three"),
        ({"deep_supervision": "False"}, "must be true or false"),
        ({"depth": 4}, "depth"),
        ({"variant": "resnet50"}, "resnet"),
    ],
)
def test_bad_options(options: dict, hint: str) -> None:
    with pytest.raises(CardError, match=hint):
        motes.create_model("dnanet", **options)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_reads_the_authors_files(wrap, tmp_path: Path) -> None:
    weights = published_weights("resnet10")
    file = tmp_path / "dnanet.pth.tar"
    torch.save(wrap({k: torch.from_numpy(np.asarray(v)) for k, v in weights.items()}), file)
    net, card = load_network(file)
    assert (card.name, card.variant) == ("dnanet", "resnet10")
    state = net.state_dict()
    assert all(np.array_equal(state[k].numpy(), v) for k, v in weights.items())


def test_weights_of_another_configuration_are_refused() -> None:
    with torch.device("meta"):
        net = motes.create_model("dnanet", "nods")
    with pytest.raises(CheckpointError, match=r"final1\.weight.*missing \(final\.weight.*instead of") as error:
        load_published(net, published_weights())
    assert "dnanet" in str(error.value.hint)


def test_folding_changes_nothing(small: torch.nn.Module) -> None:
    folded = copy.deepcopy(small)
    fold_norms(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x = torch.from_numpy(fill_input((1, 3, 32, 48)))
    with torch.inference_mode():
        expected = small(x)
        assert torch.allclose(folded(x), expected, atol=2e-5 * float(expected.abs().max()))


def test_exports_with_free_sizes(small: torch.nn.Module, tmp_path: Path) -> None:
    tiles = synthetic_tiles(small.card, ((16, 16), (40, 70), (64, 48), (64, 48)))
    report = export_onnx(small, small.card, tmp_path / "dnanet.onnx", tiles)
    assert report.passed
    assert [row.shape[0] for row in report.rows] == [1, 1, 2]
    assert all(row.logit <= 2e-5 * row.largest_logit for row in report.rows)
