"""ABC: costs, the square it is built for, training, files, the exported network."""

from __future__ import annotations

import abc as standard_abc
import json
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import motes
from fill import fill_input, fill_state, uniform
from motes.benchmark import complexity
from motes.checkpoints import load_network, load_published
from motes.errors import CardError, CheckpointError, MotesError
from motes.export import export_onnx, synthetic_tiles
from motes.inference import Detector, OnnxBackend
from motes.losses import create_loss
from motes.models import any_size
from motes.models.abc import BilinearAttention, ConvAttention
from motes.models.backend import TorchBackend

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "abc"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / "keys-dim16-h64.json").read_text()))


@pytest.fixture(scope="module")
def net(state: dict[str, np.ndarray]) -> torch.nn.Module:
    return load_published(motes.create_model("abc", "dim16-h64"), state).eval()


def test_the_standard_library_keeps_its_abc() -> None:
    assert Path(standard_abc.__file__).is_relative_to(sysconfig.get_path("stdlib"))
    assert sys.modules["motes.models.abc"] is not standard_abc


@pytest.mark.parametrize(
    ("variant", "params", "macs"),
    [
        (None, 73_509_199, 82_920_952_832),
        ("clft-s", 9_090_991, 5_256_860_672),
        ("clft-b", 21_980_559, 20_826_903_552),
        ("clft-l", 73_509_199, 82_920_952_832),
        ("clft-s-512", 42_580_335, 21_222_739_968),
        ("clft-b-512", 55_469_903, 83_679_072_256),
        ("clft-l-512", 106_998_543, 332_407_590_912),
    ],
)
def test_parameters_and_cost(variant: str | None, params: int, macs: int) -> None:
    with torch.device("meta"):
        net = motes.create_model("abc", variant)
    side = 512 if variant and variant.endswith("512") else 256
    assert net.card.input.max_size == net.card.input.min_size == side
    cost = complexity(net, side, side)
    assert (cost.params, cost.published_macs) == (params, macs)
    assert cost.macs < macs
    assert len(net.state_dict()) == 367


def test_names_come_in_the_authors_order(net: torch.nn.Module) -> None:
    assert list(net.state_dict()) == list(json.loads((REFERENCE / "keys-dim16-h64.json").read_text()))


@pytest.mark.parametrize("size", [(64, 80), (80, 64), (48, 64), (128, 128)])
def test_only_the_square_it_was_built_for(net: torch.nn.Module, size: tuple[int, int]) -> None:
    with pytest.raises(MotesError, match=rf"frame of {size[0]}x{size[1]} px: it was built for 64x64 px"):
        net(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (17, 50)])
def test_smaller_frames_are_padded(net: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        out = any_size(net)(torch.zeros(1, 3, *size))
    assert out.shape == (1, 1, *size)
    assert torch.isfinite(out).all()


def test_larger_frames_are_cut_into_tiles(net: torch.nn.Module) -> None:
    with pytest.raises(MotesError, match="no side may exceed 64"):
        any_size(net)(torch.zeros(1, 3, 20, 65))
    detector = Detector(backend=TorchBackend(net, net.card))
    assert detector.tile == 64
    probability = detector.probability((uniform("frame", (70, 150)) * 127 + 128).astype(np.uint8))
    assert probability.shape == (70, 150)
    assert np.isfinite(probability).all()


@pytest.mark.parametrize("side", [16, 48, 80])
def test_any_multiple_of_16(side: int) -> None:
    net = motes.create_model("abc", width=2, image_size=side, in_channels=1, num_classes=2)
    assert net.card.input.tile == side
    assert [o.shape for o in net.train()(torch.randn(2, 1, side, side))] == [(2, 2, side, side)] * 6


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    side, c = 6, 3
    part = ConvAttention(c, side).eval()
    torch.nn.init.constant_(part.gamma, 0.7)
    att: BilinearAttention = part.att
    x = torch.randn(2, c, side, side)
    with torch.inference_mode():
        value = part.conv(x) + part.dconv(x)
        expected = value + x
        for b in range(2):
            q, k = (
                line.weight @ (conv.weight.flatten() @ x[b].flatten(1) + conv.bias) + line.bias
                for conv, line in ((att.query_conv, att.query_line), (att.key_conv, att.key_line))
            )
            for channel in range(c):
                score = att.s_conv.weight[channel].item() * torch.outer(q, k) + att.s_conv.bias[channel]
                expected[b, channel] += 0.7 * score.softmax(1) @ value[b, channel]
        assert torch.allclose(part(x), expected, atol=1e-5)


def test_frames_do_not_see_each_other(net: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 64)))
    x[1] *= 3
    with torch.inference_mode():
        alone = torch.cat([net(x[:1]), net(x[1:])])
        assert torch.allclose(net(x), alone, atol=2e-5 * alone.abs().max())


