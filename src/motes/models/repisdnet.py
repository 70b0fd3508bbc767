"""RepISD-Net: a small U-shaped network of re-parameterised edge-compensation blocks with a pyramid-pooling head.

Wu, Xiao, Wang, Wang, Yang, An, "RepISD-Net: Learning Efficient Infrared Small-Target Detection Network via Structural
Re-Parameterization", IEEE TGRS 2023. One network, three forms with the same output:

- ``train``: every block has parallel branches (3x3, central difference + 1x1, identity), each with its batch norm;
- ``converted``: the central difference is an ordinary 3x3 convolution with changed weights (same names and shapes);
- ``deploy``: every block is one 3x3 convolution with bias.

Parameter names are the published ones. The published code merges a block without the bias of its 1x1 convolution, which
shows with any weights whose bias is not about zero; here the bias is kept, so all three forms agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.errors import MotesError

PUBLISHED_NAMES = [(r"\brbr_pdc\.conv_pdc\b", "rbr_cdc.conv_cdc")]
"""Two of the three published weight files spell the edge branch as the paper's first draft did."""

FORMS = ("train", "converted", "deploy")
BINS = (1, 2, 3, 6)


class RepISDNet(nn.Module):
    """RepISD-Net (section III of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for published weights.
        num_classes: foreground classes K (published: 1); the head has K + 1 channels, the first of which is unused.
        form: ``train``, ``converted`` or ``deploy``.

    ``forward`` takes [B, C, H, W] with H, W >= 4 and returns logits [B, K, H, W], in training a tuple of them alone.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 1, form: str = "train") -> None:
        super().__init__()
        if form not in FORMS:
            raise MotesError(f"RepISD-Net has no form '{form}'", f"one of {', '.join(FORMS)}")
        self.in_channels, self.num_classes, self.form = in_channels, num_classes, form
        self.backbone = Backbone(in_channels, form)
        self.ppm = PyramidPooling(32, 8)
        self.cls = nn.Sequential(
            nn.Conv2d(64, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(32, num_classes + 1, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._head(images)[:, 1:]
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: what the authors' code returns, [B, 2, H, W] after the sigmoid; ``logits0``: before it."""
        logits = self._head(images)
        return {"out0": torch.sigmoid(logits), "logits0": logits}

    def _head(self, images: Tensor) -> Tensor:
        return self.cls(self.ppm(self.backbone(images)))

    @torch.no_grad()
    def converted(self) -> RepISDNet:
        """The converted form of a network in training form (a copy)."""
        if self.form != "train":
            raise MotesError(f"only the training form can be converted, this network is in form '{self.form}'")
        net = RepISDNet(self.in_channels, self.num_classes, "converted")
        net.load_state_dict(self.state_dict())
        for module in net.modules():
            if isinstance(module, CentralDifference):
                module.conv1.weight.copy_(central_difference(module.conv1.weight))
        return net.train(self.training)

    @torch.no_grad()
    def reparameterize(self) -> RepISDNet:
        """The deploy form with the same output in eval mode (a copy); a network already in it is returned as it is."""
        if self.form == "deploy":
            return self
        net = RepISDNet(self.in_channels, self.num_classes, "deploy")
        blocks = {name: m for name, m in self.named_modules() if isinstance(m, EdgeBlock)}
        state = {k: v for k, v in self.state_dict().items() if not any(k.startswith(f"{name}.") for name in blocks)}
        for name, block in blocks.items():
            state[f"{name}.rbr_reparam.weight"], state[f"{name}.rbr_reparam.bias"] = block.merged()
        net.load_state_dict(state)
        return net.train(self.training)


class Backbone(nn.Module):
    """U shape with two levels: [B, C, H, W] -> [B, 32, H, W]."""

    def __init__(self, in_channels: int, form: str) -> None:
        super().__init__()
        self.inc = Stem(in_channels, 32)
        self.down1 = Down(32, 64, form)
        self.down2 = Down(64, 64, form)
        self.up3 = Up(128, 64, 32, form)
        self.up4 = Up(64, 32, 32, form)

    def forward(self, images: Tensor) -> Tensor:
        full = self.inc(images)
        half = self.down1(full)
        quarter = self.down2(half)
        return self.up4(self.up3(quarter, half), full)


