"""RetinaNet's head and its losses on anchors; of RetinaNet, PVT-T and EfficientDet as the leaderboard names them.

Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from motes.layers.box_towers import Tower, init_head, prior_bias


class RetinaHead(nn.Module):
    """Two towers that all levels share, class logits and box deltas for every anchor.

    ``forward`` takes maps [B, in_channels, h, w] and returns two lists, a level each: logits [B, A * K, h, w] and
    deltas [B, A * 4, h, w], anchor-major.

    Args:
        in_channels: of the maps and of the towers.
        num_classes: K.
        anchors: A, in every cell.
        depth: convolutions of a tower.
    """

    def __init__(self, in_channels: int, num_classes: int, anchors: int, depth: int = 4) -> None:
        super().__init__()
        self.cls_convs = Tower(in_channels, in_channels, depth, norm=None)
        self.reg_convs = Tower(in_channels, in_channels, depth, norm=None)
        self.retina_cls = nn.Conv2d(in_channels, anchors * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(in_channels, anchors * 4, 3, padding=1)
        init_head(self, 0.01)
        nn.init.constant_(self.retina_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits = [self.retina_cls(self.cls_convs(m)) for m in maps]
        return logits, [self.retina_reg(self.reg_convs(m)) for m in maps]


def one_hot(index: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Class targets [P, K] float32: 1 at the label of the box that a prior is assigned to (``index`` >= 0)."""
    target = torch.zeros(len(index), num_classes, device=index.device)
    positive = (index >= 0).nonzero().squeeze(1)
    target[positive, labels[index[positive]]] = 1
    return target
