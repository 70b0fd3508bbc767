"""U-Net on a feature backbone: a decoder with skip connections from every level; a baseline for aerial images.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, arXiv
1505.04597. Not the paper's encoder: a backbone of timm, which may have ImageNet weights. Convolutions are padded and
normalised, and the way up is a bilinear resize instead of a transposed convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.backbone import Backbone, create_backbone
from motes.layers.pyramid import conv_norm

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's levels, coarsest first."""


class UNet(nn.Module):
    """U-Net.

    Args:
        in_channels: bands of the input.
        num_classes: all classes K, background too.
        backbone: of timm, with maps at strides 2 to 32, or (ConvNeXt, Swin: no skip at stride 2) at 4 to 32.

    ``forward`` takes [B, C, H, W] and returns logits [B, K, H, W], in training a tuple of them alone.

    Raises:
        CardError: unknown backbone.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 16, backbone: str = "resnet50") -> None:
        super().__init__()
        self.backbone = encoder(backbone, in_channels)
        above, *skips = reversed(self.backbone.channels)
        self.decoder = nn.ModuleList()
        for skip, width in zip([*skips, 0], WIDTHS, strict=False):  # the last level, the image's own, has no skip
            self.decoder.append(nn.Sequential(conv_norm(above + skip, width, 3), conv_norm(width, width, 3)))
            above = width
        self.head = nn.Conv2d(above, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: the logits."""
        return {"out0": self._logits(images)}

    def _logits(self, images: Tensor) -> Tensor:
        x, *skips = reversed(self.backbone(images))
        for block, skip in zip(self.decoder, [*skips, None], strict=True):
            size = images.shape[-2:] if skip is None else skip.shape[-2:]
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def encoder(name: str, in_channels: int) -> Backbone:
    try:
        return create_backbone(name, in_channels, levels=5)
    except CardError:  # no map at stride 2; if the name is wrong, the second try says so
        return create_backbone(name, in_channels)
