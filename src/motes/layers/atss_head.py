"""The head of ATSS, which PAA and DyHead share: two towers, and three predictions an anchor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from motes.layers.box_towers import Scale, Tower, init_head, prior_bias


class ATSSHead(nn.Module):
    """Two towers that all levels share; one anchor in every cell. Names are mmdetection's.

    Args:
        in_channels: of the maps.
        num_classes: K.
        levels: how many maps; the deltas of each have a learned factor (``scales.{l}.scale``).
        channels: of the towers.
        depth: convolutions of each; 0: none, the predictors read the maps (DyHead).

    ``forward`` takes the maps and returns per level the class logits [B, K, h, w], the box deltas [B, 4, h, w] and the
    logit of a second factor [B, 1, h, w]: centreness, or IoU (PAA).
    """

    def __init__(self, in_channels: int, num_classes: int, levels: int, channels: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.cls_convs = Tower(in_channels, channels, depth)
        self.reg_convs = Tower(in_channels, channels, depth)
        width = self.cls_convs.out_channels
        self.atss_cls = nn.Conv2d(width, num_classes, 3, padding=1)
        self.atss_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.atss_centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(levels))
        init_head(self)
        nn.init.constant_(self.atss_cls.bias, prior_bias())

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        classes, deltas, factors = [], [], []
        for x, scale in zip(maps, self.scales, strict=True):
            about_box = self.reg_convs(x)
            classes.append(self.atss_cls(self.cls_convs(x)))
            deltas.append(scale(self.atss_reg(about_box)))
            factors.append(self.atss_centerness(about_box))
        return classes, deltas, factors
