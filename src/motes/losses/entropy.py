"""Cross entropies: of one class against the rest, and of several classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from motes.errors import MotesError
from motes.losses.supervision import OutputLoss


class BinaryCrossEntropy(OutputLoss):
    """Mean over pixels of the binary cross entropy, stable at saturated logits.

    Args:
        positive_weight: factor of the target pixels' term (logits only).
    """

    def __init__(self, positive_weight: float = 1.0, inputs: str = "logits", outputs: str = "mean") -> None:
        super().__init__(inputs, outputs)
        if self.inputs == "probabilities" and positive_weight != 1:
            raise MotesError(f"positive_weight {positive_weight:g} needs logits, the inputs are probabilities")
        self.positive_weight = positive_weight

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        if self.inputs == "probabilities":
            return cross_entropy_of_probabilities(output, target)
        weight = torch.tensor(self.positive_weight, device=output.device)
        return F.binary_cross_entropy_with_logits(output, target, pos_weight=weight)


def cross_entropy_of_probabilities(p: Tensor, target: Tensor) -> Tensor:
    """Mean of -(t log p + (1 - t) log(1 - p)), each log at least -100, for any real ``target``.

    The cross entropy is linear in the target, so two terms with the targets 1 and 0 give value and gradient of any,
    also of an edge map above 1, which PyTorch's own function refuses.
    """
    hit = F.binary_cross_entropy(p, torch.ones_like(p), reduction="none")
    miss = F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    return (target * hit + (1 - target) * miss).mean()


class CrossEntropy(OutputLoss):
    """Mean over pixels of the cross entropy of K classes; 0 where every pixel is ignored.

    Called with logits [B, K, H, W] and integer labels [B, H, W] or [B, 1, H, W].

    Args:
        label_smoothing: share e of the target that is spread over all classes: (1 - e) nll + e mean over classes of
            -log softmax.
        ignore_index: the label of pixels that do not count.
        outputs: ``mean`` or ``sum`` over the outputs, or ``first``: the prediction alone.
    """

    def __init__(self, label_smoothing: float = 0.0, ignore_index: int = 255, outputs: str = "mean") -> None:
        super().__init__("logits", outputs)
        if not 0 <= label_smoothing < 1:
            raise MotesError(f"label_smoothing {label_smoothing:g} is outside 0 <= e < 1")
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index

    def as_target(self, target: Tensor) -> Tensor:
        if target.is_floating_point():
            raise MotesError(f"cross entropy needs integer labels, found a target of {target.dtype}")
        return (target.squeeze(1) if target.ndim == 4 else target).long()

    def fits(self, output: Tensor, target: Tensor) -> bool:
        return target.ndim == 3 and (output.shape[0], *output.shape[2:]) == tuple(target.shape)

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(
            output, target, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / (target != self.ignore_index).sum().clamp(min=1)