def test_norms_fold(net: torch.nn.Module) -> None:
    x = fill_input((1, 3, 64, 64))
    folded = TorchBackend(net, net.card)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.net.modules())
    expected = TorchBackend(net, net.card, as_is=True).run(x)
    assert np.abs(folded.run(x) - expected).max() <= 2e-5 * np.abs(expected).max()


def test_bilinear_products_beyond_16_bits() -> None:
    part = BilinearAttention(2, 16)
    with torch.inference_mode():
        part.query_line.bias.fill_(1e3)
        part.key_line.bias.fill_(1e3)
        with torch.autocast("cpu", torch.float16):
            weight = part(torch.randn(1, 2, 16, 16))
    assert torch.allclose(weight.float().sum(-1), torch.ones(1, 2, 16), atol=1e-2)


def test_trains() -> None:
    torch.manual_seed(0)
    net = motes.create_model("abc", "dim16-h64", width=4).train()
    x, target = torch.randn(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    target[0, :, 8:10, 20:23] = 1
    output = net(x)
    assert [o.shape for o in output] == [(2, 1, 64, 64)] * 6
    create_loss("serankdet.deep")(output, target).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    # Gamma starts at 0, so that the attention learns nothing before it has moved.
    assert net.Convtans2.attention.gamma.grad.abs() > 0


def test_first_output_in_training_is_the_prediction(net: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((1, 3, 64, 64)))
    with torch.inference_mode():
        assert torch.equal(net(x), net.published_outputs(x)["out5"])
    single = motes.create_model("abc", "dim16-h64", width=2, deep_supervision=False)
    assert len(single.train()(x.repeat(2, 1, 1, 1))) == 1
    assert list(single.eval().published_outputs(x)) == ["out0"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "width 0"),
        ({"image_size": 0}, "0x0 px.*multiple of 16"),
        ({"image_size": 100}, "100x100 px.*multiple of 16"),
        ({"image_side": 64}, "image_side"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(MotesError, match=says):
        motes.create_model("abc", **options)


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(CardError, match="clft-s"):
        motes.create_model("abc", variant="clft-x")


@pytest.mark.parametrize("variant", ["dim16-h64", "dim32-h64", "dim16-h96"])
def test_the_shapes_of_the_authors_files_tell_the_variant(variant: str, tmp_path: Path) -> None:
    keys = json.loads((REFERENCE / f"keys-{variant}.json").read_text())
    file = tmp_path / "best_mIoU.pth.tar"
    torch.save({"state_dict": {f"decode_head.{k}": torch.from_numpy(v) for k, v in fill_state(keys).items()}}, file)
    loaded, card = load_network(file, "abc")
    assert card.variant == variant
    assert card.input.tile == loaded.image_size == int(variant[-2:])


def test_files_for_another_size_are_refused(state: dict[str, np.ndarray]) -> None:
    with pytest.raises(CheckpointError, match=r"query_line\.weight.* instead of"):
        load_published(motes.create_model("abc", "dim16-h96"), state)


def test_exported_file_says_its_one_size(net: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "abc.onnx"
    assert export_onnx(net, net.card, file, synthetic_tiles(net.card, ((64, 64), (50, 70), (50, 70)))).passed
    graph = onnx.load(file).graph
    for value in (*graph.input, *graph.output):
        assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim][::2] == ["batch", 64]
        assert value.type.tensor_type.shape.dim[3].dim_value == 64
    backend = OnnxBackend(file)
    frame = (uniform("frame", (70, 100)) * 127 + 128).astype(np.uint8)
    found = Detector(backend=backend).probability(frame)
    assert np.allclose(found, Detector(backend=TorchBackend(net, net.card)).probability(frame), atol=5e-4)
    with pytest.raises(CheckpointError, match=r"\[1, 3, 80, 64\]"):
        backend.run(fill_input((1, 3, 80, 64)))
