"""FarSeg: Semantic FPN whose pyramid keeps, at every level, the pixels that are related to the scene as a whole.

Zheng, Zhong, Wang, Ma, "Foreground-Aware Relation Network for Geospatial Object Segmentation in High Spatial Resolution
Remote Sensing Imagery", CVPR 2020, arXiv 2011.09766. Its other half, the annealed focal loss, is ``farseg.focal``; the
published network stores the loss's step counter (``buffer_step``), which the loss keeps here. Parameter names are the
published ones, but for the backbone's, which are timm's under ``backbone.body``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.models import semantic_fpn
from motes.models.class_order import AUTHORS_CLASSES
from motes.models.semantic_fpn import SemanticFPN

PUBLISHED_NAMES = [*semantic_fpn.PUBLISHED_NAMES, (r"(^|\.)fsr\.", r"\1sr.")]
UNUSED_NAMES = semantic_fpn.UNUSED_NAMES
WRITTEN_NAMES = semantic_fpn.WRITTEN_NAMES
PUBLISHED_CLASSES = AUTHORS_CLASSES

WIDTH = 256


class FarSeg(SemanticFPN):
    """FarSeg (sections 3.1 and 3.2 of the paper).

    Args:
        in_channels: bands of the input.
        num_classes: all classes K, the background included.
        backbone: a name of timm with maps at strides 4 to 32.
        relation: the foreground-scene relation; without it this is Semantic FPN.
        scale_aware: a scene embedding of its own for each level of the pyramid.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 32 and returns logits [B, K, H, W], in training a
    tuple of them alone.

    Raises:
        CardError: no such backbone.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 16,
        backbone: str = "resnet50",
        relation: bool = True,
        scale_aware: bool = True,
    ) -> None:
        super().__init__(in_channels, num_classes, backbone)
        channels = self.backbone.channels
        self.sr = SceneRelation(channels[-1], len(channels), scale_aware) if relation else None

    def _parts(self, images: Tensor) -> dict[str, Tensor]:
        """``logits0`` at stride 4; ``relation0`` (stride 4) to ``relation3``: relations before the sigmoid."""
        maps = self.backbone(images)
        pyramid = self.fpn(maps)
        relations: list[Tensor] = []
        if self.sr is not None:
            pyramid, relations = self.sr(maps[-1], pyramid)
        logits = self.cls_pred_conv(self.decoder(pyramid))
        return {"logits0": logits, **{f"relation{i}": r for i, r in enumerate(relations)}}


class SceneRelation(nn.Module):
    """Every level of the pyramid, re-encoded and weighted by how well a pixel's embedding fits the scene's.

    Args:
        scene_channels: of the backbone's coarsest map.
        levels: of the pyramid.
        scale_aware: a scene embedding for each level, or one for all.
    """

    def __init__(self, scene_channels: int, levels: int, scale_aware: bool) -> None:
        super().__init__()
        self.scale_aware = scale_aware
        if scale_aware:
            self.scene_encoder: nn.Module = nn.ModuleList(scene_encoder(scene_channels) for _ in range(levels))
        else:
            self.scene_encoder = scene_encoder(scene_channels)
        self.content_encoders = nn.ModuleList(encoder() for _ in range(levels))
        self.feature_reencoders = nn.ModuleList(encoder() for _ in range(levels))

    def forward(self, coarsest: Tensor, pyramid: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """-> the refined levels, and the relations [B, 1, h, w] before the sigmoid."""
        scene = F.adaptive_avg_pool2d(coarsest, 1)
        if isinstance(self.scene_encoder, nn.ModuleList):
            embeddings = [encode(scene) for encode in self.scene_encoder]
        else:
            embeddings = [self.scene_encoder(scene)] * len(pyramid)
        relations = [
            (v * encode(p)).sum(dim=1, keepdim=True)
            for v, encode, p in zip(embeddings, self.content_encoders, pyramid, strict=True)
        ]
        refined = [
            torch.sigmoid(r) * encode(p)
            for r, encode, p in zip(relations, self.feature_reencoders, pyramid, strict=True)
        ]
        return refined, relations


def scene_encoder(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1))


def encoder() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU())
