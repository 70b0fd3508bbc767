"""PFNet (PointFlow): a feature pyramid whose coarse levels reach the fine ones through selected points alone.

Li, He, Li, Li, Cheng, Shi, Weng, Tong, Lin, "PointFlow: Flowing Semantics Through Points for Aerial Image
Segmentation", CVPR 2021, arXiv 2103.06564. Two public code bases, which differ:

- the authors' (lxtGH/PFSegNets, PyTorch): the default and ``r101``; ``upernet-r50`` is its baseline without point flow,
  which has a card of its own, ``upernet``, too;
- its port (Jittor/PFSegNets-Jittor): ``jittor-r50``, and ``gaofen-r2n101``, the Res2Net-101 of the GaoFen contest 2021.
  It pools by fixed windows, so a side needs 448 px, pools 7 x 7 context bins instead of 6 x 6, and drops single values.

Reproduced because weights need it: the strides of the dilated stages are kept (output stride 32 all the same), and
Res2Net has no dilation; edge points may be overwritten by salient ones; with a fractional ratio of heights the target
of a point is computed in one float, so that a fraction of its row moves its column. Corrected because no weight needs
it: running variances are unbiased in all variants, where the port takes biased ones.

Points are selected, so rounding can exchange two of nearly equal score: another device, precision or the exported file
may then differ at these points by more than rounding, hence ``export_bounds``. Measured between PyTorch and ONNX
Runtime with generated weights on ResNet-18: five of seven tiles agree to 2e-5 of the largest logit, two differ, in 355
of 262,144 and in 1 of 200,704 pixels of the argmax (on the first, PyTorch in float64 differs from float32 as much). Of
equal scores the first in raster order are taken, in torch and in ONNX alike.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.backbone import Backbone, create_backbone
from motes.layers.precision import full_precision
from motes.layers.pyramid import PyramidHead, pooling, resized, window_maxima
from motes.naming import look_up

PUBLISHED_NAMES = [
    (r"^layer0\.0\.", "backbone.body.conv1."),
    (r"^layer0\.1\.", "backbone.body.bn1."),
    (r"^layer([1-4])\.", r"backbone.body.layer\1."),
]

WRITTEN_NAMES = {
    "torch": [
        (r"^backbone\.body\.conv1\.", "layer0.0."),
        (r"^backbone\.body\.bn1\.", "layer0.1."),
        (r"^backbone\.body\.", ""),
    ]
}

POOLING = {"torch": ((1, 2, 3, 6), "adaptive", nn.Dropout2d), "jittor": ((1, 2, 3, 7), "fixed", nn.Dropout)}
"""Code base -> context bins, rule of the windows (see ``motes.layers.pyramid``), dropout."""

STRIDE = 32
DROPOUT = 0.1
DILATION = {"layer3": 2, "layer4": 4}


class PFNet(nn.Module):
    """PFNet (section 3 of the paper).

    Args:
        in_channels: bands of the input (published: RGB).
        num_classes: all classes K, background too.
        backbone: of timm, with maps at strides 4 to 32; ``resnet50s`` is ResNet-50 with a stem of three convolutions.
        code: ``torch`` or ``jittor``: whose pooling and dropout.
        point_flow: False: UperNet, the coarse map is enlarged and added instead.
        salient: windows along a side that give one salient point each (M of the paper).
        average: bins along a side that the certainty is averaged in before it masks the edge branch (A).
        edge_points: points of the edge branch (P).
        matcher_width: channels in which the matching map is made.

    ``forward`` takes [B, C, H, W] and returns logits [B, K, H, W]; in training (logits, edges of level 3, 2, 1): the
    edge logits [B, 1, H, W] from coarse to fine (with point flow). A batch of one cannot be trained on: batch norm of
    the 1x1 context.

    Raises:
        CardError: unknown backbone or code, or a number below 1.
    """

    export_bounds: ClassVar = {"outliers": 0.5, "outlier": 0.5, "changed": 1e-2}
    """Fields of ``motes.export.Bounds``: at least half of the tiles must agree to rounding."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 16,
        backbone: str = "resnet50s",
        code: str = "torch",
        point_flow: bool = True,
        salient: int = 14,
        average: int = 9,
        edge_points: int = 128,
        matcher_width: int = 64,
    ) -> None:
        super().__init__()
        bins, windows, dropout = POOLING[look_up("code of pfnet", code, POOLING, CardError)]
        given = {"salient": salient, "average": average, "edge_points": edge_points, "matcher_width": matcher_width}
        for option, value in given.items():
            if value < 1:
                raise CardError(f"pfnet: {option} must be at least 1, found {value}")
        if windows == "fixed":
            widest = max(*bins, *((salient, average) if point_flow else ()))
            self.input_limits = {"stride": STRIDE, "min_size": STRIDE * widest}
        self.backbone = dilated(create_backbone(backbone, in_channels))
        channels = 256
        links = [PointFlow(channels, salient, average, edge_points, matcher_width, windows) for _ in range(3)]
        self.head = PyramidHead(
            self.backbone.channels,
            num_classes,
            bins,
            windows,
            dropout(DROPOUT),
            links if point_flow else None,
            channels,
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits, edges = self.head(self.backbone(images))
        if not self.training:
            return resized(logits, images)
        return tuple(resized(x, images) for x in (logits, *edges))

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: logits at the size of the input; ``logits0``: before they are enlarged, at stride 4;
        ``edge0`` .. ``edge2``: edge logits at strides 32, 16 and 8."""
        logits, edges = self.head(self.backbone(images))
        return {"out0": resized(logits, images), "logits0": logits, **{f"edge{i}": e for i, e in enumerate(edges)}}


class PointFlow(nn.Module):
    """Point flow module (section 3.2): carries a coarse map to the fine level at selected points.

    Args: see :class:`PFNet`; ``windows``: the rule of :mod:`motes.layers.pyramid`.

    ``forward`` takes the coarse [B, C, h, w] and the fine map [B, C, H, W] and returns the fine map, replaced at the
    points, and the edge logits [B, 1, h, w].
    """

    def __init__(
        self, channels: int, salient: int, average: int, edge_points: int, matcher_width: int, windows: str
    ) -> None:
        super().__init__()
        self.salient, self.edge_points, self.windows = salient, edge_points, windows
        self.down_h = nn.Conv2d(channels, matcher_width, 1)
        self.down_l = nn.Conv2d(channels, matcher_width, 1)
        self.point_matcher = PointMatcher(matcher_width)
        self.average = pooling(average, windows)
        self.edge_final = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 3, padding=1, bias=False),
        )

    def forward(self, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        certainty = self.point_matcher(self.down_h(high), self.down_l(low))
        edges = self.edge_final(high - high * resized(self.average(certainty), high))
        maxima, salient = window_maxima(certainty, self.salient, self.windows)
        exact = torch.promote_types(high.dtype, torch.float32)  # inner products of 256 channels overflow in 16 bits
        with full_precision(high):
            high, fine = high.to(exact), low.to(exact)
            at = strongest(edges.flatten(1), self.edge_points)
            edge_features = flowed(at_points(high, at), sampled(fine, at, high))
            brighter = high + high * resized(maxima.to(exact), high)
            targets = fine_index(salient, high, low)
            salient_features = flowed(at_points(brighter, salient), at_points(fine, targets))
            result = replaced(fine, fine_index(at, high, low), edge_features)
            result = replaced(result, targets, salient_features)
        return result.to(low.dtype), edges


class PointMatcher(nn.Module):
    """Certainty in [0, 1] that a point of the coarse map matters to the fine one: [B, c, h, w], [B, c, H, W] ->
    [B, 1, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.match_conv = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        logits = self.match_conv(torch.cat([high, resized(low, high)], dim=1))
        if torch.onnx.is_in_onnx_export():
            # ONNX Runtime's Sigmoid is 1.5e-8 from -18 down: points that differ would tie, and others be selected.
            return 1 / (1 + torch.exp(-logits))
        return torch.sigmoid(logits)


def flowed(high: Tensor, low: Tensor) -> Tensor:
    """Features of n points of the fine map with what flows to them from n of the coarse: [B, C, n] twice -> [B, C, n].

    Each fine point takes the mean of the coarse ones, weighted by the softmax of the (unscaled) inner products.
    """
    affinity = torch.softmax(torch.matmul(low.transpose(1, 2), high), dim=-1)
    return torch.matmul(high, affinity.transpose(1, 2)) + low


def strongest(scores: Tensor, count: int) -> Tensor:
    """Indices [B, n] of the ``count`` largest of ``scores`` [B, N] (all where N is less), the first of equals."""
    total = scores.shape[1]
    if torch.onnx.is_in_onnx_export():
        return scores.topk(torch.as_tensor(total).clamp(max=count), dim=1).indices  # takes the first of equals
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]


def at_points(x: Tensor, index: Tensor) -> Tensor:
    """[B, C, H, W] at the flat indices [B, n] -> [B, C, n]."""
    return x.flatten(2).gather(2, index.unsqueeze(1).expand(-1, x.shape[1], -1))


def replaced(x: Tensor, index: Tensor, features: Tensor) -> Tensor:
    """``x`` [B, C, H, W] with ``features`` [B, C, n] at the flat indices [B, n]."""
    return x.flatten(2).scatter(2, index.unsqueeze(1).expand(-1, x.shape[1], -1), features).reshape(x.shape)


def sampled(low: Tensor, index: Tensor, high: Tensor) -> Tensor:
    """The fine map, bilinear, at the centres of points [B, n] of the coarse one: [B, C, n]."""
    height, width = high.shape[-2:]
    row, column = (index // width).to(low.dtype), (index % width).to(low.dtype)
    centres = torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=-1)
    return F.grid_sample(low, (2 * centres - 1).unsqueeze(2), align_corners=False).squeeze(3)


def fine_index(index: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Flat indices [B, n] into the coarse map as such into the fine one, by the ratio of the heights."""
    width = high.shape[-1]
    ratio = low.shape[-2] / high.shape[-2]
    row, column = (index // width).float(), (index % width).float()
    return (column * ratio + row * ratio * low.shape[-1]).long()


def dilated(backbone: Backbone) -> Backbone:
    """Dilates the 3x3 convolutions of a ResNet's bottlenecks in the last two stages; strides stay, Res2Net has none."""
    for stage, dilation in DILATION.items():
        for block in getattr(backbone.body, stage, ()):
            if hasattr(block, "conv3") and hasattr(block, "conv2"):
                block.conv2.dilation = block.conv2.padding = (dilation, dilation)
    return backbone


VARIANTS: dict[str, dict[str, Any]] = {
    "r101": {"backbone": "resnet101s"},
    "jittor-r50": {"code": "jittor", "num_classes": 2},
    "gaofen-r2n101": {
        "code": "jittor",
        "backbone": "res2net101_26w_4s",
        "num_classes": 2,
        "input": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    },
    "upernet-r50": {"point_flow": False},
}
"""Constructor options of the card's variants."""
