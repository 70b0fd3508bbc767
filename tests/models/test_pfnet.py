"""PFNet: its authors' numbers for Res2Net, its costs, point flow by hand, training, sizes, files, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import motes
from fill import fill_input, fill_state
from motes.checkpoints import load_network, load_published
from motes.errors import CardError
from motes.export import Bounds, export_onnx, synthetic_tiles
from motes.layers.pyramid import FixedWindowPooling, window_maxima, window_members
from motes.losses import create_loss
from motes.models import any_size
from motes.models.pfnet import PointFlow, fine_index, strongest

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "pfnet"
SMALL = {"backbone": "resnet18", "num_classes": 5}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_statistics(net: torch.nn.Module) -> torch.nn.Module:
    """Norms that are not at their start, where timm's last one of a block is zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.uniform_(-0.2, 0.2)
    return net.eval()


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    return with_statistics(motes.create_model("pfnet", **SMALL))


def published_weights(variant: str | None = None) -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / f"keys{'-' + variant if variant else ''}.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("cases", [["scaled-448x448", "scaled-512x480"], ["448x448"]], ids=["scaled", "plain"])
def test_res2net_equals_the_authors_code(cases: list[str]) -> None:
    net = motes.create_model("pfnet", "gaofen-r2n101").eval()
    state = published_weights("gaofen-r2n101")
    stored = {case: dict(np.load(REFERENCE / f"case-gaofen-{case}.npz")) for case in cases}
    for name in stored[cases[0]].get("scaled", []):
        state[str(name)] *= np.float32(stored[cases[0]]["factor"])
    load_published(net, state)
    for case in cases:
        with torch.inference_mode():
            outputs = net.published_outputs(torch.from_numpy(fill_input(tuple(stored[case]["shape"].tolist()))))
        for key in ("logits0", "edge0", "edge1", "edge2"):
            expected = stored[case][key]
            assert np.abs(outputs[key].numpy() - expected).max() <= 2e-5 * np.abs(expected).max(), (case, key)


