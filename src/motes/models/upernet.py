"""UperNet, the baseline of PFNet: a feature pyramid under pooled context.

Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, arXiv 1807.10221, in the
form that lxtGH/PFSegNets compares PFNet with (its ``uper_resnet``): PFNet without point flow. Dilated without removing
strides, as there.
"""

from __future__ import annotations

from torch import Tensor, nn

from motes.layers.backbone import create_backbone
from motes.layers.pyramid import PyramidHead, resized
from motes.models.pfnet import PUBLISHED_NAMES, WRITTEN_NAMES, dilated

__all__ = ["PUBLISHED_NAMES", "WRITTEN_NAMES", "UperNet"]


class UperNet(nn.Module):
    """UperNet.

    Args:
        in_channels: bands of the input (published: RGB).
        num_classes: all classes K, background too.
        backbone: of timm, with maps at strides 4 to 32; ``resnet50s`` is ResNet-50 with a stem of three convolutions.

    ``forward`` takes [B, C, H, W] and returns logits [B, K, H, W], in training a tuple of them alone. A batch of one
    cannot be trained on: batch norm of the 1x1 context.

    Raises:
        CardError: unknown backbone.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 16, backbone: str = "resnet50s") -> None:
        super().__init__()
        self.backbone = dilated(create_backbone(backbone, in_channels))
        self.head = PyramidHead(self.backbone.channels, num_classes, dropout=nn.Dropout2d(0.1))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = resized(self.head(self.backbone(images))[0], images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: logits at the size of the input; ``logits0``: before they are enlarged, at stride 4."""
        logits: Tensor = self.head(self.backbone(images))[0]
        return {"out0": resized(logits, images), "logits0": logits}
