"""Semantic FPN: a backbone, a feature pyramid and a light decoder; the baseline that FarSeg and FactSeg extend.

Kirillov, Girshick, He, Dollar, "Panoptic Feature Pyramid Networks", CVPR 2019, arXiv 1901.02446, section 3.1, in the
form of FarSeg's code base: batch norms instead of group norms, the mean of the levels instead of their sum, corners
aligned when resizing. Parameter names are published ones, but for the backbone's, which are timm's under
``backbone.body``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.layers.backbone import create_backbone
from motes.layers.fpn import FPN, PADDLE_NAMES, TO_PADDLE, LightDecoder, upsampled

PUBLISHED_NAMES = [
    (r"(^|\.)(?:en|encoder)\.resnet\.", r"\1backbone.body."),
    (r"(^|\.)cls_head\.0\.", r"\1cls_pred_conv."),
    *PADDLE_NAMES,
]
UNUSED_NAMES = [
    r"(^|\.)(?:en|encoder)\.resnet\.fc\.",  # PaddleRS keeps the classifier
    r"(^|\.)buffer_step$",  # of the loss, which keeps it here: motes.losses.classes.AnnealedFocal
]
WRITTEN_NAMES = {
    "torch": [(r"^backbone\.body\.", "en.resnet.")],
    "pdparams": [
        (r"^backbone\.body\.", "encoder.resnet."),
        (r"^cls_pred_conv\.", "cls_head.0."),
        (r"^sr\.", "fsr."),
        *TO_PADDLE,
    ],
}
"""What the authors' code and PaddleRS call the tensors of this network and of FarSeg."""


class SemanticFPN(nn.Module):
    """Semantic FPN.

    Args:
        in_channels: bands of the input.
        num_classes: all classes K, the background included.
        backbone: a name of timm with maps at strides 4 to 32.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 32 and returns logits [B, K, H, W], in training a
    tuple of them alone.

    Raises:
        CardError: no such backbone.
    """

    class_heads = ("cls_pred_conv",)

    def __init__(self, in_channels: int = 3, num_classes: int = 16, backbone: str = "resnet50") -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, in_channels)
        self.fpn = FPN(self.backbone.channels)
        self.decoder = LightDecoder()
        self.cls_pred_conv = nn.Conv2d(128, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = upsampled(self._parts(images)["logits0"])
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: probabilities [B, K, H, W]; ``logits0``: logits at stride 4; and what else the network has."""
        parts = self._parts(images)
        return {"out0": torch.softmax(upsampled(parts["logits0"]), dim=1), **parts}

    def _parts(self, images: Tensor) -> dict[str, Tensor]:
        """``logits0`` at stride 4, and what else a case may hold."""
        return {"logits0": self.cls_pred_conv(self.decoder(self.fpn(self.backbone(images))))}