@pytest.mark.parametrize(
    ("variant", "params", "convolutions"),
    [
        (None, 32_994_003, {256: "21.413", 512: "85.575", 896: "262.019"}),
        ("r101", 51_986_131, {256: "26.262", 512: "104.970"}),
        ("gaofen-r2n101", 52_516_285, {448: "75.977", 512: "99.225"}),
    ],
)
def test_costs_what_is_published(variant: str | None, params: int, convolutions: dict[int, str]) -> None:
    with torch.device("meta"):
        net = motes.create_model("pfnet", variant).eval()
    assert sum(p.numel() for p in net.parameters()) == params
    for side, expected in convolutions.items():
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net(torch.empty(1, 3, side, side, device="meta"))
        flops = counter.get_flop_counts()["Global"]
        found = sum(n for operator, n in flops.items() if "convolution" in str(operator)) / 2e9
        assert f"{found:.3f}" == expected
        points = [min((side // s) ** 2, 128) for s in (32, 16, 8)]
        assert counter.get_total_flops() / 2 - found * 1e9 == pytest.approx(
            sum(2 * 256 * (196**2 + n**2) for n in points)
        )


def test_a_class_costs_257() -> None:
    with torch.device("meta"):
        six, seven = (motes.create_model("pfnet", num_classes=n) for n in (6, 7))
    assert sum(p.numel() for p in seven.parameters()) - sum(p.numel() for p in six.parameters()) == 257
    assert seven.card.classes == tuple(f"class{i}" for i in range(7))


def test_variants_bring_their_classes_and_statistics() -> None:
    with torch.device("meta"):
        port, contest, own = (
            motes.create_model("pfnet", "jittor-r50"),
            motes.create_model("pfnet", "gaofen-r2n101"),
            motes.create_model("pfnet", "gaofen-r2n101", num_classes=4, salient=20),
        )
    assert (len(port.card.classes), port.card.input.mean[0], port.card.input.min_size) == (2, 0.485, 448)
    assert (len(contest.card.classes), contest.card.input.mean, contest.card.input.std) == (2, (0.5,) * 3, (0.5,) * 3)
    assert (len(own.card.classes), own.card.input.min_size) == (4, 640)
    assert own.card.options["backbone"] == "res2net101_26w_4s" and "num_classes" not in own.card.options


@pytest.mark.parametrize(("high", "low"), [((4, 5), (8, 10)), ((3, 4), (5, 7)), ((2, 3), (2, 3))])
def test_point_flow_by_hand(high: tuple[int, int], low: tuple[int, int]) -> None:
    """Point by point, as the paper tells it."""
    torch.manual_seed(0)
    flow = PointFlow(channels=6, salient=3, average=2, edge_points=5, matcher_width=4, windows="adaptive").eval()
    coarse, fine = torch.randn(2, 6, *high), torch.randn(2, 6, *low)
    with torch.inference_mode():
        result, edges = flow(coarse, fine)
        a, b = flow.down_h(coarse), F.interpolate(flow.down_l(fine), high, mode="bilinear", align_corners=True)
        certainty = torch.sigmoid(flow.point_matcher.match_conv(torch.cat([a, b], 1)))
        maxima, indices = F.adaptive_max_pool2d(certainty, 3, return_indices=True)
        grid = F.interpolate(F.adaptive_avg_pool2d(certainty, 2), high, mode="bilinear", align_corners=True)
        assert torch.allclose(edges, flow.edge_final(coarse - coarse * grid), atol=1e-6)
        bright = coarse + coarse * F.interpolate(maxima, high, mode="bilinear", align_corners=True)
        expected, ratio = fine.clone(), low[0] / high[0]
        for image in range(2):
            best = edges[image].flatten().topk(min(5, high[0] * high[1])).indices.tolist()
            for source, points, exact in ((coarse, best, False), (bright, indices[image].flatten().tolist(), True)):
                places = [divmod(p, high[1]) for p in points]
                upper = torch.stack([source[image, :, y, x] for y, x in places])
                targets = [int(np.float32(x * ratio) + np.float32(y * ratio) * low[1]) for y, x in places]
                if exact:
                    lower = fine[image].flatten(1)[:, targets].T
                else:
                    centres = [[2 * (x + 0.5) / high[1] - 1, 2 * (y + 0.5) / high[0] - 1] for y, x in places]
                    lower = F.grid_sample(fine[image : image + 1], torch.tensor([[centres]]), align_corners=False)
                    lower = lower[0, :, 0].T
                fused = torch.softmax(lower @ upper.T, dim=1) @ upper + lower
                for target, feature in zip(targets, fused, strict=True):
                    expected[image, :, target // low[1], target % low[1]] = feature
    assert torch.allclose(result, expected, atol=1e-5)
    assert not torch.equal(result, fine)


@pytest.mark.parametrize(("bins", "sides"), [(3, (7, 10)), (14, (14, 14)), (14, (3, 20)), (1, (4, 5))])
def test_window_maxima_are_those_of_adaptive_pooling(bins: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(1)
    x = torch.rand(2, 1, *sides).round(decimals=1)  # with ties
    values, indices = window_maxima(x, bins, "adaptive")
    expected, places = F.adaptive_max_pool2d(x, bins, return_indices=True)
    assert torch.equal(values, expected) and torch.equal(indices, places.flatten(1))


@pytest.mark.parametrize(("bins", "sides"), [(3, (7, 11)), (14, (14, 27)), (1, (4, 5)), (9, (16, 15))])
def test_fixed_windows(bins: int, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    x = torch.rand(2, 1, *sides)
    strides = [n // bins for n in sides]
    kernel = [n - (bins - 1) * s for n, s in zip(sides, strides, strict=True)]
    expected, places = F.max_pool2d(x, kernel, strides, return_indices=True)
    values, indices = window_maxima(x, bins, "fixed")
    assert values.shape == (2, 1, bins, bins)
    assert torch.equal(values, expected) and torch.equal(indices, places.flatten(1))
    average = FixedWindowPooling(bins)(x)
    assert torch.allclose(average, F.avg_pool2d(x, kernel, strides))
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert torch.allclose(FixedWindowPooling(bins)(x), average, atol=1e-6)


def test_fixed_windows_by_hand() -> None:
    # 5 samples, 2 bins: stride 2, window 5 - 2 = 3. Adaptive: 0..2 and 2..4. 7 samples, 3 bins: they differ.
    members = window_members(7, 3, "fixed", torch.zeros(1))
    assert members.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    members = window_members(7, 3, "adaptive", torch.zeros(1))
    assert [sorted(set(m)) for m in members.tolist()] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert window_members(8, 3, "fixed", torch.zeros(1)).tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]


def test_the_first_of_equal_scores() -> None:
    assert strongest(torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0]]), 2).tolist() == [[1, 2]]
    assert strongest(torch.zeros(1, 3), 8).tolist() == [[0, 1, 2]]


def test_a_fraction_of_the_row_moves_the_column() -> None:
    high, low = torch.zeros(1, 1, 5, 7), torch.zeros(1, 1, 9, 13)
    # Row 1, column 2 of 7: 2 * 1.8 + 1.8 * 13 = 27.0: row 2, column 1. Rows and columns apart: row 1, column 3.
    assert fine_index(torch.tensor([[9]]), high, low).tolist() == [[27]]
    assert fine_index(torch.tensor([[9]]), high, torch.zeros(1, 1, 10, 14)).tolist() == [[2 * 14 + 4]]


def test_trains_with_and_without_targets() -> None:
    net = motes.create_model("pfnet", **SMALL).train()
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[0, 20:30, 40:60] = 3
    labels[1, :, 90:] = 255
    outputs = net(torch.from_numpy(fill_input((2, 3, 64, 96))))
    assert [tuple(o.shape) for o in outputs] == [(2, 5, 64, 96)] + [(2, 1, 64, 96)] * 3
    create_loss("pfnet.joint")(outputs, labels).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    for name in ("down_h.weight", "down_l.weight", "edge_final.3.weight", "point_matcher.match_conv.weight"):
        assert net.get_parameter(f"head.fpn_out_align.0.{name}").grad.abs().sum() > 0


def test_edges_come_from_coarse_to_fine(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 96)))
    try:
        small.training = True  # this module alone: statistics and dropout stay those of eval
        with torch.inference_mode():
            outputs = small(x)
    finally:
        small.training = False
    with torch.inference_mode():
        published = small.published_outputs(x)
        assert torch.equal(small(x), published["out0"]) and torch.equal(outputs[0], published["out0"])
    for i, edge in enumerate(outputs[1:]):
        raw = published[f"edge{i}"]
        assert raw.shape == (2, 1, 2 * 2**i, 3 * 2**i)
        assert torch.equal(edge, F.interpolate(raw, (64, 96), mode="bilinear", align_corners=True))


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 70)])
def test_any_size(small: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = any_size(small)(torch.from_numpy(fill_input((1, 3, *size))))
    assert logits.shape == (1, 5, *size) and torch.isfinite(logits).all()


def test_a_frame_does_not_depend_on_its_neighbours(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 3, 64, 64)))
    with torch.inference_mode():
        together, alone = small(x), small(x[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5 * float(alone.abs().max()))


def test_sixteen_bits(small: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((1, 3, 64, 64)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(small(x)).all()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"backbone": "resnet_18"}, "resnet18"),
        ({"code": "pytorch"}, "torch"),
        ({"edge_points": 0}, "at least 1"),
        ({"salient": -1}, "at least 1"),
        ({"point_flow": "no"}, "true or false"),
        ({"variant": "gaofen"}, "gaofen-r2n101"),
    ],
)
def test_bad_options(options: dict, hint: str) -> None:
    with pytest.raises(CardError, match=hint):
        motes.create_model("pfnet", **options)


