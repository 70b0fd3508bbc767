"""Losses of a two-stage detector: of its proposals, and of the regions that are looked at again.

Ren, He, Girshick, Sun, "Faster R-CNN", NeurIPS 2015, section 3.1.2; Girshick, "Fast R-CNN", ICCV 2015, section 2.3. All
averages are over what was sampled, positives and negatives, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.layers.box_coders import DeltaCoder
from motes.layers.dense_detector import flattened, map_sizes
from motes.layers.priors import Anchors
from motes.layers.roi_heads import regions
from motes.layers.rpn import has_area
from motes.losses.assigners import Assignment, MaxIoU
from motes.losses.boxes import weighted_mean
from motes.losses.samplers import RandomSampler

BoxLoss = Callable[[Tensor, Tensor], Tensor]
"""(predicted deltas, wanted deltas) [..., 4] -> loss of each number."""


def with_area(targets: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Targets without boxes of no width or height, which no deltas lead to."""
    kept = []
    for target in targets:
        usable = has_area(target["boxes"])
        kept.append({"boxes": target["boxes"][usable].float(), "labels": target["labels"][usable]})
    return kept


@dataclass(frozen=True)
class RPNLoss:
    """Objectness and deltas of the anchors.

    Attributes:
        assigner: which anchors are objects.
        sampler: which of them count.
        box_loss: of the deltas.
        border: anchors that cross the image's edge by more px are left out; negative: all are used.
    """

    assigner: MaxIoU
    sampler: RandomSampler
    box_loss: BoxLoss
    border: float = -1

    def __call__(
        self,
        anchors: Anchors,
        coder: DeltaCoder,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        boxes: Sequence[Tensor],
        size: tuple[int, int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scalars of each level: cross-entropy of objectness, loss of deltas.

        Args:
            anchors: of the levels.
            coder: of the deltas.
            logits: [B, A, h, w] a level.
            deltas: [B, A * 4, h, w] a level.
            boxes: true ones of each image, [N, 4] px.
            size: of the images, (h, w) px.
        """
        device = logits[0].device
        sizes = map_sizes(logits)
        priors = torch.cat(anchors.grid(sizes, device))
        inside = torch.cat(anchors.inside(sizes, size, self.border, device))
        if not inside.any():  # a frame smaller than its anchors
            inside = torch.cat(anchors.inside(sizes, size, -1, device))
        usable = inside.nonzero().squeeze(1)
        counts = [m[0].numel() for m in logits]
        wanted, weights, chosen, total = [], [], [], 0
        for truth in boxes:
            assignment = self.assigner(priors[usable], truth)
            positives, negatives = self.sampler(assignment)
            total += max(1, len(positives)) + max(1, len(negatives))
            where = usable[positives]
            weight = priors.new_zeros(len(priors))
            weight[usable[negatives]] = 1
            weight[where] = 1
            delta = priors.new_zeros(len(priors), 4)
            delta[where] = coder.encode(priors[where], truth[assignment.index[positives]])
            positive = torch.zeros_like(inside)
            positive[where] = True
            weights.append(weight)
            wanted.append(delta)
            chosen.append(positive)
        levels = zip(
            flattened(logits, 1),
            flattened(deltas, 4),
            torch.stack(weights).split(counts, 1),
            torch.stack(wanted).split(counts, 1),
            torch.stack(chosen).split(counts, 1),
            strict=True,
        )
        object_losses, box_losses = [], []
        for logit, delta, weight, want, positive in levels:
            entropy = F.binary_cross_entropy_with_logits(logit[..., 0].float(), positive.float(), reduction="none")
            object_losses.append(weighted_mean(entropy, weight, total))
            box_losses.append(weighted_mean(self.box_loss(delta[positive].float(), want[positive]), None, total))
        return object_losses, box_losses


@dataclass(frozen=True)
class Sampled:
    """Regions that the second stage learns from, of all images, an image after the other; its positives come first.

    Attributes:
        rois: [R, 5].
        labels: int64 [R]; K is the background.
        positive: bool [R].
        truth: px [R, 4], the true box of a positive.
        is_truth: bool [R], the region is a true box itself.
        overlaps: of each image, highest IoU of every proposal with a true box.
    """

    rois: Tensor
    labels: Tensor
    positive: Tensor
    truth: Tensor
    is_truth: Tensor
    overlaps: list[Tensor]


def sampled_regions(
    proposals: Sequence[Tensor],
    targets: Sequence[Mapping[str, Tensor]],
    assigner: MaxIoU,
    sampler: RandomSampler,
    num_classes: int,
) -> Sampled:
    """Proposals [Pi, 4] of each image, its true boxes added to them, as what the second stage learns from."""
    boxes, labels, hits, truths, flags, overlaps = [], [], [], [], [], []
    for found, target in zip(proposals, targets, strict=True):
        truth = target["boxes"]
        assignment = assigner(found, truth)
        overlaps.append(assignment.overlap)
        assignment = Assignment(
            torch.cat((torch.arange(len(truth), device=found.device), assignment.index)),
            torch.cat((assignment.overlap.new_ones(len(truth)), assignment.overlap)),
        )
        positives, negatives = sampler(assignment)
        chosen = torch.cat((positives, negatives))
        boxes.append(torch.cat((truth, found))[chosen])
        flags.append(chosen < len(truth))
        index = assignment.index[positives]
        label = target["labels"].new_full((len(chosen),), num_classes)
        label[: len(positives)] = target["labels"][index]
        labels.append(label)
        hits.append(torch.arange(len(chosen), device=found.device) < len(positives))
        aim = found.new_zeros(len(chosen), 4)
        aim[: len(positives)] = truth[index]
        truths.append(aim)
    return Sampled(regions(boxes), *(torch.cat(x) for x in (labels, hits, truths, flags)), overlaps)


def region_losses(
    logits: Tensor, deltas: Tensor | None, sampled: Sampled, coder: DeltaCoder, box_loss: BoxLoss
) -> dict[str, Tensor]:
    """``loss_cls`` and, with ``deltas``, ``loss_bbox``.

    Args:
        logits: [R, K + 1], the background last.
        deltas: [R, 4 K], or [R, 4] for all classes; None: no such loss.
        sampled: the regions.
        coder: of the deltas.
        box_loss: of the deltas of a positive.
    """
    count = len(sampled.labels)
    entropy = F.cross_entropy(logits.float(), sampled.labels, reduction="none")
    losses = {"loss_cls": weighted_mean(entropy, None, max(1, count))}
    if deltas is not None:
        predicted, wanted = positive_deltas(deltas, sampled, coder)
        losses["loss_bbox"] = weighted_mean(box_loss(predicted, wanted), None, max(1, count))
    return losses


def positive_deltas(deltas: Tensor, sampled: Sampled, coder: DeltaCoder) -> tuple[Tensor, Tensor]:
    """Predicted and wanted deltas [M, 4] of the positives, in the order of the regions."""
    positive = sampled.positive.nonzero().squeeze(1)
    wanted = coder.encode(sampled.rois[positive, 1:], sampled.truth[positive])
    own = deltas[positive].float().reshape(len(positive), deltas.shape[1] // 4, 4)
    label = sampled.labels[positive] if own.shape[1] > 1 else torch.zeros_like(positive)
    return own[torch.arange(len(positive), device=own.device), label], wanted
