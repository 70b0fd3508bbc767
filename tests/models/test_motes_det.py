"""motes-det: what learns a target, what its distributions mean, training, export, and independence of the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from motes.benchmark import complexity
from motes.cards import BoxSpec
from motes.errors import CardError, MotesError
from motes.layers.fine_backbone import FineBackbone
from motes.models.motes_det import VALUES, local_contrast, mean_distances, steps_of
from motes.training.recipe import load_recipe
from motes.training.selection import box_rules


def made(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("motes_det", **options)


def grid(side: int) -> torch.Tensor:
    """The points of a square frame, 2 px apart."""
    at = torch.arange(1.0, side, 2)
    return torch.cartesian_prod(at, at).flip(1)


def test_light_as_promised() -> None:
    with torch.device("meta"):
        cost = complexity(motes.create_model("motes_det"), 512, 512)
    assert cost.macs < 71.6e9 / 5


@pytest.mark.parametrize(
    "options", [{}, {"sky": False}, {"width": 16, "depth": 1}, {"contrast": False}, {"num_classes": 2}]
)
def test_a_step_of_training(options: dict[str, object]) -> None:
    losses = check_training(made(in_channels=3, **options))
    assert ("loss_sky" in losses) is bool(options.get("sky", True))


def test_a_step_of_training_on_a_backbone_of_timm() -> None:
    pytest.importorskip("timm")
    check_training(made(in_channels=3, backbone="resnet18"))


def test_every_side_of_a_frame_will_do() -> None:
    net, images = made(), torch.randn(2, 1, 37, 51)
    boxes = [[[20.0, 30, 23, 34]], []]
    sum(net(images, targets_of(boxes, (37, 51), 2)).values()).backward()
    found = net.eval()(images)
    assert [f["sky"].shape for f in found] == [(37, 51)] * 2


@pytest.mark.parametrize("options", [{}, {"sky": False}])
def test_candidates_in_onnx(options: dict[str, object]) -> None:
    check_export(made(**options))


def test_detections_lie_in_the_image_and_depend_on_nothing_else() -> None:
    net = made().eval()
    net.card = net.card.replace(boxes=BoxSpec(score=0.0, keep=7))
    images = torch.randn(2, 1, 50, 70)
    with torch.inference_mode():
        together, alone = net(images), net(images[1:])
    for key, value in together[1].items():
        assert torch.allclose(value, alone[0][key], atol=1e-5), key
    boxes = together[1]["boxes"]
    assert boxes.shape == (7, 4)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([70, 50, 70, 50])).all()
    assert 0 <= together[1]["sky"].min() <= together[1]["sky"].max() <= 1


def test_every_target_is_learnt_wherever_it_lies() -> None:
    """Also one that holds no point, of a cluster whose targets touch, at the edge of the frame."""
    net = made()
    corner = torch.tensor([[x / 4, y / 4] for x in range(8) for y in range(8)]) + 20
    for low in corner:
        cluster = torch.cat([low + torch.tensor([[i * 3.0, j * 3.0]]) for i in range(3) for j in range(3)])
        boxes = torch.cat((cluster, cluster + 3), 1)
        place, owner = net.assign(grid(64), boxes)
        assert set(owner.tolist()) == set(range(9))
        away = (grid(64)[place][:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
        assert torch.equal(away.argmin(1), owner) or torch.allclose(away.amin(1), away.gather(1, owner[:, None])[:, 0])
        assert away.amin(1).max() <= 2
    place, owner = net.assign(grid(64), torch.tensor([[0.0, 0.0, 1.0, 1.0], [62.5, 63.0, 64.0, 64.0]]))
    assert set(owner.tolist()) == {0, 1}


def test_points_off_the_middle_of_a_large_target_learn_it_too() -> None:
    place, _ = made().assign(grid(64), torch.tensor([[10.0, 10, 34, 34]]))
    away = (grid(64)[place] - 22).abs().amax(-1)
    assert len(place) == 36 and away.max() == 5  # a quarter of 24 px, points at odd places


def test_no_target_is_learnt_by_none() -> None:
    place, owner = made().assign(grid(32), torch.zeros(0, 4))
    assert len(place) == len(owner) == 0


def test_distributions_give_back_the_distances_they_were_made_of() -> None:
    wanted = torch.tensor([[-4.0, -0.25, 0, 1.5], [2.0, 3.75, 8, 9], [11.0, 20, 40, 79.5]])
    steps = steps_of(wanted)
    low = steps.floor().long()
    shares = torch.nn.functional.one_hot(low, len(VALUES)) * (1 - steps + low)[..., None]
    shares = shares + torch.nn.functional.one_hot(low + 1, len(VALUES)) * (steps - low)[..., None]
    assert torch.allclose(mean_distances(shares.clamp(min=1e-30).log().flatten(1)), wanted, atol=1e-4)
    assert steps_of(torch.tensor([-9.0, 500.0])).tolist() == pytest.approx([0, len(VALUES) - 1], abs=0.01)


def test_boxes_start_about_as_large_as_targets() -> None:
    candidates = made().eval().candidates(torch.zeros(1, 1, 64, 64))
    sides = candidates["boxes"][..., 2:] - candidates["boxes"][..., :2]
    assert 2 < sides.median() < 8
    assert candidates["scores"].max() < 0.05


def test_it_learns_targets_of_three_pixels_between_two_frames() -> None:
    """From chance to boxes that overlap by half, which a box one pixel off in both directions would not."""
    torch.manual_seed(0)
    net = motes.create_model("motes_det", width=16, depth=1)
    boxes = [[[10.0, 11, 13, 14], [15, 11, 19, 15], [40, 20, 43, 24]], [[31.0, 5, 34, 9], [20, 40, 23, 43]]]
    images = 0.1 * torch.randn(2, 1, 64, 64)
    targets = targets_of(boxes, (64, 64), 2)
    for image, target in zip(images, targets, strict=True):
        for x1, y1, x2, y2 in target["boxes"].long().tolist():
            image[:, y1:y2, x1:x2] += 3
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net(images, targets).values()).backward()
        optimizer.step()
    net.train()
    with torch.no_grad():  # norms settle
        for _ in range(30):
            net(images, targets)
    from motes.layers.box_overlap import pairwise_iou

    for found, target in zip(net.eval()(images), targets, strict=True):
        best = found["boxes"][found["scores"] > 0.2]
        assert (pairwise_iou(target["boxes"], best).amax(1) > 0.5).all()


def test_contrast_is_that_of_the_frame_whatever_its_gain() -> None:
    images = torch.randn(1, 1, 40, 40)
    images[..., 20, 20] += 8
    found = local_contrast(images)
    assert torch.allclose(local_contrast(3 * images + 5), found, atol=0.02)
    assert found[0, 0].argmax() == 20 * 40 + 20
    patch = images[0, 0, 13:28, 13:28]
    dark = local_contrast(images * 0)
    assert dark.abs().max() == 0 and torch.isfinite(found).all()
    deviation = ((patch - patch.mean()) ** 2).mean().sqrt()
    assert found[0, 0, 20, 20].item() == pytest.approx(((patch[7, 7] - patch.mean()) / deviation).item(), rel=0.05)


def test_a_frame_without_a_sky_map_teaches_nothing_of_the_sky() -> None:
    net, images = made(), torch.randn(1, 1, 32, 32)
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert net(images, [target])["loss_sky"] == 0
    assert net(images, [{**target, "sky": torch.full((32, 32), 255, dtype=torch.uint8)}])["loss_sky"] == 0


def test_sky_maps_are_asked_for_only_where_they_are_learnt() -> None:
    with_sky = load_recipe("motes_det_densesirst", ["transform.paste=0"])
    assert box_rules(with_sky).sky
    assert not box_rules(load_recipe("motes_det_densesirst", ["transform.paste=0", "model.options.sky=false"])).sky


def test_no_pixel_is_lost_in_the_stem() -> None:
    net = FineBackbone(1)
    maps = net.eval()(torch.zeros(1, 1, 32, 48))
    assert [tuple(m.shape[-2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [m.shape[1] for m in maps] == list(net.channels)
    stem = net.stem[0](torch.arange(16.0).reshape(1, 1, 4, 4))
    assert sorted(stem[0, :, 0, 0].tolist()) == [0, 1, 4, 5]


def test_what_is_refused() -> None:
    with pytest.raises(CardError, match="resnet"):
        made(backbone="resnet19")
    with pytest.raises(MotesError, match="needs targets"):
        made()(torch.zeros(1, 1, 32, 32))


def test_its_recipe_starts_from_chance(tmp_path: Path) -> None:
    recipe = load_recipe("motes_det_densesirst", [f"data.root={tmp_path}"])
    assert recipe.model.backbone_weights == "none" and recipe.optimizer.lr == 1e-3
