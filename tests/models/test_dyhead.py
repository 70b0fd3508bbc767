"""DyHead: how coarser levels are sampled, training, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_published
from motes.errors import CardError
from motes.layers.dyhead_block import DyHeadBlock, DynamicReLU

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("dyhead", variant, **{"backbone": "resnet18", "width": 32, "blocks": 1, **options})


def test_parameters_and_losses_of_each_level() -> None:
    stored = json.loads((REFERENCE / "dyhead" / "losses.json").read_text())
    net = motes.create_model("dyhead").eval()
    assert sum(p.numel() for p in net.parameters()) == 38_889_587
    load_published(net, fill_state(json.loads((REFERENCE / "dyhead" / "keys.json").read_text())))
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    with torch.inference_mode():
        found = net.losses_by_level(net.raw(torch.from_numpy(fill_input(tuple(shape)))), targets)
    for name, levels in stored["losses"].items():
        assert found[name].tolist() == pytest.approx(levels, rel=2e-5, abs=1e-6), name


@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(variant: str | None) -> None:
    check_training(light(variant))


@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(variant: str | None) -> None:
    net = light(variant)
    with torch.no_grad():  # offsets start at 0
        for block in net.neck[1].dyhead_blocks:
            block.spatial_conv_offset.weight.normal_(std=0.1)
    check_export(net, shapes=((1, 96, 32), (2, 64, 128)))


def test_published_counts_leave_deformable_convolutions_out() -> None:
    with torch.device("meta"):
        cost = complexity(light(blocks=2), 128, 128)
    middle = [n * n for n in (16, 8, 4, 2, 1)]
    finer, coarser = (
        middle[1:],
        middle[1:],
    )  # results at half size from the finer neighbour, at its own from the coarser
    cells = sum(middle) + sum(finer) + sum(coarser)
    assert cost.macs - cost.published_macs == 2 * cells * 32 * 32 * 9


def test_what_coarser_levels_are_sampled_with() -> None:
    values = torch.arange(2 * 18 * 4 * 6.0).reshape(2, 18, 4, 6)
    coarser = torch.zeros(2, 8, 2, 3)
    published = DyHeadBlock(8, "published", 2).for_coarser(values, coarser)
    assert published.shape == (2, 18, 2, 3)
    assert published[1].flatten().tolist() == values[1].flatten()[: 18 * 2 * 3].tolist()
    resized = DyHeadBlock(8, "resized", 2).for_coarser(values, coarser)
    assert torch.allclose(resized, values.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1)))


def test_offsets_have_two_ways() -> None:
    with pytest.raises(CardError, match="offsets of the dynamic head 'resize'"):
        light(offsets="resize")


def test_the_dynamic_relu_starts_as_a_relu_near_zero_weights() -> None:
    relu = DynamicReLU(8)
    for parameter in relu.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 3, 3)
    assert torch.allclose(relu(x), x.relu())
    with torch.no_grad():  # the largest coefficients: 0.5 above the middle of the gate
        relu.conv2.conv.bias.fill_(3)
    assert torch.allclose(relu(x), torch.maximum(2 * x + 0.5, x + 0.5))
