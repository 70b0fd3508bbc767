"""From a detector's candidates to its detections: threshold, second factor, suppression of doubles, the best."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from motes.cards import BoxSpec
from motes.inference.box_selection import VOTE_OVERLAP, VOTE_SPREAD
from motes.layers.box_overlap import pairwise_iou


def select(candidates: Mapping[str, Tensor], spec: BoxSpec) -> list[dict[str, Tensor]]:
    """``{"boxes" [N, 4] px, "scores" [N], "labels" [N]}`` of each image, best first.

    Per level the candidates with a score above ``spec.score``, at most the ``spec.per_level`` best; then scores are
    multiplied by the factors, boxes without area dropped, and class by class those that overlap a better one by more
    than ``spec.nms``; of the rest the ``spec.keep`` best. ``spec.vote``: every box becomes the mean of the candidates
    around it (PAA, Kim and Lee, ECCV 2020, section 3.4).

    Args:
        candidates: ``boxes`` [B, P, 4] px, ``scores`` [B, P, K] and perhaps ``factors`` [B, P] in [0, 1], ``levels``
            [L]: how many candidates each level has, in order.
    """
    boxes, scores, factors = candidates["boxes"], candidates["scores"], candidates.get("factors")
    counts = [int(n) for n in candidates["levels"]]
    return [
        select_one(boxes[i], scores[i], None if factors is None else factors[i], counts, spec)
        for i in range(len(boxes))
    ]


def select_one(
    boxes: Tensor, scores: Tensor, factors: Tensor | None, counts: list[int], spec: BoxSpec
) -> dict[str, Tensor]:
    classes = scores.shape[1]
    chosen = []
    start = 0
    for count in counts:
        level = scores[start : start + count].reshape(-1)
        (above,) = torch.nonzero(level > spec.score, as_tuple=True)
        order = level[above].argsort(descending=True, stable=True)[: spec.per_level]
        chosen.append(above[order] + start * classes)
        start += count
    flat = torch.cat(chosen)
    places, labels = flat // classes, flat % classes
    boxes, scores = boxes[places], scores.reshape(-1)[flat]
    if factors is not None:
        scores = scores * factors[places]
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, labels = boxes[real], scores[real], labels[real]
    if spec.nms is None:
        kept = scores.argsort(descending=True, stable=True)
    else:
        kept = batched_nms(boxes.float(), scores.float(), labels, spec.nms)
    kept = kept[: spec.keep]
    found = {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
    if spec.vote:
        found["boxes"] = voted(found["boxes"], found["labels"], boxes, scores, labels, spec.score)
    return found


def voted(kept: Tensor, kept_labels: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor, least: float) -> Tensor:
    """Boxes ``kept`` [N, 4] as means of ``boxes`` [M, 4] of their class, weighted by score and nearness in overlap."""
    overlap = pairwise_iou(kept, boxes)
    weight = torch.exp(-((1 - overlap) ** 2) / VOTE_SPREAD) * scores
    near = (overlap > VOTE_OVERLAP) & (scores > least) & (kept_labels[:, None] == labels)
    weight = torch.where(near, weight, 0.0)
    total = weight.sum(1, keepdim=True)
    return torch.where(total > 0, weight @ boxes / total.clamp(min=torch.finfo(total.dtype).tiny), kept)
