"""SeRankDet: its authors' numbers with and without ties, independence of frames, sizes, merging, export."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_network, load_published, write_safetensors
from motes.errors import MotesError
from motes.export import Bounds, export_onnx, reparameterize, synthetic_tiles
from motes.export.parity import Tile, compare
from motes.inference import OnnxBackend
from motes.losses import create_loss
from motes.models import any_size
from motes.models.serankdet import RankAttention, first_strongest

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "serankdet"
KEYS = json.loads((REFERENCE / "keys.json").read_text())


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "cases", [["ties-96x96"], ["tiefree-80x112", "tiefree-128x64", "tiefree-batch2-96x96"]], ids=["ties", "tiefree"]
)
def test_equals_the_authors_code(cases: list[str]) -> None:
    state = fill_state(KEYS)
    stored = {case: dict(np.load(REFERENCE / f"case-{case}.npz")) for case in cases}
    for rule in json.loads(str(stored[cases[0]].get("override", "[]"))):
        for name in (n for n in state if n.endswith(rule["suffix"])):
            state[name] = (state[name] * rule["mul"] + rule["add"]).astype(np.float32)
    # As the authors' files name them.
    net = load_published(motes.create_model("serankdet"), {f"decode_head.{n}": v for n, v in state.items()}).eval()
    for case in cases:
        images = torch.from_numpy(fill_input(tuple(stored[case]["shape"])))
        with torch.inference_mode():
            outputs = net.published_outputs(images)
            logits = net(images).numpy()
        assert list(outputs) == [f"out{i}" for i in range(6)]
        for key in (k for k in stored[case] if k.startswith("out")):
            expected = stored[case][key]
            assert np.abs(outputs[key].numpy() - expected).max() <= 2e-5 * np.abs(expected).max(), (case, key)
        final = stored[case]["out5"]
        differs = np.abs(logits - final).max() / np.abs(final).max()
        if case.startswith("tiefree-batch2"):
            assert differs > 1e-3  # statistics of the batch there, of the frame here
        elif case.startswith("tiefree"):
            assert differs < 2e-5
        assert np.isfinite(logits).all()


def test_attention_equals_the_authors_code() -> None:
    stored = np.load(REFERENCE / "case-module-max_channel1.npz")
    block = RankAttention(512)
    state = fill_state({k: v for k, v in KEYS.items() if k.startswith("max_channel1.")})
    block.load_state_dict({k.partition(".")[2]: torch.from_numpy(v) for k, v in state.items()})
    x = torch.from_numpy(fill_input(tuple(stored["shape"]), "serank"))
    with torch.inference_mode():
        for any_equal in (False, True):
            found = block(x, any_equal=any_equal).numpy()
            assert np.abs(found - stored["out0"]).max() <= 2e-5 * np.abs(stored["out0"]).max()


def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = motes.create_model("serankdet")
    assert list(net.state_dict()) == list(KEYS)
    assert len(KEYS) == 439
    blocks = Counter()
    for name, parameter in net.named_parameters():
        blocks[name.partition(".")[0]] += parameter.numel()
    assert blocks == {
        "Conv1": 190_836,
        "Conv2": 1_034_880,
        "Conv3": 4_134_144,
        "Conv4": 16_525_824,
        "Conv5": 66_081_792,
        "max_channel1": 1_310_720,
        "max_channel2": 327_680,
        "max_channel3": 81_920,
        "max_channel4": 20_480,
        "max_channel5": 5_120,
        "neck5": 525_511,
        "neck4": 131_783,
        "neck3": 33_223,
        "neck2": 8_519,
        "Up5": 4_720_128,
        "Up4": 1_180_416,
        "Up3": 295_296,
        "Up2": 73_920,
        "Up_conv5": 9_441_792,
        "Up_conv4": 2_361_600,
        "Up_conv3": 590_976,
        "Up_conv2": 148_032,
        "Conv": 65,
        "conv5": 9_217,
        "conv4": 4_609,
        "conv3": 2_305,
        "conv2": 1_153,
        "conv1": 577,
    }
    assert sum(blocks.values()) == 109_242_518
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 108_893_334
    assert complexity(net).published_macs == 143_525_040_128
    assert complexity(net, 512, 512).published_macs == 573_320_019_968


@pytest.mark.parametrize(
    ("level", "row", "column", "value"),
    [
        (1, 0, 0, 0.0),
        (1, 0, 1, 1.0),
        (1, 3, 0, np.sin(3)),
        (1, 511, 511, np.cos(511 * 10000 ** (-510 / 512))),
        (4, 63, 33, np.cos(63 * 10000 ** (-32 / 64))),
        (5, 7, 2, np.sin(7 * 10000 ** (-2 / 32))),
    ],
)
def test_position_table(narrow, level: int, row: int, column: int, value: float) -> None:
    table = getattr(narrow, f"max_channel{level}").pos_enc.pos_enc
    assert table[row, column].item() == pytest.approx(value, abs=2e-4)
    assert not table.requires_grad


@pytest.mark.parametrize(
    ("values", "k", "expected"),
    [
        ([0, 3, 0, 1, 0], 2, [1, 3]),
        ([0, 3, 0, 1, 0], 3, [0, 1, 3]),
        ([0, 3, 0, 1, 0], 4, [0, 1, 2, 3]),
        ([2, 2, 2, 2, 2], 2, [0, 1]),
        ([1, 2, 1, 2, 2], 2, [1, 3]),
        ([-1, -2, -1, -3, -1], 1, [0]),
    ],
)
def test_of_equal_values_the_first_are_taken(values: list[float], k: int, expected: list[int]) -> None:
    found = first_strongest(torch.tensor([[values, values]], dtype=torch.float32), k)
    assert found.sort(-1).values.tolist() == [[expected, expected]]


def test_selection_equals_a_stable_sort() -> None:
    x = torch.randn(2, 5, 3000, generator=torch.Generator().manual_seed(0)).sub(1.5).relu()
    expected = x.sort(dim=-1, descending=True, stable=True).indices[..., :512]
    assert torch.equal(first_strongest(x, 512).sort(-1).values, expected.sort(-1).values)


@pytest.fixture(scope="module")
def narrow() -> torch.nn.Module:
    """A small one whose batch norms have seen scenes and whose skip fusion is on, in float64: no rounding exchanges
    pixels there."""
    torch.manual_seed(0)
    net = motes.create_model("serankdet", width=2).double()
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.5)
    frames = torch.from_numpy(synthetic_tiles(net.card, ((96, 96), (96, 96)))[0].batch).double()
    with torch.no_grad():
        for _ in range(30):
            net(frames)
    return net.eval()


def frames(*shape: int) -> torch.Tensor:
    return torch.from_numpy(fill_input(shape)).double()


def test_a_frame_does_not_depend_on_its_batch(narrow: torch.nn.Module) -> None:
    x = torch.cat([frames(1, 3, 96, 96), frames(1, 3, 96, 112)[..., :96], torch.zeros(1, 3, 96, 96)])
    with torch.inference_mode():
        together = narrow(x)
        for i in range(3):
            assert torch.allclose(narrow(x[i : i + 1]), together[i : i + 1], atol=1e-10)


def test_statistics_of_the_batch_on_request(narrow: torch.nn.Module) -> None:
    net = motes.create_model("serankdet", width=2, batch_statistics=True).double().eval()
    net.load_state_dict(narrow.state_dict())
    x = frames(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(net(x[:1]), narrow(x[:1]), atol=1e-10)
        assert not torch.allclose(net(x), narrow(x), atol=1e-6)
        block = narrow.max_channel1
        x = frames(2, 2, 96, 96)  # no ties
        assert torch.equal(block(x, batch_statistics=True), block(x, batch_statistics=True, any_equal=True))
        assert not torch.allclose(block(x, batch_statistics=True), block(x), atol=1e-6)


def test_merged_form_gives_the_same(narrow: torch.nn.Module, tmp_path: Path) -> None:
    merged = reparameterize(narrow)
    assert (merged.card.variant, merged.card.form) == ("deploy", "deploy")
    assert reparameterize(merged) is merged
    assert not any("cdc_layer.0.conv." in n or n.startswith("conv1.") for n in merged.state_dict())
    x = frames(2, 3, 112, 96)
    with torch.inference_mode():
        expected = narrow(x)
        assert torch.allclose(merged(x), expected, atol=1e-10)
        assert list(merged.published_outputs(x)) == ["out0"]
    file = tmp_path / "merged.safetensors"
    write_safetensors(file, merged.float().state_dict(), merged.card)
    net, card = load_network(file)
    assert (card.name, card.variant, card.options) == ("serankdet", "deploy", {"width": 2})
    assert net.state_dict().keys() == merged.state_dict().keys()


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_trains_on_frames_with_and_without_target(deep_supervision: bool) -> None:
    torch.manual_seed(0)
    net = motes.create_model("serankdet", width=2, in_channels=1, deep_supervision=deep_supervision)
    assert len(net.card.input.mean) == 1
    target = torch.zeros(2, 1, 96, 96)
    target[0, :, 40:43, 50:53] = 1
    outputs = net(torch.from_numpy(fill_input((2, 1, 96, 96))))
    assert len(outputs) == (6 if deep_supervision else 1)
    create_loss("serankdet.deep")(outputs, target).backward()
    unused = () if deep_supervision else tuple(f"conv{i}." for i in range(1, 6))
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and not name.startswith(unused or " "):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_published_side_outputs_are_those_of_training(narrow: torch.nn.Module) -> None:
    x = frames(1, 3, 96, 96)
    with torch.no_grad():
        published = narrow.published_outputs(x)
        try:
            narrow.train()
            for module in narrow.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
            prediction, *side = narrow(x)
        finally:
            narrow.eval()
        assert torch.allclose(prediction, narrow(x), atol=1e-10)
    assert [tuple(s.shape) for s in side] == [tuple(published[f"out{i}"].shape) for i in range(5)]


@pytest.mark.parametrize("size", [(64, 64), (80, 96), (96, 100), (512, 528), (16, 528), (8, 8)])
def test_sizes_it_cannot_take(narrow: torch.nn.Module, size: tuple[int, int]) -> None:
    with pytest.raises(MotesError, match=rf"{size[0]}x{size[1]} px: .*multiples of 16, at most 512 px.* 8192 pixels"):
        narrow(torch.zeros(1, 3, *size).double())


@pytest.mark.parametrize("size", [(1, 1), (40, 60), (97, 130), (64, 128)])
def test_any_size(narrow: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = any_size(narrow)(frames(1, 3, *size))
    assert logits.shape == (1, 1, *size)
    assert torch.isfinite(logits).all()


def test_a_frame_that_is_too_large() -> None:
    with torch.device("meta"):
        net = any_size(motes.create_model("serankdet", width=2).eval())
        assert net(torch.zeros(1, 3, 500, 512)).shape == (1, 1, 500, 512)
        with pytest.raises(MotesError, match="no side may exceed 512 px"):
            net(torch.zeros(1, 3, 96, 513))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "deploi"}, "did you mean 'deploy'"),
        ({"depth": 3}, "depth"),
        ({"form": "merged"}, "one of train, deploy"),
        ({"width": 0}, "expected at least 1"),
    ],
)
def test_wrong_options(options: dict, says: str) -> None:
    with torch.device("meta"), pytest.raises(MotesError, match=says):
        motes.create_model("serankdet", **options)


def test_several_classes_and_one_band() -> None:
    with torch.device("meta"):
        net = motes.create_model("serankdet", in_channels=1, num_classes=3, width=2)
        assert [o.shape for o in net(torch.zeros(2, 1, 96, 96))] == [(2, 3, 96, 96)] * 6


def test_export_agrees_on_ties_at_every_size(narrow: torch.nn.Module, tmp_path: Path) -> None:
    net = motes.create_model("serankdet", width=2).eval()
    net.load_state_dict(narrow.state_dict())
    file = tmp_path / "narrow.onnx"
    report = export_onnx(net, net.card, file, synthetic_tiles(net.card, ((96, 96), (112, 96), (96, 96), (96, 96))))
    assert report.passed
    assert report.bounds == Bounds(**net.export_bounds)
    flat = np.full((2, 3, 128, 96), 0.3, np.float32)  # nothing but ties, away from the border
    with torch.inference_mode():
        expected = net(torch.from_numpy(flat)).numpy()
    assert np.abs(OnnxBackend(file).run(flat) - expected).max() <= 1e-4 * np.abs(expected).max()


class Fixed:
    """Gives the logit of the tile's name."""

    def __init__(self, **logits: float) -> None:
        self.logits = list(logits.values())

    def run(self, batch: np.ndarray) -> np.ndarray:
        return np.full((1, 1, 1, 1), self.logits[int(batch[0, 0, 0, 0])], np.float32)


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        ({"a": 2.0, "b": 2.0}, True),
        ({"a": 2.05, "b": 2.0}, True),
        ({"a": 2.0, "b": 1.95}, True),
        ({"a": 2.05, "b": 2.05}, False),  # a defect moves every tile
        ({"a": 2.3, "b": 2.0}, False),
        ({"a": float("nan"), "b": 2.0}, False),
        ({"a": float("inf"), "b": 2.0}, False),
    ],
)
def test_bounds_with_outliers(found: dict[str, float], passed: bool) -> None:
    tiles = [Tile(str(i), np.full((1, 1, 1, 1), i, np.float32)) for i in range(2)]
    bounds = Bounds(outliers=0.5, outlier=0.05)
    assert compare(Fixed(a=2.0, b=2.0), Fixed(**found), tiles, bounds).passed is passed
    strict = compare(Fixed(a=2.0, b=2.0), Fixed(**found), tiles, Bounds()).passed
    assert strict is (found == {"a": 2.0, "b": 2.0})
