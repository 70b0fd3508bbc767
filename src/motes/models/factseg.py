"""FactSeg: two decoders on one backbone, one for the classes, one for foreground or not, joined by probability.

Ma, Wang, Zhong, Zheng, "FactSeg: Foreground Activation-Driven Small Object Semantic Segmentation in Large-Scale Remote
Sensing Imagery", IEEE TGRS 60, 2022. It is trained on the joint probability (loss ``factseg.joint``). Parameter names
are the published ones, but for the backbone's, which are timm's under ``backbone.body``.

Corrected because no weight needs it: the joint probability is normalised per pixel whatever the size of the batch (the
authors' code only does so for one image), and is computed from logits, where theirs divides two products that may both
underflow. The PaddleRS port trains the class decoder alone; here, as in the authors' code, both are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.layers.backbone import create_backbone
from motes.layers.fpn import FPN, PADDLE_NAMES, TO_PADDLE, LightDecoder, upsampled
from motes.layers.precision import full_precision
from motes.models.class_order import AUTHORS_CLASSES

PUBLISHED_NAMES = [(r"(^|\.)resencoder\.resnet\.", r"\1backbone.body."), *PADDLE_NAMES]
UNUSED_NAMES = [r"(^|\.)resencoder\.resnet\.fc\."]  # PaddleRS keeps the classifier
AUTHORS_NAMES = [(r"^backbone\.body\.", "resencoder.resnet.")]
WRITTEN_NAMES = {"torch": AUTHORS_NAMES, "pdparams": [*AUTHORS_NAMES, *TO_PADDLE]}
PUBLISHED_CLASSES = AUTHORS_CLASSES


class FactSeg(nn.Module):
    """FactSeg (section II of the paper).

    Args:
        in_channels: bands of the input.
        num_classes: all classes K, the background (id 0) included; at least 2.
        backbone: a name of timm with maps at strides 4 to 32.

    ``forward`` takes [B, C, H, W] with sides that are multiples of 32 and returns the logarithm of the joint
    probability [B, K, H, W], in training the tuple of it, the class logits [B, K, H, W] and the foreground logit
    [B, 1, H, W].

    Raises:
        CardError: no such backbone.
    """

    class_heads = ("fg_cls",)
    background_apart = True

    def __init__(self, in_channels: int = 3, num_classes: int = 16, backbone: str = "resnet50") -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, in_channels)
        self.fgfpn = FPN(self.backbone.channels)
        self.bifpn = FPN(self.backbone.channels)
        self.fg_decoder = LightDecoder()
        self.bi_decoder = LightDecoder()
        self.fg_cls = nn.Conv2d(128, num_classes, 1)
        self.bi_cls = nn.Conv2d(128, 1, 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        classes, foreground = (upsampled(x) for x in self._logits(images))
        joint = log_joint_probability(classes, foreground)
        return (joint, classes, foreground) if self.training else joint

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: joint probability [B, K, H, W]; ``logits0``, ``logits1``: classes and foreground at stride 4."""
        classes, foreground = self._logits(images)
        joint = log_joint_probability(upsampled(classes), upsampled(foreground))
        return {"out0": joint.exp(), "logits0": classes, "logits1": foreground}

    def _logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B, K, H / 4, W / 4] and foreground logit [B, 1, H / 4, W / 4]."""
        maps = self.backbone(images)
        classes = self.fg_cls(self.fg_decoder(self.fgfpn(maps)))
        return classes, self.bi_cls(self.bi_decoder(self.bifpn(maps)))


def log_joint_probability(classes: Tensor, foreground: Tensor) -> Tensor:
    """The joint probability's logarithm, float32: [B, K, H, W] and [B, 1, H, W] -> [B, K, H, W].

    With s = sigmoid(b) and p = softmax(F) it is q_0 ~ p_0 (1 - s), q_c ~ p_c s for the other classes. As (1 - s) / s is
    exp(-b), that is the softmax of F with b taken from the background's logit, which nothing makes overflow.
    """
    with full_precision(classes):
        classes, foreground = classes.float(), foreground.float()
        joint = torch.cat([classes[:, :1] - foreground, classes[:, 1:]], dim=1)
        if torch.onnx.is_in_onnx_export():  # the same in parts: five times as fast as ONNX Runtime's LogSoftmax
            joint = joint - joint.amax(dim=1, keepdim=True)
            return joint - joint.exp().sum(dim=1, keepdim=True).log()
        return torch.log_softmax(joint, dim=1)
