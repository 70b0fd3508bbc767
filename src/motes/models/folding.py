"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(net: nn.Module) -> None:
    """Makes every batch norm right after a convolution part of it, in ``net``; exact in eval mode.

    Those of a Sequential are found; a block that calls them by name lists them: ``FOLDABLE``, pairs of attribute names.
    """
    for chain in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(chain) - 1):
            if isinstance(chain[i], nn.Conv2d) and isinstance(chain[i + 1], nn.BatchNorm2d):
                chain[i] = fuse_conv_bn_eval(chain[i], chain[i + 1])
                chain[i + 1] = nn.Identity()
    for block in [m for m in net.modules() if hasattr(m, "FOLDABLE")]:
        for conv, norm in block.FOLDABLE:
            if isinstance(getattr(block, norm), nn.BatchNorm2d):
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
