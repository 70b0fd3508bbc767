"""RetinaNet on three backbones: losses level by level, training, export, anchors, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.cards import BoxSpec
from motes.checkpoints import load_published
from motes.errors import CardError
from motes.layers.pvt import create_pvt

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PARAMETERS = {"retinanet": 36_329_837, "pvt_t": 21_325_357, "efficientdet": 18_320_469}
LIGHT = {"retinanet": "resnet18", "pvt_t": "pvt_v1_tiny", "efficientdet": "tf_efficientnet_b3"}


def light(name: str, variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model(name, variant, **{"backbone": LIGHT[name], "width": 32, **options})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_published_table(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in motes.create_model(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_losses_of_every_level(name: str) -> None:
    stored = json.loads((REFERENCE / name / "losses.json").read_text())
    net = motes.create_model(name).eval()
    load_published(net, fill_state(json.loads((REFERENCE / name / "keys.json").read_text())))
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    images = torch.from_numpy(fill_input(tuple(shape)))
    with torch.inference_mode():
        raw = net.raw(images)
        found, sums = net.losses_by_level(raw, targets), net.losses_of(raw, targets, tuple(shape[2:]))
    for key, levels in stored["losses"].items():
        assert [float(v) for v in found[key]] == pytest.approx(levels, rel=2e-5, abs=1e-7)
        assert float(sums[key]) == pytest.approx(sum(levels), rel=2e-5)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(name: str, variant: str | None) -> None:
    check_training(light(name, variant))


@pytest.mark.parametrize("name", PARAMETERS)
def test_candidates_in_onnx(name: str) -> None:
    check_export(light(name, "small"))


def test_published_candidates_in_onnx() -> None:
    check_export(light("retinanet"))


def test_timms_second_pvt_as_backbone() -> None:
    net = motes.create_model("pvt_t", "small", backbone="pvt_v2_b1", width=32)
    check_training(net, (64, 64))


def test_detections_lie_in_the_image_and_depend_on_nothing_else() -> None:
    net = light("pvt_t", "small").eval()
    net.card = net.card.replace(boxes=BoxSpec(score=0.0, keep=7))
    images = torch.randn(2, 3, 50, 70)
    with torch.inference_mode():
        both, alone = net(images), net(images[1:])
    for key, value in alone[0].items():
        assert torch.allclose(both[1][key], value, atol=1e-4), key
    boxes = both[1]["boxes"]
    assert boxes.shape == (7, 4)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([70, 50, 70, 50])).all()


def test_anchors_of_the_small_variant_fit_small_targets() -> None:
    small, published = light("retinanet", "small"), light("retinanet")
    areas = [(b[:, 2:] - b[:, :2]).prod(1).sqrt() for net in (small, published) for b in net.anchors.base]
    assert areas[0].min() == pytest.approx(4) and areas[4].min() == pytest.approx(32)
    assert small.anchors.strides == (4, 8, 16, 32) and published.anchors.strides == (8, 16, 32, 64, 128)
    target = torch.tensor([[21.0, 30, 25, 34]])
    overlap = []
    for net in (small, published):
        cells = [-(-64 // s) for s in net.anchors.strides]
        grid = torch.cat(net.anchors.grid([(n, n) for n in cells]))
        overlap.append(net.assign(grid, target).overlap.max())
    assert overlap[0] > 0.4 and overlap[1] < 0.02


def test_a_box_outside_the_frame_is_nobodys() -> None:
    # The published rule ("at least 0") would give it every anchor.
    net = light("retinanet")
    anchors = torch.cat(net.anchors.grid([(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]))
    outside = torch.tensor([[9000.0, 9000, 9004, 9004]])
    assert not net.assign(anchors, outside).positive.any()


def test_two_classes() -> None:
    net = light("retinanet", "small", num_classes=2).eval()
    targets = targets_of([[[20, 30, 24, 34], [60, 14, 64, 18]]], (64, 96), 1)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        net.bbox_head.retina_cls.bias.view(9, 2)[:] = torch.tensor([0.0, -20.0])
        second = {}
        for label in (0, 1):
            targets[0]["labels"] = torch.full((2,), label)
            second[label] = float(net(images, targets)["loss_cls"])
        scores = net.candidates(images)["scores"]
    assert scores.shape[-1] == 2 and scores[..., 0].mean() > 0.3 > 1e-6 > scores[..., 1].mean()
    assert second[1] > second[0]  # the head says the first class everywhere


def test_pvt_drops_branches_in_training_alone() -> None:
    torch.manual_seed(0)
    net = create_pvt("pvt_v1_tiny", levels=(2, 5))
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        outputs = [net.train()(images)[1] for _ in range(8)]
        still = [net.eval()(images)[1] for _ in range(2)]
    assert still[0].shape == (1, 512, 1, 2) and torch.equal(*still)
    assert any(not torch.equal(outputs[0], o) for o in outputs[1:])
    assert net.channels == (64, 512) and net.strides == (4, 32)


def test_only_the_stem_of_efficientnet_is_frozen() -> None:
    net = light("efficientdet").train()
    frozen = {n.removeprefix("backbone.body.").split(".")[0] for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"conv_stem", "bn1"}
    modes = {n: m.training for n, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert [n for n, training in modes.items() if not training] == ["backbone.body.bn1"]


def test_what_is_refused() -> None:
    with pytest.raises(CardError, match="unknown backbone 'pvt_v1_tinny'"):
        motes.create_model("pvt_t", backbone="pvt_v1_tinny")
    with pytest.raises(CardError, match="unknown backbone 'resnet5'"):
        motes.create_model("efficientdet", backbone="resnet5")
