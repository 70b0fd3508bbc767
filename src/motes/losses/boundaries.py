"""PFNet's losses (Li et al., CVPR 2021, section 3.4): the hardest pixels of the classes, and the edges between them.

Labels are integers [B, H, W]: class ids, 0 is the background, ``ignore_index`` (255) does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.losses.entropy import CrossEntropy

IGNORED = 2
"""Value of a boundary target where nothing counts."""


class PointFlowLoss(nn.Module):
    """``pfnet.joint``: ``seg_weight`` times :class:`HardPixels` plus ``edge_weight`` times :class:`Edges`.

    Called with the outputs of PFNet in training, (logits [B, K, H, W], edge logits [B, 1, H, W] ...), and the labels.
    With one output alone (a network without point flow, or in eval mode) the first term is all.

    Args: those of the two.
    """

    def __init__(
        self,
        thresh: float = 0.7,
        min_kept: int = 10_000,
        seg_weight: float = 1.0,
        edge_weight: float = 25.0,
        thickness: int = 8,
        dice_weight: float = 0.0,
        ignore_index: int = 255,
        skip_ignored: bool = False,
    ) -> None:
        super().__init__()
        self.segmentation = HardPixels(thresh, min_kept, ignore_index)
        self.edges = Edges(thickness, dice_weight, ignore_index, skip_ignored)
        self.seg_weight, self.edge_weight = seg_weight, edge_weight

    def forward(self, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        value = self.seg_weight * self.segmentation(outputs, labels)
        if isinstance(outputs, Tensor) or len(outputs) == 1:
            return value
        return value + self.edge_weight * self.edges(outputs, labels)


class HardPixels(CrossEntropy):
    """``pfnet.ohem``: mean cross entropy of the pixels that the network is least sure of, over the whole batch.

    A pixel counts if the probability of its class is at most T; T is ``thresh``, or as much more as is needed to keep
    ``min_kept`` pixels. With fewer valid pixels than that, all count. 0 where every pixel is ignored. As published,
    the rank is taken among all pixels, where ignored ones have probability 1.

    Called with logits [B, K, H, W], or several outputs of which the first is taken, and labels.
    """

    def __init__(self, thresh: float = 0.7, min_kept: int = 10_000, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index, outputs="first")
        if min_kept < 1:
            raise MotesError(f"min_kept must be at least 1, found {min_kept}")
        self.thresh, self.min_kept = thresh, min_kept

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        entropy = F.cross_entropy(output, target, ignore_index=self.ignore_index, reduction="none")
        valid = target != self.ignore_index
        with torch.no_grad():
            p = torch.where(valid, torch.exp(-entropy), 1.0)
            ranked = p.flatten().kthvalue(min(p.numel(), self.min_kept)).values
            # No comparison in Python: the counts need not leave the device.
            limit = torch.where(valid.sum() < self.min_kept, torch.inf, ranked.clamp(min=self.thresh))
            kept = valid & (p <= limit)
        return (entropy * kept).sum() / kept.sum().clamp(min=1)


class Edges(nn.Module):
    """``pfnet.edges``: :func:`edge_entropy` of every edge map against the boundaries of the labels, summed.

    Called with (anything, edge logits [B, 1, H, W] ...), as PFNet returns them in training, and labels [B, H, W].

    Args:
        thickness: of the boundaries in px.
        dice_weight: factor of :func:`edge_dice`, added to each; off in the published runs.
        ignore_index: the label of pixels that do not count elsewhere.
        skip_ignored: False, as published: ignored pixels are foreground whose outline is a boundary like any other.
            True: they are background, and what is drawn on them does not count.
    """

    def __init__(
        self, thickness: int = 8, dice_weight: float = 0.0, ignore_index: int = 255, skip_ignored: bool = False
    ) -> None:
        super().__init__()
        if thickness < 1:
            raise MotesError(f"thickness must be at least 1, found {thickness}")
        self.thickness, self.dice_weight = thickness, dice_weight
        self.ignore_index, self.skip_ignored = ignore_index, skip_ignored

    def forward(self, outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
        if isinstance(outputs, Tensor) or len(outputs) < 2:
            raise MotesError("this loss needs edge maps behind the prediction, the network has one output")
        target = self.target(labels)
        for edge in outputs[1:]:
            if edge.shape[1] != 1 or (edge.shape[0], *edge.shape[2:]) != tuple(target.shape):
                raise MotesError(f"edge map of shape {tuple(edge.shape)} against labels of {tuple(target.shape)}")
        with torch.autocast(target.device.type, enabled=False):
            return torch.stack([self.one(edge.float(), target) for edge in outputs[1:]]).sum()

    def one(self, edge: Tensor, target: Tensor) -> Tensor:
        """The loss of one edge map [B, 1, H, W], float32, against 0, 1 or `IGNORED` [B, H, W]."""
        value = edge_entropy(edge, target)
        return value + self.dice_weight * edge_dice(edge, target) if self.dice_weight else value

    def target(self, labels: Tensor) -> Tensor:
        """Boundaries of labels [B, H, W] (or [B, 1, H, W]), uint8 [B, H, W] on their device."""
        if labels.is_floating_point():
            raise MotesError(f"edges need integer labels, found a target of {labels.dtype}")
        labels = labels.squeeze(1) if labels.ndim == 4 else labels
        ignored = (labels == self.ignore_index) & self.skip_ignored
        foreground = ((labels != 0) & ~ignored).to("cpu", torch.uint8).numpy()
        drawn = np.stack([boundary(one, self.thickness) for one in foreground])
        return torch.from_numpy(drawn).to(labels.device).masked_fill(ignored, IGNORED)


def boundary(mask: np.ndarray, thickness: int = 8) -> np.ndarray:
    """Outer and inner outlines of a mask [H, W], anything but 0 being foreground, drawn ``thickness`` px wide.

    uint8 [H, W], 1 on the outlines. As published, where two classes touch there is no outline.
    """
    foreground = np.ascontiguousarray(mask != 0, np.uint8)
    outlines, _ = cv2.findContours(foreground, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    drawn = np.zeros_like(foreground)
    cv2.drawContours(drawn, outlines, -1, 1, thickness)
    return drawn


def edge_entropy(edge: Tensor, target: Tensor) -> Tensor:
    """Balanced binary cross entropy of edge logits [B, 1, H, W] against 0, 1 or `IGNORED` [B, H, W].

    Edge pixels weigh what the share of the others is, the others what the share of the edge pixels is, both over the
    batch, ignored ones nothing. Mean over all pixels, the ignored ones too. 0 where there are no edges.
    """
    logits = edge.squeeze(1)
    positive, negative = target == 1, target == 0
    edges, others = positive.sum(), negative.sum()
    total = (edges + others).clamp(min=1)
    weight = positive * (others / total) + negative * (edges / total)
    return F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), weight)


def edge_dice(edge: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum(p t) + 1) / (sum p^2 + sum t^2 + 1) per image, averaged, ignored pixels left out.

    p is the sigmoid of the edge logits [B, 1, H, W]; the published code takes the logits themselves.
    """
    counted = (target != IGNORED).flatten(1)
    p = torch.sigmoid(edge).flatten(1) * counted
    t = (target == 1).flatten(1)
    return 1 - ((2 * (p * t).sum(1) + 1) / (p.square().sum(1) + t.sum(1) + 1)).mean()
