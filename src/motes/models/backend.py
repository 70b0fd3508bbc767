"""PyTorch as a backend of detection and evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from motes.cards import Card
from motes.models import any_size


class TorchBackend:
    """Runs a network in eval mode: ``run`` takes [B, C, H, W] float32 and returns logits [B, K, H, W] float32."""

    def __init__(self, net: nn.Module, card: Card, device: torch.device | str = "cpu") -> None:
        self.card, self.device = card, torch.device(device)
        self.net = any_size(net.eval().to(self.device))

    def run(self, batch: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(batch).to(self.device)
        with torch.inference_mode():
            return self.net(images).float().cpu().numpy()
