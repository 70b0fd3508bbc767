"""EfficientDet of the leaderboard: RetinaNet's head and a plain pyramid on EfficientNet-B3; there is no BiFPN in it.

Tan, Pang, Le, "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, is what the row is named after; Tan,
Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, what is in it. Anchors, head
and variant ``small`` are RetinaNet's. Batch norms are trained, but for the stem's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from motes.layers.box_backbone import create_box_backbone
from motes.layers.box_fpn import BoxFPN
from motes.models import retinanet
from motes.models.retinanet import RetinaNet

STAGES = {
    (1, 0): (0, 2),
    (2, 0): (1, 3),
    (3, 0): (2, 3),
    (4, 0): (3, 5),
    (4, 5): (4, 5),
    (5, 0): (5, 6),
    (5, 6): (6, 2),
}
"""Published stage and first block in it -> timm's stage and its number of blocks, for B3."""

LAYERS = r"backbone\.layers\."
BLOCK = r"backbone\.body\.blocks\."
PUBLISHED_NAMES = [
    (rf"{LAYERS}0\.conv\.", "backbone.body.conv_stem."),
    (rf"{LAYERS}0\.bn\.", "backbone.body.bn1."),
    *(
        (rf"{LAYERS}{stage}\.{first + k}\.", f"backbone.body.blocks.{own}.{k}.")
        for (stage, first), (own, blocks) in STAGES.items()
        for k in range(blocks)
    ),
    # The first stage does not widen its input: its blocks have one convolution and one norm less.
    (rf"({BLOCK}0\.\d+)\.depthwise_conv\.bn\.", r"\1.bn1."),
    (rf"({BLOCK}0\.\d+)\.linear_conv\.conv\.", r"\1.conv_pw."),
    (rf"({BLOCK}0\.\d+)\.linear_conv\.bn\.", r"\1.bn2."),
    (r"\.expand_conv\.conv\.", ".conv_pw."),
    (r"\.expand_conv\.bn\.", ".bn1."),
    (r"\.depthwise_conv\.conv\.", ".conv_dw."),
    (r"\.depthwise_conv\.bn\.", ".bn2."),
    (r"\.linear_conv\.conv\.", ".conv_pwl."),
    (r"\.linear_conv\.bn\.", ".bn3."),
    (r"\.se\.conv1\.conv\.", ".se.conv_reduce."),
    (r"\.se\.conv2\.conv\.", ".se.conv_expand."),
]

VARIANTS = {"small": {**retinanet.SMALL, "negative": 0.4}}

DROP_PATH, MOMENTUM = 0.2, 0.01


class EfficientDet(RetinaNet):
    """RetinaNet on EfficientNet-B3; as published no anchor is ignored. Arguments as for RetinaNet."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "tf_efficientnet_b3",
        levels: Sequence[int] = (3, 4, 5),
        extra: int = 2,
        anchor_scale: float = 4.0,
        width: int = 256,
        positive: float = 0.5,
        negative: float = 0.5,
        norm: str = "train",
        frozen_stages: int = 0,
    ) -> None:
        options = (levels, extra, anchor_scale, width, positive, negative, norm, frozen_stages)
        super().__init__(in_channels, num_classes, backbone, *options)

    def make_backbone(
        self, name: str, levels: Sequence[int], norm: str, frozen_stages: int, in_channels: int
    ) -> nn.Module:
        if "efficientnet_b" not in name:
            return super().make_backbone(name, levels, norm, frozen_stages, in_channels)
        # The published stem is one convolution; for timm the blocks at stride 2 belong to it.
        stages = -1 if frozen_stages == 0 else frozen_stages
        net = create_box_backbone(
            name, "pytorch", levels, norm, stages, in_channels, drop_path_rate=DROP_PATH, bn_momentum=MOMENTUM
        )
        if frozen_stages == 0:
            net.body.conv_stem.requires_grad_(False)
            net.body.bn1.requires_grad_(False)
        return net.train()

    def make_neck(self, channels: Sequence[int], width: int, extra: int) -> nn.Module:
        return BoxFPN(channels, width, extra, extra_from="input", relu_before_extra=True, norm=True)
