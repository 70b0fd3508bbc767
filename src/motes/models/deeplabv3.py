"""DeepLabV3: atrous spatial pyramid pooling on a dilated backbone; a baseline for aerial images.

Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv
1706.05587. The head is torchvision's, whose weights (variant ``torchvision``: output stride 8, 21 classes) load by
their names; their auxiliary head, which only training uses, is left out.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from motes.errors import CardError
from motes.layers.backbone import create_backbone
from motes.layers.pooled_norm import PooledNorm

PUBLISHED_NAMES = [(r"^backbone\.(?!body\.)", "backbone.body.")]
UNUSED_NAMES = [r"^aux_classifier\."]
WRITTEN_NAMES = {"torch": [(r"^backbone\.body\.", "backbone.")]}

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""Output stride -> dilations of the pyramid: the paper's, and half of them where nothing is dilated."""


class DeepLabV3(nn.Module):
    """DeepLabV3 (section 3.3 of the paper).

    Args:
        in_channels: bands of the input.
        num_classes: all classes K, background too.
        backbone: of timm, with maps at strides 4 to 32.
        output_stride: of the last map, 8, 16 or 32; below 32 the backbone's last stages are dilated instead of strided,
            which not every backbone can do.

    ``forward`` takes [B, C, H, W] and returns logits [B, K, H, W], in training a tuple of them alone. A batch of one
    cannot be trained on: batch norm of the pooled image.

    Raises:
        CardError: unknown backbone or output stride, or a backbone that cannot be dilated.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 16, backbone: str = "resnet50", output_stride: int = 16
    ) -> None:
        super().__init__()
        if output_stride not in RATES:
            raise CardError(f"deeplabv3: output_stride must be 8, 16 or 32, found {output_stride}")
        options = {} if output_stride == 32 else {"output_stride": output_stride}
        self.backbone = create_backbone(backbone, in_channels, **options)
        self.classifier = DeepLabHead(self.backbone.channels[-1], num_classes, RATES[output_stride])
        pooled = self.classifier[0].convs[-1]
        pooled[2] = PooledNorm(pooled[2].num_features)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: the logits."""
        return {"out0": self._logits(images)}

    def _logits(self, images: Tensor) -> Tensor:
        logits = self.classifier(self.backbone(images)[-1])
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


VARIANTS: dict[str, dict[str, Any]] = {"torchvision": {"output_stride": 8, "num_classes": 21}}
"""Constructor options of the card's variants."""
