"""The set loss: the cheapest matching, what each part counts, and batches where little or nothing can be matched."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from motes.layers.box_overlap import aligned_iou
from motes.losses.set_matching import SetLoss

SIZE = (40, 80)


def random_case(layers: int = 2, queries: int = 5, classes: int = 2, objects: tuple[int, ...] = (3, 0, 2)):
    torch.manual_seed(3)
    batch = len(objects)
    low = torch.rand(layers, batch, queries, 2) * 30
    boxes = torch.cat((low, low + 1 + torch.rand(layers, batch, queries, 2) * 9), -1)
    logits = torch.randn(layers, batch, queries, classes)
    targets = []
    for n in objects:
        corner = torch.rand(n, 2) * 30
        labels = torch.arange(n) % classes
        targets.append({"boxes": torch.cat((corner, corner + 2 + torch.rand(n, 2) * 5), 1), "labels": labels})
    return logits, boxes, targets


def cost_of(logits: torch.Tensor, box: torch.Tensor, truth: torch.Tensor, label: int) -> float:
    """What Deformable DETR's paper and its setting say that one pair costs."""
    p = float(logits.sigmoid()[label])
    focal = 0.25 * (1 - p) ** 2 * -torch.tensor(p).log() - 0.75 * p**2 * -torch.tensor(1 - p).log()
    h, w = SIZE
    a, b = ([(v[0] + v[2]) / 2 / w, (v[1] + v[3]) / 2 / h, (v[2] - v[0]) / w, (v[3] - v[1]) / h] for v in (box, truth))
    distance = sum(abs(x - y) for x, y in zip(a, b, strict=True))
    return float(2 * focal + 5 * distance - 2 * aligned_iou(box, truth, kind="giou"))


def test_no_other_matching_is_cheaper() -> None:
    logits, boxes, targets = random_case()
    image, query, truth, labels = SetLoss().matched(logits, boxes, targets, SIZE)
    assert image.tolist() == [[0, 0, 0, 2, 2]] * 2
    for layer in range(2):
        for i, target in enumerate(targets):
            n = len(target["boxes"])
            table = [
                [cost_of(logits[layer, i, q], boxes[layer, i, q], target["boxes"][t], int(target["labels"][t]))
                 for t in range(n)]
                for q in range(5)
            ]  # fmt: skip
            cheapest = min(sum(table[q][t] for t, q in enumerate(choice)) for choice in permutations(range(5), n))
            own = image[layer] == i
            found = [
                cost_of(logits[layer, i, q], boxes[layer, i, q], b, int(c))
                for q, b, c in zip(query[layer][own], truth[layer][own], labels[layer][own], strict=True)
            ]
            assert len(set(query[layer][own].tolist())) == n
            assert sum(found) == pytest.approx(cheapest, abs=1e-4)


@pytest.mark.parametrize("softmax", [False, True])
def test_perfect_predictions_cost_nothing(softmax: bool) -> None:
    truth = torch.tensor([[2.0, 3, 8, 9], [20, 10, 24, 13]])
    boxes = torch.cat((truth, torch.tensor([[0.0, 0, 40, 40]])))[None, None]
    logits = torch.full((1, 1, 3, 2), -30.0)
    logits[0, 0, :2, 0] = 30
    logits[0, 0, 2, 1] = 30 if softmax else -30
    targets = [{"boxes": truth.flip(0), "labels": torch.zeros(2, dtype=torch.long)}]
    for name, loss in SetLoss(softmax=softmax)(logits, boxes, targets, SIZE).items():
        assert loss.tolist() == pytest.approx([0.0], abs=1e-5), name


def test_background_weighs_a_tenth_in_the_cross_entropy() -> None:
    logits = torch.zeros(1, 1, 11, 2)
    boxes = torch.tensor([0.0, 0, 4, 4]).expand(1, 1, 11, 4)
    targets = [{"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.zeros(1, dtype=torch.long)}]
    loss = SetLoss(softmax=True, class_weight=1.0)(logits, boxes, targets, SIZE)["loss_cls"]
    assert loss.item() == pytest.approx(0.6931472, rel=1e-5)  # ln 2 whatever the weights, for they are divided by
    logits[0, 0, :, 1] = 3.0
    loss = SetLoss(softmax=True, class_weight=1.0)(logits, boxes, targets, SIZE)["loss_cls"]
    assert loss.item() == pytest.approx((3.0485874 + 10 * 0.1 * 0.0485874) / 2, rel=1e-5)


@pytest.mark.parametrize("corners", [False, True])
def test_distance_in_fractions_of_the_frame(corners: bool) -> None:
    boxes = torch.tensor([[[[8.0, 4, 16, 8]]]])
    targets = [{"boxes": torch.tensor([[8.0, 4, 24, 8]]), "labels": torch.zeros(1, dtype=torch.long)}]
    losses = SetLoss(corners=corners)(torch.zeros(1, 1, 1, 1), boxes, targets, SIZE)
    assert losses["loss_bbox"].item() == pytest.approx(5 * (0.1 if corners else 0.05 + 0.1), rel=1e-5)
    assert losses["loss_iou"].item() == pytest.approx(2 * 0.5, rel=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_batch_without_objects_trains_the_classes_alone(softmax: bool) -> None:
    logits, boxes, targets = random_case(objects=(0, 0))
    logits.requires_grad_(), boxes.requires_grad_()
    losses = SetLoss(softmax=softmax)(logits, boxes, targets, SIZE)
    sum(v.sum() for v in losses.values()).backward()
    assert losses["loss_bbox"].tolist() == losses["loss_iou"].tolist() == [0, 0]
    assert (losses["loss_cls"] > 0).all()
    assert (logits.grad.abs().sum((0, 2, 3)) > 0).all()
    assert torch.equal(boxes.grad, torch.zeros_like(boxes))


def test_more_objects_than_queries() -> None:
    logits, boxes, targets = random_case(queries=2, objects=(5, 1))
    image, query, truth, _ = SetLoss().matched(logits, boxes, targets, SIZE)
    assert image.tolist() == [[0, 0, 1]] * 2 and truth.shape == (2, 3, 4)
    assert all(sorted(q[:2].tolist()) == [0, 1] for q in query)
    assert all(torch.isfinite(v).all() for v in SetLoss()(logits, boxes, targets, SIZE).values())


def test_boxes_of_any_kind_are_matched() -> None:
    logits, boxes, targets = random_case(objects=(2,))
    boxes[:, 0, 0] = torch.tensor([9.0, 9, 1, 1])  # inverted
    boxes[:, 0, 1] = torch.tensor([5.0, 5, 5, 5])  # a point
    boxes[:, 0, 2] = torch.tensor([-1e6, -1e6, 1e6, 1e6])
    boxes.requires_grad_()
    losses = SetLoss()(logits, boxes, targets, SIZE)
    sum(v.sum() for v in losses.values()).backward()
    assert torch.isfinite(boxes.grad).all()


def test_what_diverged_says_so_in_the_loss() -> None:
    logits, boxes, targets = random_case(objects=(2,))
    assert SetLoss()(logits * torch.nan, boxes, targets, SIZE)["loss_cls"].isnan().all()
