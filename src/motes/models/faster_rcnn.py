"""Faster R-CNN: a network that proposes regions, and one that classifies them, on the same features.

Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015,
arXiv 1506.01497. The leaderboard ran its first form on a ResNet ("C4", He et al., CVPR 2016): one map at stride 16, and
the last stage of the ResNet on each of 1000 regions, which is why it costs 0.76 T multiply-adds. The variant ``fpn`` is
the form of Lin et al. (CVPR 2017) on a feature pyramid; the leaderboard calls that one Dynamic R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.box_backbone import BACKBONE_NAMES, IMAGENET, create_box_backbone
from motes.layers.priors import Anchors
from motes.layers.roi_heads import BoxHead
from motes.layers.rpn import RPN
from motes.losses.assigners import MaxIoU
from motes.losses.samplers import RandomSampler
from motes.losses.two_stage import RPNLoss
from motes.models.two_stage import SMALL, Amount, PyramidDetector, RegionHead, TwoStageDetector, l1

PUBLISHED_NAMES = [(r"^((?:.*\.)?)roi_head\.shared_head\.", r"\1backbone.body."), *BACKBONE_NAMES]
VARIANTS = {
    "fpn": {"pyramid": True, "bgr": False, "input": IMAGENET},
    "small": {"pyramid": True, "bgr": False, "input": IMAGENET, **SMALL},
}

STRIDE = 16
C4_SCALES = (2.0, 4.0, 8.0, 16.0, 32.0)
LAST_STAGE = "layer4"


def create(
    in_channels: int = 3,
    num_classes: int = 1,
    pyramid: bool = False,
    bgr: bool = True,
    **options: object,
) -> TwoStageDetector:
    """The C4 form, or with ``pyramid`` the one on a feature pyramid; ``bgr``: the network takes B, G, R."""
    net = (FasterRCNNPyramid if pyramid else FasterRCNN)(in_channels, num_classes, **options)
    net.bgr = bgr
    return net


class FasterRCNN(TwoStageDetector):
    """Faster R-CNN on one map (C4).

    Args:
        in_channels: bands of the input; B, G, R as published.
        num_classes: K foreground classes.
        backbone: a ResNet of timm: its last stage is the head's.
        frozen_stages: of the backbone: 0 its stem, 1 also its first stage, ...; -1 nothing. Batch norms never train.
        scales: sides of the anchors in units of 16 px.
        ratios: height / width of the anchors.
        overlaps: see :class:`motes.models.two_stage.PyramidDetector`.

    ``net(images)`` takes [B, C, H, W] of any size and returns boxes; see :mod:`motes.layers.dense_detector`.

    Raises:
        CardError: no such backbone, or none with a last stage of its own.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        frozen_stages: int = 1,
        scales: Sequence[float] = C4_SCALES,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        overlaps: Sequence[float] = (0.7, 0.3, 0.3),
    ) -> None:
        super().__init__()
        self.backbone = create_box_backbone(
            backbone, "caffe", (4, 5), norm="frozen", frozen_stages=frozen_stages, in_channels=in_channels
        )
        if LAST_STAGE not in dict(self.backbone.body.named_children()):
            raise CardError(
                f"faster_rcnn needs a ResNet, whose last stage looks at the regions; '{backbone}' has none",
                "its variant fpn takes any pyramid of timm",
            )
        channels, width = self.backbone.channels
        self.rpn_head = RPN(channels, Anchors((STRIDE,), ratios, scales))
        self.rpn_loss = RPNLoss(MaxIoU(*overlaps), RandomSampler(256, 0.5), l1(0.0))
        self.amounts = {True: Amount(12000, 2000), False: Amount(6000, 1000)}
        self.roi_head = StageHead(num_classes, width)
        # Borrowed, not owned: the last stage is stored, pretrained and frozen with its backbone.
        self.roi_head.stage = (getattr(self.backbone.body, LAST_STAGE),)

    def features(self, images: Tensor) -> list[Tensor]:
        for name, part in self.backbone.body.named_children():
            if name != LAST_STAGE:
                images = part(images)
        return [images]


class StageHead(RegionHead):
    """A head of regions that is the last stage of the backbone, run on 14x14 bins, and its average."""

    side = 14
    strides = (STRIDE,)
    stage: tuple[nn.Module]

    def make_head(self, channels: int, regress: bool) -> nn.Module:
        return BoxHead(channels, self.num_classes, hidden=(), regress=regress)

    def decided(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.bbox_head(self.stage[0](features).mean((-2, -1)))


class FasterRCNNPyramid(PyramidDetector):
    """Faster R-CNN on a feature pyramid; see :class:`FasterRCNN` for the arguments, anchors in units of 4 to 64 px."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        backbone: str = "resnet50",
        frozen_stages: int = 1,
        scales: Sequence[float] = (8.0,),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        overlaps: Sequence[float] = (0.7, 0.3, 0.3),
    ) -> None:
        super().__init__(in_channels, backbone, frozen_stages, scales, ratios, overlaps)
        self.roi_head = RegionHead(num_classes)
