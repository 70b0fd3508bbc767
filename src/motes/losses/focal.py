"""The focal loss of key points."""

from __future__ import annotations

from torch import Tensor

from motes.losses.supervision import OutputLoss

MARGIN = 1e-4


class Focal(OutputLoss):
    """CornerNet's focal loss (Law, Deng, ECCV 2018, equation 1), with which ISTDU-Net is trained.

    -(A + B) / n over the whole batch, n the number of pixels whose target is 1 (at least 1):
    A = sum over these of (1 - p)^alpha log p, B = sum over all others of (1 - t)^beta p^alpha log(1 - p).
    p is limited to [1e-4, 1 - 1e-4], so a pixel beyond has no gradient, be it right or wrong.

    Args:
        alpha: how much less an easy pixel counts.
        beta: how much less a pixel near a target counts, where the target falls off softly.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 4.0, inputs: str = "logits", outputs: str = "mean") -> None:
        super().__init__(inputs, outputs)
        self.alpha, self.beta = alpha, beta

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        p = self.probability(output).clamp(MARGIN, 1 - MARGIN)
        peak = (target == 1).float()
        rest = (target < 1) * (1 - target).abs() ** self.beta
        a = peak * (1 - p) ** self.alpha * p.log()
        b = rest * p**self.alpha * (1 - p).log()
        return -(a.sum() + b.sum()) / peak.sum().clamp(min=1)
