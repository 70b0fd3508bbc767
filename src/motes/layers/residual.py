"""Stem, residual stages, head and initialisation that ACM and ALCNet share (both by the same authors)."""

from __future__ import annotations

from torch import Tensor, nn

CHANNELS = (16, 32, 64)
"""Of the three stages; the stem ends in the first."""

ENCODER = ("stem.", "layer1.", "layer2.", "layer3.")
"""What all of these networks have in common: a backbone that one may start from the other's."""

NORM_NAMES = [(r"\.gamma$", ".weight"), (r"\.beta$", ".bias")]
"""Gluon's leaf names and ours."""

FIXED_NORM = r"(^|\.)stem\.0\.(gamma|beta)$"
"""Gluon stores gain and shift of the input's batch norm though they are never trained: they stay 1 and 0."""

PLAIN_BLOCK_NAMES = [
    (r"(layer\d\.\d+)\.conv1\.", r"\1.body.0."),
    (r"(layer\d\.\d+)\.bn1\.", r"\1.body.1."),
    (r"(layer\d\.\d+)\.conv2\.", r"\1.body.3."),
    (r"(layer\d\.\d+)\.bn2\.", r"\1.body.4."),
]
"""BasicIRSTD writes its residual blocks as torchvision does."""


def stem(in_channels: int, tiny: bool = False, learn_input_norm: bool = False) -> nn.Sequential:
    """[B, C, H, W] -> [B, 16, H/4, W/4], or [B, 16, H, W] if ``tiny``.

    The first layer is a batch norm of the input; gain and shift only if ``learn_input_norm``.
    """
    layers: list[nn.Module] = [InputNorm(in_channels, affine=learn_input_norm)]
    widths = (16,) if tiny else (8, 8, 16)
    for i, width in enumerate(widths):
        stride = 1 if tiny or i else 2
        layers += [nn.Conv2d(in_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers, *([] if tiny else [nn.MaxPool2d(3, 2, 1)]))


class InputNorm(nn.BatchNorm2d):
    """Batch norm of images: of a few channels it is many times faster in planes than with channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if self.training and x.device.type == "cpu" else x)


def stage(in_channels: int, channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """``blocks`` residual blocks; the first changes channels and resolution."""
    first = ResidualBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(ResidualBlock(channels, channels) for _ in range(blocks - 1)))


class ResidualBlock(nn.Module):
    """ReLU(two 3x3 convolutions + shortcut); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.body(x) + shortcut)


class Head(nn.Module):
    """Logits [B, K, H, W] from a map [B, C, H, W]."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        middle = in_channels // 4
        self.block = nn.Sequential(
            nn.Conv2d(in_channels, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(middle, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def initialise(net: nn.Module, slope: float = 0.25) -> None:
    """The authors' start (MSRAPrelu): normal kernels, variance 2 / (1 + slope^2) / mean(fan in, fan out), biases 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fans = module.weight[0].numel() + module.weight[:, 0].numel()
            nn.init.normal_(module.weight, std=(2 / (1 + slope**2) / (fans / 2)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
