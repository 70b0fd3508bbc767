"""The set loss of networks that detect with queries: every object is matched with exactly one query.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 3.1. Shapes: L layers that are all
supervised, B images, Q queries, K foreground classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.layers.box_overlap import aligned_iou
from motes.losses.boxes import EPSILON, sigmoid_focal

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
SMALLEST_LOG = 1e-12


@dataclass(frozen=True)
class SetLoss:
    """Costs of a match and weights of the losses.

    Attributes:
        softmax: K + 1 logits, the last one background, and cross-entropy; else K logits and focal loss.
        class_cost, class_weight: of the class in the match and in the loss.
        box_weight: of the L1 distance of boxes as fractions of the frame, in match and loss.
        overlap_weight: of 1 - GIoU in px, in match and loss.
        background: weight of background in the cross-entropy.
        corners: L1 distance of (x1, y1, x2, y2); else of (cx, cy, w, h).
    """

    softmax: bool = False
    class_cost: float = 2.0
    class_weight: float = 2.0
    box_weight: float = 5.0
    overlap_weight: float = 2.0
    background: float = 0.1
    corners: bool = False

    def __call__(
        self, logits: Tensor, boxes: Tensor, targets: Sequence[Mapping[str, Tensor]], size: tuple[Any, Any]
    ) -> dict[str, Tensor]:
        """Weighted losses of every layer: ``loss_cls``, ``loss_bbox``, ``loss_iou``, [L] each.

        Args:
            logits: [L, B, Q, K or K + 1].
            boxes: [L, B, Q, 4] xyxy px.
            targets: of every image ``boxes`` [N, 4] xyxy px and ``labels`` [N]; N may be 0.
            size: (h, w) of the frames in px.
        """
        logits, boxes = logits.float(), boxes.float()
        image, query, truth, labels = self.matched(logits.detach(), boxes.detach(), targets, size)
        layer = torch.arange(len(logits), device=logits.device)[:, None]
        count = image.shape[1]
        found = boxes[layer, image, query]  # [L, N, 4]
        scale = frame(size, boxes)
        distance = (self.units(found, scale) - self.units(truth, scale)).abs().sum((1, 2))
        overlap = 1 - aligned_iou(found, truth, kind="giou")
        total = max(count, 1) + EPSILON
        return {
            "loss_cls": self.class_weight * self.class_loss(logits, (layer, image, query), labels),
            "loss_bbox": self.box_weight * distance / total,
            "loss_iou": self.overlap_weight * overlap.sum(1) / total,
        }

    def class_loss(self, logits: Tensor, places: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
        """[L], before its weight; ``places``: layer, image and query of every match, ``labels`` [L, N]."""
        classes, count = logits.shape[-1] - self.softmax, labels.shape[1]
        wanted = torch.full(logits.shape[:-1], classes, device=logits.device)
        wanted[places] = labels
        if self.softmax:
            weight = logits.new_ones(classes + 1)
            weight[-1] = self.background
            loss = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), weight, reduction="none")
            total = count + (wanted[0].numel() - count) * self.background
            return loss.view(len(logits), -1).sum(1) / (max(total, 1) + EPSILON)
        one_hot = F.one_hot(wanted, classes + 1)[..., :-1].to(logits.dtype)
        loss = sigmoid_focal(logits, one_hot, gamma=FOCAL_GAMMA, alpha=FOCAL_ALPHA)
        return loss.sum((1, 2, 3)) / (max(count, 1) + EPSILON)

    def matched(
        self, logits: Tensor, boxes: Tensor, targets: Sequence[Mapping[str, Tensor]], size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The matches of all images in one row: image [L, N], query [L, N], box [L, N, 4] and label [L, N] of each.

        N is the same in all layers. An image with more objects than queries leaves the most expensive ones out.
        """
        from scipy.optimize import linear_sum_assignment

        device = logits.device
        truths = [t["boxes"].to(device, boxes.dtype).reshape(-1, 4) for t in targets]
        labels = [t["labels"].to(device, torch.long).reshape(-1) for t in targets]
        costs = [
            self.costs(logits[:, i], boxes[:, i], truths[i], labels[i], size)
            for i in range(len(targets))
            if len(truths[i])
        ]
        # All at once, for every copy waits for the device; one that diverged is left to whoever looks at the loss.
        table = torch.cat(costs, -1).nan_to_num(nan=1e9, posinf=1e9, neginf=-1e9).cpu().numpy() if costs else None
        image, query, truth = ([[] for _ in logits] for _ in range(3))
        start = 0
        for i, n in enumerate(len(t) for t in truths):
            for layer in range(len(logits) if n else 0):
                rows, columns = linear_sum_assignment(table[layer, :, start : start + n])
                image[layer] += [i] * len(rows)
                query[layer] += rows.tolist()
                truth[layer] += (columns + start).tolist()
            start += n
        image, query, truth = (torch.tensor(v, dtype=torch.long, device=device) for v in (image, query, truth))
        return image, query, torch.cat(truths)[truth], torch.cat(labels)[truth]

    def costs(self, logits: Tensor, boxes: Tensor, truth: Tensor, labels: Tensor, size: tuple[Any, Any]) -> Tensor:
        """[L, Q, K'], [L, Q, 4] and the N objects of one image -> [L, Q, N]."""
        scale = frame(size, boxes)
        distance = (self.units(boxes, scale).unsqueeze(2) - self.units(truth, scale)).abs().sum(-1)
        overlap = aligned_iou(boxes.unsqueeze(2), truth, kind="giou")
        return (
            self.class_cost * self.class_costs(logits)[..., labels]
            + self.box_weight * distance
            - self.overlap_weight * overlap
        )

    def class_costs(self, logits: Tensor) -> Tensor:
        """What it costs each query to be of each class."""
        if self.softmax:
            return -logits.softmax(-1)
        p = logits.sigmoid()
        positive = FOCAL_ALPHA * (1 - p) ** FOCAL_GAMMA * -(p + SMALLEST_LOG).log()
        negative = (1 - FOCAL_ALPHA) * p**FOCAL_GAMMA * -(1 - p + SMALLEST_LOG).log()
        return positive - negative

    def units(self, boxes: Tensor, scale: Tensor) -> Tensor:
        """Boxes [..., 4] as fractions of the frame, in the form whose L1 distance counts."""
        boxes = boxes / scale
        if self.corners:
            return boxes
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat(((low + high) / 2, high - low), -1)


def frame(size: tuple[Any, Any], like: Tensor) -> Tensor:
    """(w, h, w, h) of a size (h, w) of numbers or scalar tensors."""
    h, w = (torch.as_tensor(n, dtype=like.dtype, device=like.device) for n in size)
    return torch.stack((w, h, w, h))
