"""Non-maximum suppression of a batch whose result has a fixed shape, in eager mode and inside an ONNX graph alike."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor

DROPPED = -60000.0
"""The score of what no longer counts: below every other, and a number in float16 too."""

UNLIMITED = 2**31 - 1


def kept_by_nms(boxes: Tensor, scores: Tensor, threshold: float, keep: int = UNLIMITED) -> Tensor:
    """Which boxes survive the better ones that they overlap.

    Args:
        boxes: [B, N, 4] xyxy px.
        scores: [B, C, N]; every image and every class by itself. At ``DROPPED`` or below: not taken part.
        threshold: IoU above which the poorer of two is dropped.
        keep: of each image and class at most so many, the best.

    Returns:
        bool [B, C, N].
    """
    batch, classes, count = scores.shape
    chosen = _Selected.apply(boxes.float(), scores.float(), float(threshold), keep)
    place = (chosen[:, 0] * classes + chosen[:, 1]) * count + chosen[:, 2]
    mask = torch.zeros_like(scores.reshape(-1), dtype=torch.float32).scatter(0, place, 1.0)
    return mask.reshape(batch, classes, count) > 0


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best ``k`` along the last axis (all if there are fewer), best first, equals in order: values and places."""
    n: Any = scores.shape[-1]
    if not torch.jit.is_tracing():  # ONNX's TopK takes the first of equals, torch's takes any
        values, order = scores.sort(dim=-1, descending=True, stable=True)
        return values[..., :k], order[..., :k]
    # Under tracing n is a tensor, and so must be the smaller of both, or the graph would hold the example's.
    return scores.topk(torch.minimum(n, torch.tensor(k)) if isinstance(n, Tensor) else min(n, k), dim=-1)


class _Selected(torch.autograd.Function):
    """Rows (image, class, box) int64 [M, 3] of what survives; ONNX has one operator for it all."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, threshold: float, keep: int) -> Tensor:
        rows = []
        for image in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                score = scores[image, label]
                usable = (score > DROPPED).nonzero().squeeze(1)
                kept = usable[torchvision.ops.nms(boxes[image, usable], score[usable], threshold)[:keep]]
                where = kept.new_tensor((image, label)).expand(len(kept), 2)
                rows.append(torch.cat((where, kept[:, None]), 1))
        return torch.cat(rows) if rows else torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, threshold: float, keep: int) -> Any:
        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor([value], dtype=dtype))

        return g.op(
            "NonMaxSuppression",
            boxes,
            scores,
            constant(keep, torch.int64),
            constant(threshold, torch.float32),
            constant(DROPPED, torch.float32),
        )
