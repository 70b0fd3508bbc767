"""PyTorch as a backend of detection and evaluation."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from motes.cards import Card
from motes.models import any_size
from motes.models.folding import fold_norms


class TorchBackend:
    """Runs a network in eval mode: ``run`` takes [B, C, H, W] float32 and returns logits [B, K, H, W] float32;
    ``candidates`` is that of detectors.

    Args:
        net: put into eval mode; otherwise not changed.
        card: says how its input is made.
        device: where it runs.
        as_is: run exactly this network. Otherwise a copy runs, with the batch norms of its chains folded into the
            convolutions, on the CPU with channels last: the same maths (logits differ by rounding), in half the time.
    """

    def __init__(self, net: nn.Module, card: Card, device: torch.device | str = "cpu", *, as_is: bool = False) -> None:
        self.card, self.device = card, torch.device(device)
        net = net.eval().to(self.device)
        self._format = torch.contiguous_format
        if not as_is:
            net = copy.deepcopy(net)
            fold_norms(net)
            if self.device.type == "cpu":
                self._format = torch.channels_last
                net = net.to(memory_format=torch.channels_last)
        self.net = net if card.task == "detection" else any_size(net)

    def run(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.net(self._images(batch)).float().cpu().contiguous().numpy()
        return logits

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """[B, C, H, W] float32 -> what a detector says before doubles are suppressed, by name."""
        with torch.inference_mode():
            found = self.net.candidates(self._images(batch))
        return {name: value.cpu().contiguous().numpy() for name, value in found.items()}

    def _images(self, batch: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(batch).to(self.device).contiguous(memory_format=self._format)
