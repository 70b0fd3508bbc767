"""AGPCNet: block attention against a literal transcription, its options, limits, training, the exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import motes
from fill import fill_input, fill_state, uniform
from motes.checkpoints import load_network, load_published, write_safetensors
from motes.errors import CardError, CheckpointError, MotesError
from motes.export import convert, export_onnx, synthetic_tiles
from motes.export.parity import Tile
from motes.export.pooling import GatherPooling
from motes.models import any_size
from motes.models.agpcnet import ContextBlock, NonLocal

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "agpcnet"
SMALL = {"scales": (4, 3)}
"""Frames from 32 px, so that tests are quick."""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fill_module(module: nn.Module) -> nn.Module:
    """Deterministic weights everywhere: in a fresh network the context counts for nothing (gamma is 0)."""
    state = {k: (list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in module.state_dict().items()}
    return load_published(module, fill_state(state)).eval()


@pytest.mark.parametrize(
    ("variant", "keys", "params"),
    [
        (None, "keys", 12_360_461),
        ("agpcnet_1", "keys", 12_360_461),
        ("agpcnet_2", "keys", 12_360_461),
        ("resnet34", "keys-resnet34", 22_468_621),
        ("classdefault", "keys-classdefault", 12_429_447),
    ],
)
def test_stores_names_and_numbers_of_the_authors(variant: str | None, keys: str, params: int) -> None:
    with torch.device("meta"):
        net = motes.create_model("agpcnet", variant)
    assert list(net.state_dict()) == list(json.loads((REFERENCE / f"{keys}.json").read_text()))
    assert sum(p.numel() for p in net.parameters()) == params


def test_parameters_of_its_parts() -> None:
    with torch.device("meta"):
        net = motes.create_model("agpcnet")
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert counted == {"backbone": 11_176_512, "fuse23": 789_888, "fuse12": 198_336, "head": 36_993, "context": 158_732}


def attended(net: NonLocal, x: Tensor) -> Tensor:
    """The formula, for one whole map."""
    query, key, value = (conv(x).flatten(2) for conv in (net.query_conv, net.key_conv, net.value_conv))
    weights = torch.einsum("bcq,bck->bqk", query, key).softmax(dim=2)
    return net.gamma * torch.einsum("bqk,bck->bcq", weights, value).reshape(x.shape) + x


def block_by_block(net: ContextBlock, x: Tensor) -> Tensor:
    """A context block as its page describes it, one block after the other."""
    scale, (h, w) = net.scale, x.shape[2:]
    weights = net.attention.conv_att(attended(net.attention.non_local_att, F.adaptive_max_pool2d(x, scale)))
    if net.gca_type == "element":
        weights = F.interpolate(weights, (h, w), mode="bilinear", align_corners=True).sigmoid()
    out = torch.empty_like(x)
    rows, columns = ([i * (n // scale) for i in range(scale)] + [n] for n in (h, w))
    for i in range(scale):
        for j in range(scale):
            block = (..., slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1]))
            gate = weights[..., i, j, None, None].sigmoid() if net.gca_type == "patch" else weights[block]
            out[block] = attended(net.non_local, x[block]) * gate
    return torch.relu(net.gamma * net.conv(out) + x)


@pytest.mark.parametrize("gca_type", ["patch", "element"])
@pytest.mark.parametrize("gca_att", ["origin", "post"])
@pytest.mark.parametrize(("scale", "size"), [(1, (3, 5)), (3, (9, 6)), (3, (11, 7)), (5, (5, 9)), (4, (15, 22))])
def test_blocks_at_once_equal_one_by_one(gca_type: str, gca_att: str, scale: int, size: tuple[int, int]) -> None:
    net = fill_module(ContextBlock(8, scale, 4, gca_type, gca_att))
    x = torch.from_numpy(uniform("blocks", (2, 8, *size))).float()
    with torch.inference_mode():
        assert torch.allclose(net(x), block_by_block(net, x), atol=1e-5)


def test_named_configurations_of_the_same_names(tmp_path: Path) -> None:
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    file = tmp_path / "published.pth"
    torch.save({f"module.{k}": torch.from_numpy(np.asarray(v)) for k, v in state.items()}, file)
    for variant, scales in ((None, [10, 6, 5, 3]), ("agpcnet_1", [10, 6, 5, 3]), ("agpcnet_2", [10, 6, 5, 4])):
        net, card = load_network(file, "agpcnet", variant)
        assert card.variant == variant
        assert [block.scale for block in net.context.scale_list] == scales
    with pytest.raises(CheckpointError, match="holds agpcnet, not variant 'resnet34'"):
        load_network(file, "agpcnet", "resnet34")
    output, tiles = tmp_path / "second.safetensors", [Tile("small", fill_input((1, 3, 80, 80)))]
    convert(file, output, "agpcnet", tiles=tiles, variant="agpcnet_2")
    assert load_network(output)[1].variant == "agpcnet_2"


def test_options_survive_a_file(tmp_path: Path) -> None:
    net = motes.create_model("agpcnet", gca_type="element", **SMALL)
    write_safetensors(tmp_path / "net.safetensors", net.state_dict(), net.card)
    loaded, card = load_network(tmp_path / "net.safetensors")
    assert card.input.min_size == 32
    assert [(block.scale, block.gca_type) for block in loaded.context.scale_list] == [(4, "element"), (3, "element")]


def test_small_frames_are_refused_or_padded() -> None:
    net = motes.create_model("agpcnet", **SMALL).eval()
    with torch.inference_mode():
        with pytest.raises(MotesError, match=r"frame of 28x40 px: its scales need at least 32 px a side"):
            net(torch.zeros(1, 3, 28, 40))
        assert any_size(net)(torch.zeros(1, 3, 9, 37)).shape == (1, 1, 9, 37)
    assert motes.model_card("agpcnet").input.min_size == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet50"}, "resnet"),
        ({"gca_type": "pach"}, "did you mean 'patch'"),
        ({"gca_att": "past"}, "did you mean 'post'"),
        ({"scales": ()}, "at least one"),
        ({"scales": (10, 0)}, r"found \(10, 0\)"),
        ({"reduce_ratios": (16,)}, "published: 16 and 4"),
        ({"reduce_ratios": (256, 1)}, "leave 4 or more"),
        ({"reduce_ratios": (64, 16)}, "leave 4 or more"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(MotesError, match=message):
        motes.create_model("agpcnet", **options)


def test_unknown_variant() -> None:
    with pytest.raises(CardError, match=r"did you mean 'agpcnet_[12]'"):
        motes.create_model("agpcnet", "agpcnet_3")


def test_trains_on_two_frames_but_not_on_one() -> None:
    from motes.losses import create_loss

    torch.manual_seed(0)
    net = motes.create_model("agpcnet", **SMALL).train()
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)  # at 0 what it scales has no gradient yet
    x = torch.from_numpy(fill_input((2, 3, 32, 40)))
    target = torch.zeros(2, 1, 32, 40)
    target[0, :, 10:13, 20:23] = 1  # the second frame has none
    create_loss("repisdnet.dice")(net(x), target).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    untouched = [n for n, p in net.named_parameters() if not p.grad.any()]
    assert untouched == []
    with pytest.raises(MotesError, match="batch of one frame") as error:
        net(x[:1])
    assert "batch size" in error.value.hint
    net.eval()(x[:1])


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    net = fill_module(motes.create_model("agpcnet", **SMALL))
    x = torch.from_numpy(fill_input((2, 3, 32, 40)))
    with torch.inference_mode():
        assert torch.allclose(net(x)[1:], net(x[1:]), atol=1e-5)


@pytest.mark.parametrize("bins", [3, 10])
@pytest.mark.parametrize("size", [(10, 10), (11, 19), (13, 29)])
def test_gathered_pooling_is_torchs(bins: int, size: tuple[int, int]) -> None:
    x = torch.from_numpy(uniform("pooling", (2, 3, *size)))
    assert torch.equal(GatherPooling(bins)(x), F.adaptive_max_pool2d(x, bins))


@pytest.mark.parametrize("options", [{}, {"gca_type": "element", "gca_att": "origin"}])
def test_export_of_every_size(options: dict, tmp_path: Path) -> None:
    net = fill_module(motes.create_model("agpcnet", **SMALL, **options))
    tiles = synthetic_tiles(net.card, ((32, 32), (44, 68), (60, 40), (60, 40)))
    report = export_onnx(net, net.card, tmp_path / "net.onnx", tiles)
    assert report.passed
    assert [r.shape for r in report.rows] == [(1, 3, 32, 32), (1, 3, 44, 68), (2, 3, 60, 40)]
