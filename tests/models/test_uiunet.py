"""UIU-Net: its published costs, seven outputs, shared fusions, sizes, the authors' files, its export."""

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
from motes.checkpoints import load_published
from motes.checkpoints.matching import best_fit
from motes.errors import CardError, CheckpointError
from motes.export import export_onnx, synthetic_tiles
from motes.imaging import network_input
from motes.losses import create_loss
from motes.models import any_size
from motes.models.folding import fold_norms
from motes.models.uiunet import CrossAttention, NestedU

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "uiunet"


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / "keys-gray.json").read_text()))


@pytest.fixture(scope="module")
def net(weights: dict[str, np.ndarray]) -> torch.nn.Module:
    return load_published(motes.create_model("uiunet", "gray"), weights).eval()


@pytest.mark.parametrize(
    ("variant", "params", "at_256", "at_512"),
    [
        (None, 50_541_461, 54_297_565_696, 217_189_353_472),
        ("gray", 50_540_309, 54_222_068_224, 216_887_363_584),
    ],
)
def test_costs_what_is_published(variant: str | None, params: int, at_256: int, at_512: int) -> None:
    with torch.device("meta"):
        net = motes.create_model("uiunet", variant)
    small, large = complexity(net), complexity(net, 512, 512)
    assert (small.params, small.macs, large.macs) == (params, at_256, at_512)


def test_parameters_come_in_the_published_order(weights: dict[str, np.ndarray]) -> None:
    with torch.device("meta"):
        assert list(motes.create_model("uiunet", "gray").state_dict()) == list(weights)


def test_trains_with_and_without_targets(net: torch.nn.Module) -> None:
    trained = copy.deepcopy(net).train()
    target = torch.zeros(2, 1, 32, 32)
    target[0, 0, 10:13, 20:22] = 1
    outputs = trained(torch.from_numpy(fill_input((2, 1, 32, 32))))
    assert len(outputs) == 7 and all(o.shape == target.shape for o in outputs)
    create_loss("uiunet.multi_bce")([torch.sigmoid(o) for o in outputs], target).backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    # One module serves both halves of a fusion: its statistics move twice in a step, all others once.
    counts = {n: int(b) for n, b in trained.named_buffers() if n.endswith("num_batches_tracked")}
    assert {n for n, c in counts.items() if c == 2} == {f"fuse{k}.post.1.num_batches_tracked" for k in (2, 3, 4, 5)}
    assert set(counts.values()) == {1, 2}


def test_prediction_is_the_fused_map_as_logits(net: torch.nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 1, 37, 50)))
    with torch.inference_mode():
        outputs, logits, alone = net.published_outputs(x), net(x), net(x[1:])
    assert torch.equal(logits, outputs["logits0"])
    assert torch.equal(torch.sigmoid(logits), outputs["out0"])
    # The fused map is a 1x1 convolution of the six others, and a frame does not depend on its neighbours.
    sides = torch.cat([outputs[f"logits{i}"] for i in range(1, 7)], dim=1)
    assert torch.allclose(net.outconv(sides), logits, atol=1e-5 * float(logits.abs().max()))
    assert torch.allclose(logits[1:], alone, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("size", [(1, 1), (9, 33), (32, 32)])
def test_any_size(net: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = any_size(net)(torch.zeros(1, 1, *size))
        raw = net(torch.zeros(1, 1, *size))
    assert logits.shape == raw.shape == (1, 1, *size)
    assert torch.isfinite(logits).all() and torch.isfinite(raw).all()


def test_several_classes() -> None:
    with torch.device("meta"):
        net = motes.create_model("uiunet", num_classes=3).train()
        assert [o.shape for o in net(torch.empty(2, 3, 40, 33))] == [(2, 3, 40, 33)] * 7


@pytest.mark.parametrize(("depth", "shrinks"), [(7, 5), (6, 4), (5, 3), (4, 2)])
def test_how_often_a_stage_halves_its_map(depth: int, shrinks: int) -> None:
    stage = NestedU(depth, 2, 3, 4).eval()
    sides = []
    for module in stage.children():
        module.register_forward_hook(lambda _module, _inputs, out: sides.append(out.shape[-1]))
    with torch.inference_mode():
        assert stage(torch.zeros(1, 2, 65, 65)).shape == (1, 4, 65, 65)
    assert min(sides) == -(-65 // 2**shrinks)


def test_fusion_doubles_what_its_gates_let_through() -> None:
    """With gates held open (weights 1) and the identity after them: twice the low map, twice the high one."""
    fuse = CrossAttention(4).eval()
    with torch.no_grad():
        fuse.topdown[5].bias.fill_(30.0)
        fuse.bottomup[3].conv1.weight.fill_(1e4)
        fuse.bottomup[1].bias.fill_(10.0)
        for conv in (fuse.feature_high[0], fuse.post[0]):
            torch.nn.init.dirac_(conv.weight)
            conv.bias.zero_()
        high, low = torch.rand(1, 4, 3, 3), torch.rand(1, 4, 3, 3)
        assert torch.allclose(fuse(high, low), torch.cat([2 * low, 2 * high], dim=1), atol=1e-4)


def test_input_is_divided_by_its_own_maximum() -> None:
    frame = np.array([[0, 50], [100, 200]], np.uint8)
    planes = network_input(frame, motes.model_card("uiunet").input)
    expected = (frame / 200 - 0.485) / 0.229
    np.testing.assert_allclose(planes, np.stack([expected] * 3), atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_reads_the_authors_files(weights: dict[str, np.ndarray], prefix: str) -> None:
    net = motes.create_model("uiunet", "gray")
    load_published(net, {prefix + k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")})
    assert np.array_equal(net.stage5d.rebnconv3d.conv_s1.weight.detach(), weights["stage5d.rebnconv3d.conv_s1.weight"])


def test_weights_of_another_configuration_are_refused(weights: dict[str, np.ndarray]) -> None:
    assert best_fit(weights) == ("uiunet", "gray")
    with torch.device("meta"):
        net = motes.create_model("uiunet")
    with pytest.raises(CheckpointError, match=r"stage1\.rebnconvin.*\[64, 1, 3, 3\] instead of \[64, 3, 3, 3\]"):
        load_published(net, weights)
    with pytest.raises(CardError, match="gray"):
        motes.create_model("uiunet", "grey")


def test_folding_changes_nothing(net: torch.nn.Module) -> None:
    folded = copy.deepcopy(net)
    fold_norms(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x = torch.from_numpy(fill_input((1, 1, 33, 40)))
    with torch.inference_mode():
        expected = net(x)
        assert torch.allclose(folded(x), expected, atol=2e-5 * float(expected.abs().max()))


def test_exports_with_free_sizes(net: torch.nn.Module, tmp_path: Path) -> None:
    tiles = synthetic_tiles(net.card, ((33, 50), (64, 35), (64, 35)))
    report = export_onnx(net, net.card, tmp_path / "uiunet.onnx", tiles)
    assert report.passed
    assert [row.shape for row in report.rows] == [(1, 1, 33, 50), (2, 1, 64, 35)]
    assert all(row.logit <= 2e-5 * row.largest_logit for row in report.rows)
