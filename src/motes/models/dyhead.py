"""ATSS behind a dynamic head: six blocks of attention over levels, places and channels instead of two towers.

Dai et al., "Dynamic Head: Unifying Object Detection Heads with Attentions", CVPR 2021; the blocks are
:mod:`motes.layers.dyhead_block`, all else is :mod:`motes.models.atss` with towers of no depth.

Published behaviour: see ``offsets`` there; and anchors of eight strides. Variant ``small`` samples coarser levels where
the offsets say, and has ATSS's options for small targets.
"""

from __future__ import annotations

from torch import nn

from motes.layers.atss_head import ATSSHead
from motes.layers.box_backbone import BACKBONE_NAMES
from motes.layers.dyhead_block import DyHead as Blocks
from motes.models import atss

PUBLISHED_NAMES = BACKBONE_NAMES
VARIANTS = {"small": {**atss.VARIANTS["small"], "offsets": "resized"}}


class DyHead(atss.ATSS):
    """ATSS with dynamic head blocks between its pyramid and its predictors.

    Args:
        in_channels: bands of the input.
        num_classes: foreground classes K.
        backbone: a name of timm with maps at strides 2^``finest`` to 32.
        finest: log2 of the finest level's stride.
        extra: levels beyond the backbone's, made from the pyramid's last map.
        width: channels of pyramid and head.
        anchor_scale: side of the anchors in strides.
        min_side: strides of the finest level that a box counts as wide and high at least where anchors are chosen by
            their centres, so that the smallest ones get some; 0 as published.
        blocks: of the dynamic head.
        offsets: where a block samples coarser levels: ``published`` (as the authors' kernel does, which mixes places)
            or ``resized``.

    Raises:
        CardError: no such backbone or ``offsets``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        finest: int = 3,
        extra: int = 2,
        width: int = 256,
        anchor_scale: float = 8.0,
        min_side: float = 0.0,
        blocks: int = 6,
        offsets: str = "published",
    ) -> None:
        super().__init__(in_channels, num_classes, backbone, finest, extra, width, anchor_scale, min_side)
        self.neck = nn.Sequential(self.neck, Blocks(width, blocks, offsets))
        self.bbox_head = ATSSHead(width, num_classes, len(self.strides), depth=0)