class Stem(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class TwoBlocks(nn.Module):
    def __init__(self, in_channels: int, middle: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(EdgeBlock(in_channels, middle, form), EdgeBlock(middle, out_channels, form))

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), TwoBlocks(in_channels, out_channels, out_channels, form))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels: int, middle: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = TwoBlocks(in_channels, middle, out_channels, form)

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        up = self.up(low)
        # An odd side loses its last row to the pooling; the published code puts zeros there.
        up = F.pad(up, (0, skip.shape[-1] - up.shape[-1], 0, skip.shape[-2] - up.shape[-2]))
        return self.conv(torch.cat([skip, up], dim=1))


class PyramidPooling(nn.Module):
    """Concatenates the features with four context maps: [B, 32, H, W] -> [B, 64, H, W]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins),
                nn.Conv2d(in_channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for bins in BINS
        )

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        context = [F.interpolate(f(x), size, mode="bilinear", align_corners=True) for f in self.features]
        return torch.cat([x, *context], dim=1)


class EdgeBlock(nn.Module):
    """Edge compensation block (ECB): ReLU of the sum of its branches, or of the one convolution they merge into."""

    def __init__(self, in_channels: int, out_channels: int, form: str) -> None:
        super().__init__()
        self.form = form
        if form == "deploy":
            self.rbr_reparam = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            return
        if in_channels == out_channels:
            self.rbr_identity = nn.BatchNorm2d(in_channels)
        self.rbr_dense = ConvNorm(in_channels, out_channels)
        self.rbr_cdc = EdgeBranch(in_channels, out_channels, plain=form == "converted")

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "deploy":
            return F.relu(self.rbr_reparam(x))
        y = self.rbr_dense(x) + self.rbr_cdc(x)
        if hasattr(self, "rbr_identity"):
            y = y + self.rbr_identity(x)
        return F.relu(y)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Kernel [out, in, 3, 3] and bias [out] of the one convolution that equals all branches in eval mode."""
        kernel, bias = folded(self.rbr_dense.conv.weight, None, self.rbr_dense.bn)
        edge = self.rbr_cdc.conv_cdc
        point = F.pad(edge.conv2.weight, (1, 1, 1, 1))
        parts = [folded(edge.kernel(), None, edge.bn1), folded(point, edge.conv2.bias, edge.bn2)]
        if hasattr(self, "rbr_identity"):
            unit = F.pad(
                torch.eye(kernel.shape[0], device=kernel.device, dtype=kernel.dtype)[..., None, None], (1, 1, 1, 1)
            )
            parts.append(folded(unit, None, self.rbr_identity))
        return kernel + sum(k for k, _ in parts), bias + sum(b for _, b in parts)


class ConvNorm(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class EdgeBranch(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, plain: bool) -> None:
        super().__init__()
        self.conv_cdc = CentralDifference(in_channels, out_channels, plain)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_cdc(x)


class CentralDifference(nn.Module):
    """Central-difference convolution plus a 1x1 convolution, each with its batch norm."""

    def __init__(self, in_channels: int, out_channels: int, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def kernel(self) -> Tensor:
        """The 3x3 kernel that is really applied, [out, in, 3, 3]."""
        return self.conv1.weight if self.plain else central_difference(self.conv1.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(F.conv2d(x, self.kernel(), padding=1)) + self.bn2(self.conv2(x))

    def published_extra_macs(self, output: Tensor) -> int:
        """Multiply-accumulates that the authors' code spends and this does not: the subtracted 1x1 convolution."""
        return 0 if self.plain else output.numel() * self.conv1.in_channels


def central_difference(weight: Tensor) -> Tensor:
    """The plain kernel equal to a central-difference convolution with ``weight`` [out, in, 3, 3].

    Subtracting a 1x1 convolution with the kernel's sum changes only the centre tap, zero-padded borders included, so
    one convolution does the work of two.
    """
    return weight - F.pad(weight.sum((2, 3), keepdim=True), (1, 1, 1, 1))


def folded(kernel: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of ``norm(conv(x))`` in eval mode as one convolution."""
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    return kernel * gain[:, None, None, None], norm.bias + shift * gain


VARIANTS = {"converted": {"form": "converted"}, "deploy": {"form": "deploy"}}
"""Constructor options of the card's variants."""


def variant_of(state: Mapping[str, Any]) -> str | None:
    """The variant whose weights these are (own names, arrays): deploy by its names, converted by its numbers.

    Training and converted form share all names, but a converted kernel sums to zero over its window.
    """
    if any(".rbr_reparam." in name for name in state):
        return "deploy"
    kernels = [torch.as_tensor(v) for n, v in state.items() if n.endswith("conv_cdc.conv1.weight")]
    zero_sum = bool(kernels) and all(k.sum((2, 3)).abs().max() < 1e-4 * k.abs().max() for k in kernels)
    return "converted" if zero_sum else None
