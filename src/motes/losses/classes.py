"""Losses of several classes with ignored pixels: FactSeg's joint loss and its ablations, FarSeg's annealed focal loss.

Called with the network's outputs (one tensor [B, K, H, W] or the tuple of the training form) and integer labels
[B, H, W] or [B, 1, H, W], of which ``ignore_index`` counts nowhere; each returns a scalar, 0 with zero gradients where
every pixel is ignored. Values and gradients are finite however large the logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.layers.precision import full_precision
from motes.naming import look_up


class ClassLoss(nn.Module):
    """A loss of one output and labels.

    Args:
        ignore_index: the label of pixels that do not count.
        output: which of several outputs is looked at; a lone tensor always is. Of FactSeg's, 0 is the logarithm of the
            joint probability, 1 the class logits, 2 the foreground logit.
    """

    channels: int | None = None

    def __init__(self, ignore_index: int = 255, output: int = 0) -> None:
        super().__init__()
        self.ignore_index, self.output = ignore_index, output

    def forward(self, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        if not isinstance(outputs, Tensor):
            if not 0 <= self.output < len(outputs):
                raise MotesError(
                    f"this loss looks at output {self.output}, the network has {len(outputs)}",
                    "choose another with the loss's option 'output'",
                )
            outputs = outputs[self.output]
        if labels.is_floating_point():
            raise MotesError(f"losses of several classes need integer labels, found {labels.dtype}")
        labels = (labels.squeeze(1) if labels.ndim == 4 else labels).long()
        if outputs.ndim != 4 or (outputs.shape[0], *outputs.shape[2:]) != tuple(labels.shape):
            raise MotesError(f"output of shape {tuple(outputs.shape)} against labels of {tuple(labels.shape)}")
        if self.channels is not None and outputs.shape[1] != self.channels:
            raise MotesError(f"this loss needs an output of {self.channels} channel, found {outputs.shape[1]}")
        if self.channels is None and outputs.shape[1] == 1:  # PFNet's edges, where FactSeg has its class logits
            raise MotesError(
                f"this loss needs a channel for each class, output {self.output} has one in all",
                "choose another with the loss's option 'output'",
            )
        with full_precision(outputs):
            return self.one(outputs.float(), labels)

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        """The loss of float32 [B, K, H, W] against int64 [B, H, W]."""
        raise NotImplementedError

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of each pixel, 0 where ignored: [B, H, W]."""
        return F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")


class Joint(ClassLoss):
    """FactSeg's loss: -log of the joint probability of the label, averaged over the hardest pixels of the batch.

    Called with the LOGARITHM of the joint probability, as FactSeg returns it. Small object mining: of all N pixels of
    the batch, ignored ones included, the floor(ratio N) with the largest loss, without those whose loss is 0.

    Args:
        ratio: share of the batch's pixels, 0 < ratio <= 1 (published: 0.1).
    """

    def __init__(self, ratio: float = 0.1, ignore_index: int = 255, output: int = 0) -> None:
        super().__init__(ignore_index, output)
        self.ratio = share(ratio)

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        return hardest(F.nll_loss(output, labels, ignore_index=self.ignore_index, reduction="none"), self.ratio)


class SmallObjectMining(Joint):
    """Cross entropy averaged over the hardest pixels, mined as in :class:`Joint`."""

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        return hardest(self.cross_entropy(output, labels), self.ratio)


def share(ratio: float) -> float:
    if not 0 < ratio <= 1:
        raise MotesError(f"ratio {ratio:g} is outside 0 < ratio <= 1")
    return ratio


def hardest(losses: Tensor, ratio: float) -> Tensor:
    """Mean of the floor(ratio N) largest of N losses, zeros left out."""
    # The published denominator: 1e-6 more than the count.
    largest = losses.flatten().topk(int(ratio * losses.numel())).values
    return largest.sum() / ((largest != 0).sum() + 1e-6)


class PixelCrossEntropy(ClassLoss):
    """Mean cross entropy of the pixels that count."""

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        return self.cross_entropy(output, labels).sum() / counted(labels, self.ignore_index)


class OnlineHardExamples(ClassLoss):
    """Cross entropy of the pixels whose class is still improbable (online hard example mining).

    Kept are the pixels with a probability p of their label below T, the larger of ``threshold`` and the p at place
    ``min_kept`` B (from 0) of all pixels that count, in ascending order; the comparison is strict, as published.

    Args:
        threshold: below this a pixel is always kept.
        min_kept: pixels to keep for each of the B images (as many as there are, but for the easiest one).
    """

    def __init__(
        self, threshold: float = 0.7, min_kept: int = 100_000, ignore_index: int = 255, output: int = 0
    ) -> None:
        super().__init__(ignore_index, output)
        self.threshold, self.min_kept = threshold, min_kept

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        losses, valid = self.cross_entropy(output, labels), labels != self.ignore_index
        p = torch.exp(-losses.detach())
        of_valid = p[valid]
        limit = self.threshold
        if of_valid.numel():
            place = min(self.min_kept * len(labels), of_valid.numel() - 1)
            limit = of_valid.kthvalue(place + 1).values.clamp(min=self.threshold)
        kept = valid & (p < limit)
        return (losses * kept).sum() / kept.sum().clamp(min=1)


