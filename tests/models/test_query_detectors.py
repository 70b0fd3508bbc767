"""The four DETRs and Sparse R-CNN: losses of every layer, training, export, queries, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state, uniform
from motes.benchmark import complexity
from motes.checkpoints import load_published
from motes.errors import CardError

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PARAMETERS = {
    "detr": 41_554_758,
    "conditional_detr": 40_296_519,
    "dab_detr": 43_701_507,
    "deformable_detr": 40_098_631,
    "sparse_rcnn": 106_169_070,
}
PROPOSALS = "rpn_head.init_proposal_bboxes.weight"
SHALLOW = {name: {"encoder_layers": 1, "decoder_layers": 2, "queries": 20} for name in PARAMETERS}
SHALLOW["sparse_rcnn"] = {"stages": 2, "proposals": 20}

CONTENT_STARTS_AT_ZERO = {
    "detr": {"in_proj_weight"},
    "conditional_detr": {f"{part}_proj.weight" for part in ("qcontent", "kcontent", "v")},
    "dab_detr": {f"{part}_proj.weight" for part in ("qcontent", "kcontent", "v")},
}
"""Of the first attention among queries: weights that multiply zeros, so that they never train."""


def light(name: str, variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model(name, variant, backbone="resnet18", **{**SHALLOW[name], **options})


def filled(name: str) -> torch.nn.Module:
    """The published network with the weights of the reference; proposals have positive sides, as its spec says."""
    state = fill_state(json.loads((REFERENCE / name / "keys.json").read_text()))
    if PROPOSALS in state:
        u = uniform(PROPOSALS, (100, 4))
        state[PROPOSALS] = np.concatenate((0.5 + 0.25 * u[:, :2], 0.3 + 0.2 * u[:, 2:]), 1).astype(np.float32)
    return load_published(motes.create_model(name).eval(), state)


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """``net`` with every matrix that starts at zero (and stops the gradient of what is before it) filled."""
    for p in net.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return net


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_published_table(name: str) -> None:
    with torch.device("meta"):
        net = motes.create_model(name)
        assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]
        assert complexity(net, 64, 64).published_params == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_losses_of_every_layer(name: str) -> None:
    stored = json.loads((REFERENCE / name / "losses.json").read_text())
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    net = filled(name)
    with torch.inference_mode():
        raw = net.raw(torch.from_numpy(fill_input(tuple(shape))))
        found = net.losses_per_layer(raw, targets, tuple(shape[2:]))
        sums = net.losses_of(raw, targets, tuple(shape[2:]))
    wanted = {k: v for k, v in stored["losses"].items() if not k.endswith("pos_acc")}
    for key, value in wanted.items():
        layer, _, loss = key.rpartition(".")
        assert float(found[loss][int(layer[1:]) if layer else -1]) == pytest.approx(value, rel=2e-5), key
    for loss, value in sums.items():
        assert float(value) == pytest.approx(sum(v for k, v in wanted.items() if k.endswith(loss)), rel=2e-5)


@pytest.mark.parametrize("case", ["case-1x64x64", "case-2x64x96"])
def test_stages_of_sparse_rcnn_equal_the_authors(case: str) -> None:
    stored = np.load(REFERENCE / "sparse_rcnn" / f"{case}.npz")
    with torch.inference_mode():
        outputs = filled("sparse_rcnn").published_outputs(torch.from_numpy(fill_input(tuple(stored["shape"]))))
    for key, value in outputs.items():
        assert value.shape == stored[key].shape
        assert np.abs(value.numpy() - stored[key]).max() <= 2e-5 * np.abs(stored[key]).max(), key


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(name: str, variant: str | None) -> None:
    net = stirred(light(name, variant))
    check_training(net)
    unused = {n for n, p in net.named_parameters() if p.requires_grad and not p.grad.any()}
    if name == "sparse_rcnn":  # a map trains where a proposal lies on its level
        unused = {n for n in unused if not n.startswith("neck.fpn_convs")}
    first = {n for n in unused if n.startswith("decoder.layers.0.self_attn.")}
    assert {n.removeprefix("decoder.layers.0.self_attn.").removeprefix("attn.") for n in first} <= {
        *CONTENT_STARTS_AT_ZERO.get(name, ()),
        "out_proj.weight",  # its input is the bias of the values, which starts at zero
    }
    # What a constant is normed to has no use for the gain, in the first step.
    assert unused - first <= {"decoder.layers.0.norms.0.weight"}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(name: str, variant: str | None) -> None:
    check_export(stirred(light(name, variant)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_detections_lie_in_the_image_and_depend_on_nothing_else(name: str) -> None:
    net = stirred(light(name, "small")).eval()
    images = torch.randn(2, 3, 50, 70)
    with torch.inference_mode():
        both, alone = net(images), net(images[1:])
    for key, value in alone[0].items():
        assert torch.allclose(both[1][key], value, atol=1e-4), key
    boxes, scores = both[1]["boxes"], both[1]["scores"]
    assert 0 < len(boxes) <= 20 and len(scores) == len(boxes)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([70, 50, 70, 50])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (scores.diff() <= 0).all()


@pytest.mark.parametrize("name", PARAMETERS)
def test_boxes_start_small_in_the_small_variant(name: str) -> None:
    net = light(name, "small", start_size=0.05).eval()
    with torch.inference_mode():
        boxes = net.candidates(torch.randn(1, 3, 64, 96))["boxes"][0]
    inside = ((boxes > 0) & (boxes < torch.tensor([96, 64, 96, 64]))).all(1)
    sides = (boxes[:, 2:] - boxes[:, :2])[inside] / torch.tensor([96, 64])
    if name == "detr":  # its last layer starts at random, around this
        assert 0.02 < sides.median() < 0.12
    else:
        assert sides.numpy() == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("name", PARAMETERS)
def test_several_classes(name: str) -> None:
    net = light(name, num_classes=3).eval()
    candidates = net.candidates(torch.randn(1, 3, 64, 64))
    assert candidates["scores"].shape == (1, 20, 3) and candidates["boxes"].shape == (1, 20, 4)
    target = {"boxes": torch.tensor([[4.0, 4, 9, 9]]), "labels": torch.tensor([2])}
    assert all(torch.isfinite(v) for v in net(torch.randn(1, 3, 64, 64), [target]).values())


def test_another_backbone_and_one_band() -> None:
    net = motes.create_model("detr", "small", in_channels=1, backbone="convnext_atto", **SHALLOW["detr"])
    losses = net(torch.randn(1, 1, 64, 64), targets_of([[[4, 4, 9, 9]]], (64, 64), 1))
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_iou"}


def test_frozen_backbone_as_published() -> None:
    net = light("detr").train()
    before = {n: b.clone() for n, b in net.backbone.named_buffers()}
    net(torch.randn(1, 3, 64, 64), targets_of([[[4, 4, 9, 9]]], (64, 64), 1))
    assert all(torch.equal(b, before[n]) for n, b in net.backbone.named_buffers())
    trained = {n for n, p in net.backbone.named_parameters() if p.requires_grad}
    assert trained and not any("bn" in n or ".layer1." in n or n.startswith("body.conv1") for n in trained)


def test_all_layers_of_deformable_detr_share_one_predictor_unless_they_refine() -> None:
    shared, refining = light("deformable_detr").bbox_head, light("deformable_detr", refine=True).bbox_head
    assert len({id(m) for m in shared.cls_branches}) == len({id(m) for m in shared.reg_branches}) == 1
    assert len({id(m) for m in refining.cls_branches}) == len({id(m) for m in refining.reg_branches}) == 2


def test_proposals_lie_on_a_grid_unless_they_are_the_frame() -> None:
    boxes = light("sparse_rcnn", "small", proposals=6, start_size=0.1).rpn_head.init_proposal_bboxes.weight
    assert boxes[:, 2:].unique().tolist() == pytest.approx([0.1])
    assert boxes[:, 0].tolist() == pytest.approx([1 / 6, 3 / 6, 5 / 6] * 2)
    assert boxes[:, 1].tolist() == pytest.approx([0.25] * 3 + [0.75] * 3)
    published = light("sparse_rcnn").rpn_head.init_proposal_bboxes.weight
    assert published.unique(dim=0).tolist() == [[0.5, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("name", ["detr", "conditional_detr", "dab_detr"])
def test_level_is_one_of_the_pyramid(name: str) -> None:
    with pytest.raises(CardError, match="level of a query detector is 2, 3, 4 or 5"):
        motes.create_model(name, level=6)
