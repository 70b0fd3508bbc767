"""Attention gates of one number a channel and one number a pixel.

Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018, section 3. A gate returns its
weights; whoever calls it multiplies. The CBAM of RDIAN has other layers and its own place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from motes.layers.fast_gradients import mean_and_largest, pooled


class ChannelAttention(nn.Module):
    """Weights in (0, 1) of the channels, from their mean and maximum over the frame: [B, C, H, W] -> [B, C, 1, 1].

    Args:
        channels: C.
        reduction: channels for one hidden unit; where C is smaller there is one unit.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = pooled(x)
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))) + self.fc2(torch.relu(self.fc1(largest))))


class SpatialAttention(nn.Module):
    """Weights in (0, 1) of the pixels, from mean and maximum of their channels: [B, C, H, W] -> [B, 1, H, W].

    Args:
        kernel: side of the convolution over the two maps; odd.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(mean_and_largest(x)))