@pytest.mark.parametrize("variant", [None, "jittor-r50", "upernet-r50"])
def test_reads_the_authors_files(variant: str | None, tmp_path: Path) -> None:
    weights = published_weights(variant)
    file = tmp_path / "snapshot.pth"
    state = {f"module.{k}": torch.from_numpy(np.asarray(v)) for k, v in weights.items()}
    torch.save({"state_dict": state, "optimizer": {}, "epoch": 15, "mean_iu": np.float64(0.66), "command": "x"}, file)
    net, card = load_network(file, model="pfnet")
    assert (card.name, card.variant, len(card.classes)) == ("pfnet", variant, 2 if variant == "jittor-r50" else 16)
    assert np.array_equal(net.head.conv_last[1].weight.numpy(force=True), weights["head.conv_last.1.weight"])
    stem = "layer0.0.0.weight"
    assert np.array_equal(net.backbone.body.conv1[0].weight.numpy(force=True), weights[stem])


def test_only_bottlenecks_are_dilated() -> None:
    with torch.device("meta"):
        nets = {v: motes.create_model("pfnet", v).backbone.body for v in (None, "gaofen-r2n101")}
    for stage, dilation in (("layer2", 1), ("layer3", 2), ("layer4", 4)):
        assert all(b.conv2.dilation == (dilation, dilation) for b in getattr(nets[None], stage))
        found = [m.dilation for m in getattr(nets["gaofen-r2n101"], stage).modules() if hasattr(m, "dilation")]
        assert set(found) == {(1, 1)}
    assert nets[None].layer4[0].conv2.stride == (2, 2)


@pytest.mark.parametrize("code", ["torch", pytest.param("jittor", marks=pytest.mark.slow)])
def test_exports_with_free_sizes(code: str, small: torch.nn.Module, tmp_path: Path) -> None:
    net, sides = small, ((32, 32), (64, 160), (96, 128), (96, 128))
    if code == "jittor":
        net, sides = with_statistics(motes.create_model("pfnet", code=code, **SMALL)), ((448, 480),)
    tiles = synthetic_tiles(net.card, sides)
    # Nothing is exchanged on these tiles, so the network's own bounds are not needed.
    report = export_onnx(net, net.card, tmp_path / "pfnet.onnx", tiles, Bounds())
    assert report.passed
    assert all(row.logit <= 2e-5 * row.largest_logit for row in report.rows)
