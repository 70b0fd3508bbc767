"""Losses of overlap: soft IoU and dice."""

from __future__ import annotations

from torch import Tensor

from motes.losses.supervision import OutputLoss

TINY = 1e-30


class SoftIoU(OutputLoss):
    """1 - (sum(p t) + k) / (sum(p) + sum(t) - sum(p t) + k).

    Args:
        per_image: the ratio of each image, averaged (RDIAN, AGPCNet); otherwise sums over the whole batch (DNANet, ABC,
            SeRankDet). The two differ whenever images of one batch differ in target area.
        smooth: k. With 0, an image without target has the value 1 and no gradient.
    """

    def __init__(
        self, per_image: bool = False, smooth: float = 1.0, inputs: str = "logits", outputs: str = "mean"
    ) -> None:
        super().__init__(inputs, outputs)
        self.per_image, self.smooth = per_image, smooth

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        return soft_iou(self.probability(output), target, self.per_image, self.smooth)


def soft_iou(p: Tensor, target: Tensor, per_image: bool, smooth: float) -> Tensor:
    """The loss of probabilities ``p``; see :class:`SoftIoU`."""
    axes = tuple(range(1, p.ndim)) if per_image else tuple(range(p.ndim))
    both = (p * target).sum(axes)
    union = p.sum(axes) + target.sum(axes) - both
    # Without k, an image with no target and no probability would be 0 / 0 (and is, in the published code).
    return 1 - ((both + smooth) / (union + smooth).clamp(min=TINY)).mean()


class Dice(OutputLoss):
    """RepISD-Net's dice with squared sums: 1 - 2 sum(p t) / (sum(p^2) + k + sum(t^2) + k) per image, averaged.

    On an image without target it is constant (gradient zero): pair it with ``bce`` where such images are trained on.
    """

    def __init__(self, smooth: float = 1e-3, inputs: str = "logits", outputs: str = "mean") -> None:
        super().__init__(inputs, outputs)
        self.smooth = smooth

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        p = self.probability(output).flatten(1)
        t = target.flatten(1)
        both = (p * t).sum(1)
        return 1 - (2 * both / (p.square().sum(1) + t.square().sum(1) + 2 * self.smooth)).mean()