class InverseFrequency(ClassLoss):
    """Cross entropy with rare classes weighted up.

    The weight of a class is w = 1 / ln(margin + f), f its share of the batch's pixels that count. The mean is that of
    the weights: sum of w CE over sum of w.

    Args:
        margin: above 1 (published: 1.02), so that no weight is infinite.
    """

    def __init__(self, margin: float = 1.02, ignore_index: int = 255, output: int = 0) -> None:
        super().__init__(ignore_index, output)
        if margin <= 1:
            raise MotesError(f"margin {margin:g} is not above 1")
        self.margin = margin

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        counts = torch.bincount(labels[labels != self.ignore_index], minlength=output.shape[1]).float()
        weights = 1 / torch.log(self.margin + counts / counts.sum().clamp(min=1))
        losses = F.cross_entropy(output, labels, weights, ignore_index=self.ignore_index, reduction="sum")
        return losses / (weights * counts).sum().clamp(min=1e-6)


class ClassFocal(ClassLoss):
    """Focal loss of several classes: mean over the pixels that count of alpha_y (1 - p_y)^gamma CE.

    Args:
        gamma: how much less an easy pixel counts: 0 or at least 1.
        alpha: factor of each class; None: 1 for all.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        alpha: Sequence[float] | None = None,
        ignore_index: int = 255,
        output: int = 0,
    ) -> None:
        super().__init__(ignore_index, output)
        self.gamma = exponent(gamma)
        self.register_buffer("alpha", None if alpha is None else torch.tensor(alpha, dtype=torch.float32), False)

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        losses = self.cross_entropy(output, labels)
        factor = miss(losses) ** self.gamma
        if self.alpha is not None:
            if len(self.alpha) != output.shape[1]:
                raise MotesError(f"alpha has {len(self.alpha)} factors for {output.shape[1]} classes")
            factor = factor * self.alpha[labels.masked_fill(labels == self.ignore_index, 0)]
        return (losses * factor).sum() / counted(labels, self.ignore_index)


class BinaryLoss(ClassLoss):
    """A loss of one foreground logit [B, 1, H, W]; every label above 0 is foreground, ignored pixels count nowhere."""

    channels = 1

    def __init__(self, ignore_index: int = 255, output: int = 2) -> None:
        super().__init__(ignore_index, output)


class Foreground(BinaryLoss):
    """Mean binary cross entropy of the foreground logit."""

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(output[:, 0], (labels > 0).float(), reduction="none")
        return (losses * (labels != self.ignore_index)).sum() / counted(labels, self.ignore_index)


class ForegroundDice(BinaryLoss):
    """Dice loss of the foreground's probability p: 1 - (2 sum p t + 1) / (sum p + sum t + 1), over the batch."""

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        valid = labels != self.ignore_index
        p, t = torch.sigmoid(output[:, 0]) * valid, (valid & (labels > 0)).float()
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


ANNEALING = ("cosine", "poly", "linear", "none")


class AnnealedFocal(ClassLoss):
    """FarSeg's foreground-aware loss: cross entropy that turns into focal loss over the first ``steps`` steps.

    With l the cross entropy of a pixel, m = (1 - p_y)^gamma and n = sum l / sum l m over the batch (m and n without
    gradient), a pixel's weight goes from 1 to m n: w = m n + a (1 - m n), with a falling from 1 to 0 as a cosine, as
    (1 - t / steps)^0.9 (``poly``) or linearly. The loss is sum l w / (pixels that count + B); B, the size of the batch,
    is there as published. Because of n its value is that of the cross entropy at every step; only the gradient changes.

    ``step`` (t) is a buffer, saved with the loss's state: 1 at the first forward in training mode, and 1 more at each.

    Args:
        gamma: how much less an easy pixel counts.
        anneal: ``cosine``, ``poly``, ``linear``, or ``none``: the final weight from the start.
        steps: forwards until the weight is m n.
        normalised: False: the weight is m, without n (only with anneal ``none``).

    Raises:
        MotesError: unknown annealing, no steps, or ``normalised`` switched off while annealing.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        anneal: str = "cosine",
        steps: int = 10_000,
        normalised: bool = True,
        ignore_index: int = 255,
        output: int = 0,
    ) -> None:
        super().__init__(ignore_index, output)
        self.gamma, self.steps = exponent(gamma), steps
        self.anneal = look_up("annealing", anneal, ANNEALING)
        if steps < 1:
            raise MotesError(f"steps must be at least 1, found {steps}")
        if not normalised and anneal != "none":
            raise MotesError(f"annealing '{anneal}' ends in the normalised weight", "set anneal to none")
        self.normalised = normalised
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def one(self, output: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.step += 1
        losses = self.cross_entropy(output, labels)
        with torch.no_grad():
            weight = miss(losses) ** self.gamma
            if self.normalised:
                hard = (losses * weight).sum()
                weight = weight * torch.where(hard > 0, losses.sum() / hard, 1.0)
            weight = weight + self.share_of_plain() * (1 - weight)
        return (losses * weight).sum() / ((labels != self.ignore_index).sum() + len(labels))

    def share_of_plain(self) -> Tensor | float:
        """a: 1 at step 0, 0 from ``steps`` on."""
        if self.anneal == "none":
            return 0.0
        done = (self.step / self.steps).clamp(max=1.0)
        if self.anneal == "cosine":
            return 0.5 * (torch.cos(math.pi * done) + 1)
        return (1 - done) ** (0.9 if self.anneal == "poly" else 1.0)


def exponent(gamma: float) -> float:
    if gamma != 0 and gamma < 1:
        raise MotesError(f"gamma {gamma:g} has no finite gradient at p = 1, expected 0 or at least 1")
    return gamma


def miss(cross_entropy: Tensor) -> Tensor:
    """1 - p of the label."""
    return -torch.expm1(-cross_entropy)


def counted(labels: Tensor, ignore_index: int) -> Tensor:
    """Pixels that are not ignored, at least 1."""
    return (labels != ignore_index).sum().clamp(min=1)
