"""Binary cross entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.losses.supervision import OutputLoss


class BinaryCrossEntropy(OutputLoss):
    """Mean over pixels of the binary cross entropy, stable at saturated logits.

    Args:
        positive_weight: factor of the target pixels' term (logits only).
    """

    def __init__(self, positive_weight: float = 1.0, inputs: str = "logits", outputs: str = "mean") -> None:
        super().__init__(inputs, outputs)
        self.positive_weight = positive_weight

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        if self.inputs == "probabilities":
            return F.binary_cross_entropy(output, target)
        weight = torch.tensor(self.positive_weight, device=output.device)
        return F.binary_cross_entropy_with_logits(output, target, pos_weight=weight)
