"""PVT-T of the leaderboard: RetinaNet on a Pyramid Vision Transformer.

Wang, Xie, Li, Fan, Song, Liang, Lu, Luo, Shao, "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction
without Convolutions", ICCV 2021, arXiv 2102.12122. The backbone is version 1, tiny; any other of timm's may take its
place (``backbone: pvt_v2_b1``). Anchors, head, losses and variant ``small`` are RetinaNet's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from motes.layers.pvt import create_pvt
from motes.models import retinanet
from motes.models.retinanet import RetinaNet

VARIANTS = {"small": retinanet.SMALL}


class PVTRetinaNet(RetinaNet):
    """RetinaNet on PVT, all of which is trained. Arguments as for RetinaNet.

    ``backbone``: ``pvt_v1_tiny``, ``pvt_v1_small``, or a name of timm (``pvt_v2_b1``), for which alone ``norm`` and
    ``frozen_stages`` are.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "pvt_v1_tiny",
        levels: Sequence[int] = (3, 4, 5),
        extra: int = 2,
        anchor_scale: float = 4.0,
        width: int = 256,
        positive: float = 0.5,
        negative: float = 0.4,
        norm: str = "fixed",
        frozen_stages: int = -1,
    ) -> None:
        options = (levels, extra, anchor_scale, width, positive, negative, norm, frozen_stages)
        super().__init__(in_channels, num_classes, backbone, *options)

    def make_backbone(
        self, name: str, levels: Sequence[int], norm: str, frozen_stages: int, in_channels: int
    ) -> nn.Module:
        if name.startswith("pvt_v1"):
            return create_pvt(name, levels, in_channels)
        return super().make_backbone(name, levels, norm, frozen_stages, in_channels)
