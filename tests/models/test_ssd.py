"""SSD: anchors and losses as published, the pyramid's smallest frame, training, export, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motes
from box_checks import check_export, check_training, targets_of
from fill import fill_input, fill_state
from motes.checkpoints import load_published
from motes.errors import CardError
from motes.layers.ssd import L2Norm

pytest.importorskip("timm")
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def light(variant: str | None = None, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return motes.create_model("ssd", variant, **{"backbone": "resnet18", **options})


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    net = motes.create_model("ssd").eval()
    load_published(net, fill_state(json.loads((REFERENCE / "ssd" / "keys.json").read_text())))
    return net


def test_parameters_of_the_published_table(published: torch.nn.Module) -> None:
    assert sum(p.numel() for p in published.parameters()) == 23_745_908


def test_losses_of_every_frame(published: torch.nn.Module) -> None:
    stored = json.loads((REFERENCE / "ssd" / "losses.json").read_text())
    shape = stored["shape"]
    targets = targets_of(stored["gt_boxes"], tuple(shape[2:]), shape[0])
    with torch.inference_mode():
        raw = published.raw(torch.from_numpy(fill_input(tuple(shape))))
        found = published.losses_by_frame(raw, targets, tuple(shape[2:]))
    for key, frames in stored["losses"].items():
        assert [float(v) for v in found[key]] == pytest.approx(frames, rel=2e-5)


def test_anchors_of_the_published_network() -> None:
    stored = json.loads((REFERENCE / "detectors" / "primitives.json").read_text())
    net = light()
    grids = net.anchors.grid([(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)])
    first = torch.stack([g[0] for g in grids])
    assert torch.allclose(first, torch.tensor(stored["ssd_first_grid_anchor"]), atol=1e-3)
    for grid, base in zip(grids, stored["base_anchors"]["ssd300"], strict=True):
        assert torch.allclose(grid[: len(base)], torch.tensor(base), atol=1e-3)
    assert net.anchors.per_cell == [4, 6, 6, 6, 4, 4]


def test_a_step_of_training() -> None:
    check_training(light())
    check_training(light("small"))


def test_a_step_of_training_with_its_own_backbone() -> None:
    check_training(light("small", backbone="vgg16"), (32, 64))


def test_candidates_in_onnx() -> None:
    check_export(light("small"))
    check_export(light("small", backbone="vgg16"), shapes=((1, 51, 70),), example=(2, 33, 64))
    check_export(light(), shapes=((1, 300, 257),), example=(2, 258, 301))


def test_small_frames_are_padded_until_the_last_map_has_a_cell() -> None:
    net = light().eval()
    assert net.card.input.min_size == 257
    assert light("small").card.input.min_size == 32
    with torch.inference_mode():
        (found,) = net(torch.randn(1, 3, 40, 300))
        levels = net.candidates(torch.randn(1, 3, 257, 257))["levels"]
    assert levels.tolist() == [33 * 33 * 4, 17 * 17 * 6, 9 * 9 * 6, 5 * 5 * 6, 3 * 3 * 4, 4]
    assert (found["boxes"] <= torch.tensor([300, 40, 300, 40])).all()


def test_anchors_of_cells_outside_the_frame_learn_nothing() -> None:
    # At 512 px the last map has 4 x 4 cells with a stride of 300 px: two rows and columns begin inside.
    net = light()
    sizes = [(64, 64), (32, 32), (16, 16), (8, 8), (6, 6), (4, 4)]
    usable = net.anchors.inside(sizes, (512, 512))
    assert [int(u.sum()) for u in usable] == [64 * 64 * 4, 32 * 32 * 6, 16 * 16 * 6, 8 * 8 * 6, 6 * 6 * 4, 2 * 2 * 4]


def test_three_of_the_hardest_negatives_count_for_a_positive() -> None:
    net = light("small", sizes=(4.0, 8.0, 16.0, 32.0))
    count = 16 * 16 * 4 + 8 * 8 * 4 + 4 * 4 * 4
    boxes = torch.tensor([[20.0, 20, 24, 24]])
    index = net.assign(torch.cat(net.anchors.grid([(16, 16), (8, 8), (4, 4)])), boxes).index
    positives = int((index >= 0).sum())
    # Every anchor says background with ln 3 more than target, but for 5 that are undecided and cost ln 2.
    logits = torch.zeros(1, count, 2)
    logits[..., 1] = torch.log(torch.tensor(3.0))
    hard = (index < 0).nonzero()[:5, 0]
    logits[0, hard, 1] = 0
    maps, start = [], 0
    for side in (16, 8, 4):
        part = logits[:, start : start + side * side * 4].reshape(1, side, side, 8)
        maps.append(part.permute(0, 3, 1, 2))
        start += side * side * 4
    deltas = [torch.zeros(1, 16, side, side) for side in (16, 8, 4)]
    targets = [{"boxes": boxes, "labels": torch.tensor([0])}]
    loss = net.losses_of([maps, deltas], targets, (64, 64))["loss_cls"]
    easy = torch.log(torch.tensor(4 / 3))
    hardest = 5 * torch.log(torch.tensor(2.0)) + (3 * positives - 5) * easy if positives > 1 else None
    hardest = 3 * torch.log(torch.tensor(2.0)) if hardest is None else hardest
    assert loss == pytest.approx(float((positives * torch.log(torch.tensor(4.0)) + hardest) / positives), rel=1e-5)


def test_pixels_without_features_have_a_gradient() -> None:
    norm = L2Norm(3)
    x = torch.zeros(1, 3, 1, 2)
    x[..., 1] = torch.tensor([3.0, 0, 4]).view(1, 3, 1)
    x.requires_grad_()
    out = norm(x)
    assert out[0, :, 0, 1].tolist() == pytest.approx([12, 0, 16])
    assert out[0, :, 0, 0].tolist() == [0, 0, 0]
    out.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_two_classes() -> None:
    net = light("small", num_classes=2).eval()
    targets = targets_of([[[20, 30, 24, 34], [60, 14, 64, 18]]], (64, 96), 1)
    targets[0]["labels"] = torch.tensor([0, 1])
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert all(torch.isfinite(v) for v in net(images, targets).values())
        scores = net.candidates(images)["scores"]
    assert scores.shape[-1] == 2 and (scores.sum(-1) < 1).all()  # the rest is background's


def test_what_is_refused() -> None:
    with pytest.raises(CardError, match="option 'levels' of ssd is 3, 4 or 2, 3, 4, found 4, 5"):
        light(levels=(4, 5))
    for sizes in ((8.0, 4.0, 16.0), (0.0, 4.0, 8.0), (4.0, 8.0), tuple(range(1, 10))):
        with pytest.raises(CardError, match="option 'sizes' of ssd: expected 3 to 7 ascending numbers"):
            light(sizes=sizes)
