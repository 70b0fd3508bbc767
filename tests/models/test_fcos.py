"""FCOS and BAFE-Net: training, export, what a detection is, and what is refused."""

from __future__ import annotations

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from motes.benchmark import complexity
from motes.cards import BoxSpec
from motes.errors import CardError, MotesError

pytest.importorskip("timm")
NETWORKS = ["fcos", "bafenet"]
SIZE = (64, 96)


def light(name: str, variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model(name, variant, backbone="resnet18", **options)


@pytest.mark.parametrize(
    ("name", "variant", "parameters", "published"),
    [
        ("fcos", None, 32_113_227, 32_113_227),
        ("bafenet", None, 34_732_182, 35_582_521),
        ("bafenet", "v1", 34_478_859, 35_329_198),
    ],
)
def test_parameters_useful_and_published(name: str, variant: str | None, parameters: int, published: int) -> None:
    with torch.device("meta"):
        net = motes.create_model(name, variant)
        cost = complexity(net, 64, 64)
    assert sum(p.numel() for p in net.parameters()) == parameters == cost.params
    assert cost.published_params == published


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_a_step_of_training(name: str, variant: str | None) -> None:
    check_training(light(name, variant))


def test_a_step_of_training_of_the_first_version() -> None:
    check_training(light("bafenet", "v1"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", [None, "small"])
def test_candidates_in_onnx(name: str, variant: str | None) -> None:
    check_export(light(name, variant))


@pytest.mark.parametrize("name", NETWORKS)
def test_detections_lie_in_the_image_and_depend_on_nothing_else(name: str) -> None:
    net = light(name, "small").eval()
    net.card = net.card.replace(boxes=BoxSpec(score=0.0, keep=7))
    images = torch.randn(2, 3, 50, 70)
    padded = torch.nn.functional.pad(images, (0, 26, 0, 14))
    with torch.inference_mode():
        both = net(images)
        together, alone = net.candidates(padded, (50, 70)), net.candidates(padded[1:], (50, 70))
    assert len(both) == 2
    for key in together.keys() - {"levels"}:
        assert torch.allclose(together[key][1], alone[key][0], atol=1e-5), key
    boxes, scores = both[1]["boxes"], both[1]["scores"]
    assert boxes.shape == (7, 4) and scores.shape == (7,) and both[1]["labels"].tolist() == [0] * 7
    assert (boxes >= 0).all() and (boxes <= torch.tensor([70, 50, 70, 50])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (scores.diff() <= 0).all()
    if name == "bafenet":
        assert both[1]["sky"].shape == (50, 70)
        assert 0 <= both[1]["sky"].min() <= both[1]["sky"].max() <= 1


def test_published_weights_expect_blue_first() -> None:
    red, blue = light("fcos"), light("fcos", bgr=False)
    blue.load_state_dict(red.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        a, b = red.eval().candidates(images), blue.eval().candidates(images.flip(1))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_small_variant_learns_every_target_wherever_it_lies() -> None:
    net = light("fcos", "small")
    published = light("fcos")
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, generator=generator) * 56
    boxes = torch.cat((corners, corners + torch.rand(200, 2, generator=generator) * 4 + 1), 1)
    found = {}
    for one in (net, published):
        sizes = [(-(-64 // s), -(-64 // s)) for s in one.strides]
        grid = motes.layers.priors.points(sizes, one.strides)
        found[one] = sum(bool((one.assign(grid, box[None])[0] >= 0).any()) for box in boxes)
    assert found[net] == len(boxes)
    assert found[published] < len(boxes) / 2  # the published one sees only what covers a point


def test_shifted_boxes_reach_targets_beside_their_point() -> None:
    head = light("fcos", "small").bbox_head
    with torch.no_grad():
        head.conv_reg.weight.zero_()
        head.conv_reg.bias.copy_(torch.tensor([1.0, -0.5, 0.0, torch.log(torch.tensor(2.0))]))
        left, top, right, bottom = head.distances(torch.zeros(1, 128, 1, 1), 0).flatten().tolist()
    # At stride 4: 4 px wide and 8 px high, its centre 4 px to the right and 2 px above.
    assert [left, top, right, bottom] == pytest.approx([-2, 6, 6, 2])


def test_two_classes() -> None:
    net = light("fcos", "small", num_classes=2)
    assert net.card.classes == ("class0", "class1")
    targets = targets_of([[[20, 30, 27, 38], [60, 14, 66, 20]]], SIZE, 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    losses = net.eval()(torch.randn(1, 3, *SIZE), targets)
    assert all(torch.isfinite(v) for v in losses.values())
    with torch.inference_mode():
        assert net.candidates(torch.randn(1, 3, *SIZE))["scores"].shape[-1] == 2


def refused_sky(sky: torch.Tensor | None) -> str:
    net = light("bafenet", "small").eval()
    target = targets_of([[]], SIZE, 1)[0]
    del target["sky"]
    with pytest.raises(MotesError) as error:
        net(torch.zeros(1, 3, *SIZE), [target if sky is None else {**target, "sky": sky}])
    return str(error.value)


def test_what_is_refused() -> None:
    net = light("fcos")
    with pytest.raises(MotesError, match="FCOS in training mode needs targets"):
        net(torch.zeros(1, 3, 32, 32))
    with pytest.raises(MotesError, match="2 images with targets for 1"):
        net(torch.zeros(2, 3, 32, 32), targets_of([[]], (32, 32), 1))
    with pytest.raises(MotesError, match=r"target 0 has boxes \[1, 5\]"):
        net(torch.zeros(1, 3, 32, 32), [{"boxes": torch.zeros(1, 5), "labels": torch.zeros(1, dtype=torch.int64)}])
    assert "target 0 has no sky map" in refused_sky(None)
    assert "is [3, 4] px, its image [64, 96]" in refused_sky(torch.zeros(3, 4))
    with pytest.raises(CardError, match="48 channels cannot be normalised in 32 groups"):
        motes.create_model("fcos", backbone="resnet18", width=48)
    with pytest.raises(CardError, match="unknown exchange 'odd'"):
        motes.create_model("bafenet", exchange="odd")
