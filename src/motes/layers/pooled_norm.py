"""The batch norm of channel gates: of features pooled over the frame, which leaves one value a frame and channel."""

from __future__ import annotations

from torch import Tensor, nn

from motes.errors import MotesError


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of [B, C, 1, 1]: in training it sees the batch alone, so B must be at least 2.

    Synchronised (``nn.SyncBatchNorm``), it sees the frames of all processes and takes B = 1.

    Raises:
        MotesError: training on a batch of one frame.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] == 1:
            raise MotesError(
                "this network cannot train on a batch of one frame: its batch norm of features pooled over the frame "
                "sees one value a channel",
                "use a batch size of at least 2",
            )
        return super().forward(x)
