"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(net: nn.Module) -> None:
    """Makes every batch norm right after a convolution in a Sequential part of it, in ``net``; exact in eval mode."""
    for chain in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(chain) - 1):
            if isinstance(chain[i], nn.Conv2d) and isinstance(chain[i + 1], nn.BatchNorm2d):
                chain[i] = fuse_conv_bn_eval(chain[i], chain[i + 1])
                chain[i + 1] = nn.Identity()
