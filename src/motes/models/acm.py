"""ACM: a small residual encoder whose U-Net or FPN decoder joins its levels by asymmetric contextual modulation.

Dai, Wu, Zhou, Barnard, "Asymmetric Contextual Modulation for Infrared Small Target Detection", WACV 2021, arXiv
2009.14530 (which also brought SIRST). Three public code bases, three slightly different networks, all of them here:

- the authors' (YimianDai/open-acm, Gluon): ``host`` U-Net (the default) or FPN, eight ways of fusion. Code and text
  describe a stem of stride 4; the one trained file that the authors published has the ``tiny`` stem of stride 1;
- ``port-*`` (Tianfang-Zhang/acm-pytorch): corners not aligned when resizing, input norm learned, a 1x1 convolution
  before the U-Net's fusions too;
- ``basicirstd`` (XinyiYing/BasicIRSTD): one channel, 3 blocks a stage, corners not aligned, input norm learned, returns
  probabilities. Numbers published for "ACM" in comparisons are mostly this network's.

Reproduced because weights need it: bilinear resizing with aligned corners (authors'). Corrected because none does:
BasicIRSTD's batch-norm momentum of 0.9 outside the residual blocks (Gluon's 0.9 is PyTorch's 0.1, which all norms have
here).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from motes.errors import CardError
from motes.layers.fast_gradients import enlarged
from motes.layers.modulation import fusion as make_fusion
from motes.layers.residual import (
    CHANNELS,
    ENCODER,
    FIXED_NORM,
    NORM_NAMES,
    PLAIN_BLOCK_NAMES,
    Head,
    initialise,
    stage,
    stem,
)
from motes.naming import look_up

PUBLISHED_NAMES = [*NORM_NAMES, *PLAIN_BLOCK_NAMES]
UNUSED_NAMES = [FIXED_NORM]
BACKBONE = ENCODER

HOSTS = ("unet", "fpn")


class ACM(nn.Module):
    """ACM (section 4 of the paper).

    Args:
        in_channels: bands of the input; grey frames are repeated to 3 for the authors' and the port's networks.
        num_classes: foreground classes K.
        host: ``unet`` (decoder of transposed convolutions and residual stages) or ``fpn`` (decoder of resizes alone).
        fusion: how a decoder level meets the encoder's: ``asymbi`` is the paper's, the others are what it compares with
            (:data:`motes.layers.modulation.FUSIONS`).
        blocks: residual blocks in each stage.
        tiny: one convolution of stride 1 as stem, so that all levels are 4 times as large.
        learn_input_norm: gain and shift in the batch norm of the input.
        reduce: in a U-Net, a 1x1 convolution before each fusion (an FPN always has it).
        align_corners: of the bilinear resizing.
        probabilities: the published code ends in a sigmoid (concerns ``published_outputs`` alone).

    ``forward`` takes [B, C, H, W] with sides that are multiples of ``input_limits["stride"]`` and returns logits
    [B, K, H, W], in training a tuple of them alone. Fusions with a gate pooled over the frame train on two frames a
    batch or more.

    Raises:
        CardError: unknown host, or no blocks.
        MotesError: unknown fusion; training such a fusion with one frame a batch.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        host: str = "unet",
        fusion: str = "asymbi",
        blocks: int = 4,
        tiny: bool = False,
        learn_input_norm: bool = False,
        reduce: bool = False,
        align_corners: bool = True,
        probabilities: bool = False,
    ) -> None:
        super().__init__()
        look_up("host of acm", host, HOSTS, CardError)
        if blocks < 1:
            raise CardError(f"acm: blocks must be at least 1, found {blocks}")
        self.host, self.align_corners, self.probabilities = host, align_corners, probabilities
        deepest = (1 if tiny else 4) * (4 if host == "unet" else 2)
        self.input_limits = {"stride": deepest, "min_size": deepest}

        c1, c2, c3 = CHANNELS
        self.stem = stem(in_channels, tiny, learn_input_norm)
        self.layer1 = stage(c1, c1, blocks)
        self.layer2 = stage(c1, c2, blocks, stride=2)
        self.layer3 = stage(c2, c3, blocks, stride=2)
        if host == "unet":
            self.deconv2 = nn.ConvTranspose2d(c3, c2, 4, 2, 1)
            self.fuse2 = make_fusion(fusion, c2, c2 if reduce else None)
            self.uplayer2 = stage(c2, c2, blocks)
            self.deconv1 = nn.ConvTranspose2d(c2, c1, 4, 2, 1)
            self.fuse1 = make_fusion(fusion, c1, c1 if reduce else None)
            self.uplayer1 = stage(c1, c1, blocks)
        else:
            self.fuse23 = make_fusion(fusion, c2, c3)
            self.fuse12 = make_fusion(fusion, c1, c2)
        self.head = Head(c1, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor]:
        logits = self._logits(images)
        return (logits,) if self.training else logits

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``: what the published code returns, logits or (BasicIRSTD) probabilities; ``logits0``: the logits."""
        logits = self._logits(images)
        return {"out0": torch.sigmoid(logits) if self.probabilities else logits, "logits0": logits}

    def _logits(self, images: Tensor) -> Tensor:
        c1 = self.layer1(self.stem(images))
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        if self.host == "unet":
            up = self.uplayer2(self.fuse2(self.deconv2(c3), c2))
            up = self.uplayer1(self.fuse1(self.deconv1(up), c1))
        else:
            up = self.fuse23(self._resized(c3, c2), c2)
            up = self.fuse12(self._resized(up, c1), c1)
        return self._resized(self.head(up), images)

    def _resized(self, x: Tensor, like: Tensor) -> Tensor:
        """``x`` at the height and width of ``like``."""
        if x.shape[-2:] == like.shape[-2:]:
            return x
        return enlarged(x, like.shape[-2:], self.align_corners)


MODES = ("bilocal", "biglobal", "topdownlocal", "topdownglobal", "sk", "concat", "directadd")
PORT = {"learn_input_norm": True, "align_corners": False}

VARIANTS: dict[str, dict[str, Any]] = {
    "fpn": {"host": "fpn"},
    "unet-tiny": {"tiny": True},
    "fpn-tiny": {"host": "fpn", "tiny": True},
    **{f"{host}-{mode}": {"host": host, "fusion": mode, "blocks": 1} for host in HOSTS for mode in MODES},
    "port-unet": {**PORT, "reduce": True},
    "port-unet-bilocal": {**PORT, "reduce": True, "fusion": "bilocal"},
    "port-unet-biglobal": {**PORT, "reduce": True, "fusion": "biglobal"},
    "port-fpn": {**PORT, "host": "fpn"},
    "port-fpn-bilocal": {**PORT, "host": "fpn", "fusion": "bilocal"},
    "port-fpn-biglobal": {**PORT, "host": "fpn", "fusion": "biglobal"},
    "basicirstd": {**PORT, "in_channels": 1, "blocks": 3, "probabilities": True},
}
"""Constructor options of the card's variants; those of one block a stage are the reference cases of the fusions."""
