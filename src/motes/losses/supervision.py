"""What a loss does with several outputs, and whether they are logits or probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from motes.errors import MotesError
from motes.naming import look_up


class OutputLoss(nn.Module):
    """A loss of one output, extended to deep supervision.

    Args:
        inputs: ``logits`` or ``probabilities``: what the network's outputs are.
        outputs: ``mean`` or ``sum`` over the outputs, or ``first``: the prediction alone.
    """

    def __init__(self, inputs: str = "logits", outputs: str = "mean") -> None:
        super().__init__()
        self.inputs = look_up("kind of input", inputs, ("logits", "probabilities"))
        self.outputs = look_up("rule for several outputs", outputs, ("mean", "sum", "first"))

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        many = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if self.outputs == "first":
            many = many[:1]
        target = self.as_target(target)
        for output in many:
            if not self.fits(output, target):
                raise MotesError(f"output of shape {tuple(output.shape)} against a target of {tuple(target.shape)}")
        # Sums over a batch's pixels overflow or lose the targets in 16 bits.
        with torch.autocast(target.device.type, enabled=False):
            total = torch.stack([self.one(output.float(), target) for output in many]).sum()
        return total / len(many) if self.outputs == "mean" else total

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of one output [B, K, H, W], float32."""
        raise NotImplementedError

    def as_target(self, target: Tensor) -> Tensor:
        """The target as ``one`` takes it: float32 [B, K, H, W]."""
        return target.float()

    def fits(self, output: Tensor, target: Tensor) -> bool:
        """Do the shapes belong together?"""
        return output.shape == target.shape

    def probability(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output) if self.inputs == "logits" else output
