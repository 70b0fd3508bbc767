"""ISNet's losses (Zhang, Zhang, Yang, Bai, Zhang, Guo, CVPR 2022): a mask and its edges.

As its authors' code computes them, and as BasicIRSTD does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError
from motes.losses.entropy import BinaryCrossEntropy, cross_entropy_of_probabilities
from motes.losses.overlap import SoftIoU, soft_iou
from motes.losses.supervision import OutputLoss


class SoftIoUWithEntropy(OutputLoss):
    """Soft IoU plus binary cross entropy, both of the probabilities.

    The entropy is taken after the sigmoid, as published: where that is exactly 0 or 1 (|logit| above about 17) nothing
    is learned any more. ``soft_iou`` and ``bce`` as two parts of a recipe do not have that.

    Args:
        per_image: the overlap of each image, averaged; otherwise of the whole batch.
        smooth: k of the soft IoU.
    """

    def __init__(
        self, per_image: bool = True, smooth: float = 0.0, inputs: str = "logits", outputs: str = "mean"
    ) -> None:
        super().__init__(inputs, outputs)
        self.per_image, self.smooth = per_image, smooth

    def one(self, output: Tensor, target: Tensor) -> Tensor:
        p = self.probability(output)
        return soft_iou(p, target, self.per_image, self.smooth) + cross_entropy_of_probabilities(p, target)


class MaskAndEdge(nn.Module):
    """Soft IoU of the mask, soft IoU of the edges, and the edges' weighted cross entropy.

    Called with two outputs, the mask and the PROBABILITY of an edge, and the mask's target, of which the edges are
    taken (:func:`edges`). As published, a second sigmoid is applied to the edge probabilities in their soft IoU.

    Args:
        inputs: what the mask is, ``logits`` or ``probabilities``.
        per_image: soft IoU of each image, averaged; otherwise of the whole batch.
        smooth: k of both soft IoUs.
        edge_weight: factor of the cross entropy.
    """

    def __init__(
        self, inputs: str = "logits", per_image: bool = True, smooth: float = 0.0, edge_weight: float = 10.0
    ) -> None:
        super().__init__()
        self.mask = SoftIoU(per_image, smooth, inputs)
        self.edge = SoftIoU(per_image, smooth)
        self.entropy = BinaryCrossEntropy(inputs="probabilities")
        self.edge_weight = edge_weight

    def forward(self, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor) or len(outputs) != 2:
            found = 1 if isinstance(outputs, Tensor) else len(outputs)
            raise MotesError(f"this loss needs two outputs, mask and edges; the network has {found}")
        mask, edge = outputs
        contour = edges(target.float())
        return self.mask(mask, target) + self.edge_weight * self.entropy(edge, contour) + self.edge(edge, contour)


def edges(target: Tensor) -> Tensor:
    """Gradient magnitude of a mask [B, K, H, W] with zeros around it: 0.001 where nothing happens, up to 1.414."""
    t = F.pad(target, (1, 1, 1, 1))
    down = t[..., 2:, 1:-1] - t[..., :-2, 1:-1]
    right = t[..., 1:-1, 2:] - t[..., 1:-1, :-2]
    return torch.sqrt(down**2 + right**2 + 1e-6)
