"""MTU-Net: the unmodified official network at 1024 px, costs, sizes, training, files, the exported network."""

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
from motes.errors import CardError, CheckpointError, MotesError
from motes.export import export_onnx, synthetic_tiles
from motes.export.parity import Tile
from motes.inference import Detector
from motes.losses import create_loss
from motes.models import any_size
from motes.models.backend import TorchBackend

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "mtunet"
KEYS = json.loads((REFERENCE / "keys.json").read_text())


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return fill_state(KEYS)


@pytest.fixture(scope="module")
def net(state: dict[str, np.ndarray]) -> torch.nn.Module:
    return load_published(motes.create_model("mtunet"), state).eval()


@pytest.mark.slow
def test_equals_the_official_network_at_its_only_size(net: torch.nn.Module, reference_root: Path) -> None:
    stored = np.load(reference_root / "mtunet" / "case-official-1024x1024.npz")
    with torch.inference_mode():
        out = net.published_outputs(torch.from_numpy(fill_input(tuple(map(int, stored["shape"])))))["out0"].numpy()
    assert np.abs(out[:, :, 4::16, 4::16] - stored["out0_sub"]).max() <= 2e-5 * np.abs(stored["out0_sub"]).max()
    assert np.abs(out[:, :, 470:534, 800:864] - stored["out0_crop"]).max() <= 2e-5 * np.abs(stored["out0_crop"]).max()


def test_parameters_and_cost() -> None:
    with torch.device("meta"):
        net = motes.create_model("mtunet")
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert counted == {
        "conv0_0": 2_928,
        "conv1_0": 33_248,
        "conv2_0": 132_032,
        "conv3_0": 526_208,
        "conv4_0": 2_100_992,
        "vit5": 1_069_568,
        "vit4": 938_496,
        "vit3": 872_960,
        "vit2": 840_192,
        "conv3_1_1": 1_902_848,
        "conv3_1": 640_128,
        "conv2_2": 160_320,
        "conv1_3": 40_224,
        "conv0_4": 10_128,
        "final": 17,
    }
    assert sum(counted.values()) == 9_270_289
    stored = [name for name in KEYS if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(KEYS) == 360
    assert sum(int(np.prod(KEYS[name][0])) for name in stored) == 12_750_610
    for side, macs in ((256, 6_150_226_432), (512, 24_997_069_312), (1024, 106_424_238_592)):
        assert complexity(net, side, side).macs == macs


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 40), (3, 70)])
def test_any_size(net: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        out = any_size(net)(torch.zeros(1, 3, *size))
    assert out.shape == (1, 1, *size)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [(1024, 1024), (512, 2048), (16, 65536)])
def test_takes_4096_tokens_of_any_arrangement(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert motes.create_model("mtunet").eval()(torch.empty(1, 3, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(1040, 1024), (16, 65552), (64, 72), (8, 16)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with torch.device("meta"), pytest.raises(MotesError, match=r"multiples of 16.*at most 1048576 pixels.*4096 tokens"):
        motes.create_model("mtunet").eval()(torch.empty(1, 3, *size))


def test_large_frames_are_cut_into_tiles() -> None:
    net = motes.create_model("mtunet", width=1).eval()
    assert Detector(backend=TorchBackend(net, net.card), tile=64).probability(np.zeros((40, 150), np.uint8)).shape == (
        40,
        150,
    )
    with pytest.raises(MotesError, match="at most 1024"):
        Detector(backend=TorchBackend(net, net.card), tile=1040)
    with pytest.raises(MotesError, match="no side may exceed 1024"):
        any_size(net)(torch.zeros(1, 3, 16, 1025))


def test_frames_do_not_see_each_other(net: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 48)))
    x[1] *= 3
    with torch.inference_mode():
        alone = torch.cat([net(x[:1]), net(x[1:])])
        assert torch.allclose(net(x), alone, atol=2e-5 * alone.abs().max())


def test_norms_of_all_blocks_fold(net: torch.nn.Module) -> None:
    x = fill_input((1, 3, 64, 64))
    folded = TorchBackend(net, net.card)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.net.modules())
    expected = TorchBackend(net, net.card, as_is=True).run(x)
    assert np.abs(folded.run(x) - expected).max() <= 2e-5 * np.abs(expected).max()


def test_half_precision_keeps_the_attention(net: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((1, 3, 64, 64)))
    with torch.inference_mode():
        expected = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(x).float()
    # bfloat16 has 8 bits; what the rounding of queries and keys changes, with the factor 32, is as large as the output.
    assert (found - expected).abs().mean() < 0.02 * expected.abs().max()


def test_trains() -> None:
    torch.manual_seed(0)
    net = motes.create_model("mtunet").train()
    x = torch.randn(2, 3, 32, 48)
    target = torch.zeros(2, 1, 32, 48)
    target[0, :, 8:10, 20:23] = 1
    output = net(x)
    assert isinstance(output, tuple)
    assert [o.shape for o in output] == [(2, 1, 32, 48)]
    create_loss("dnanet.soft_iou")(output, target).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert net.vit5.projection.weight.grad.abs().max() > 0


def test_other_widths_classes_and_scale(net: torch.nn.Module, state: dict[str, np.ndarray]) -> None:
    small = motes.create_model("mtunet", in_channels=1, num_classes=2, width=4).eval()
    assert small.card.input.mean == (pytest.approx(0.1583),)
    x = torch.from_numpy(fill_input((1, 3, 32, 32)))
    usual = load_published(motes.create_model("mtunet", attention_scale=0.125), state).eval()
    with torch.inference_mode():
        assert small(x[:, :1]).shape == (1, 2, 32, 32)
        assert not torch.allclose(usual(x), net(x), atol=1e-2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "width 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"depth": 3}, "depth"),
        ({"variant": "official"}, "official"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        motes.create_model("mtunet", **options)


def test_unknown_variant_is_a_card_error() -> None:
    with pytest.raises(CardError):
        motes.create_model("mtunet", variant="tiny")


@pytest.mark.parametrize("prefix", ["", "module.", "decode_head."])
def test_loads_the_authors_files_by_their_names(
    net: torch.nn.Module, state: dict[str, np.ndarray], prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "best.pth.tar"
    torch.save({"state_dict": {prefix + k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}}, file)
    loaded, card = load_network(file)
    assert (card.name, card.variant) == ("mtunet", None)
    own = net.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in loaded.state_dict().items())


def test_missing_tensors_are_listed(state: dict[str, np.ndarray]) -> None:
    partial = {k: v for k, v in state.items() if not k.startswith("final.")}
    with pytest.raises(CheckpointError, match=r"final\.weight"):
        load_published(motes.create_model("mtunet"), partial)


def test_exported_file_at_other_sizes(net: torch.nn.Module, tmp_path: Path) -> None:
    tiles = [
        *synthetic_tiles(net.card, ((64, 64), (50, 70))),
        Tile("batch", fill_input((2, 3, 32, 112))),
        Tile("least", fill_input((1, 3, 16, 16))),
    ]
    report = export_onnx(net, net.card, tmp_path / "mtunet.onnx", tiles)
    assert report.passed
    assert [row.shape[-2:] for row in report.rows] == [(64, 64), (64, 80), (32, 112), (16, 16)]
