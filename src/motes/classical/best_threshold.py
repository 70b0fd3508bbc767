"""The rule "best-of-256": one threshold for a data set, chosen by its labels."""

from __future__ import annotations

import numpy as np

from motes.metrics.curves import above, count_levels


class BestOf256:
    """The threshold on u, of 256 between 0 and 1, with the best IoU of a data set, and the one with the best nIoU.

    Thresholds are (i + 0.5) / 256 for i = 0..255, strict, the same for all frames. nIoU is the mean IoU of the frames;
    a frame with neither target nor prediction at a threshold does not count there. ``update`` with every frame, then
    ``iou`` and ``niou`` hold (value, threshold).
    """

    def __init__(self) -> None:
        self.thresholds = (np.arange(256) + 0.5) / 256
        self._both = np.zeros((2, 256), np.int64)  # intersection and union
        self._sum = np.zeros(256)
        self._frames = np.zeros(256, np.int64)

    def update(self, probability: np.ndarray, label: np.ndarray) -> None:
        """One frame: u (the probability under the rule) [H, W] float and its mask [H, W] bool."""
        false, true = above(count_levels(probability, label, self.thresholds))
        union = np.count_nonzero(label) + false
        self._both += np.stack([true, union])
        self._sum += true / np.maximum(union, 1)
        self._frames += union > 0

    @property
    def iou(self) -> tuple[float, float]:
        """(best IoU, its threshold); NaN where no frame holds anything."""
        return self._best(self._both[0], self._both[1])

    @property
    def niou(self) -> tuple[float, float]:
        """(best nIoU, its threshold); NaN where no frame holds anything."""
        return self._best(self._sum, self._frames)

    def _best(self, part: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
        with np.errstate(invalid="ignore"):
            values = part / whole
        if np.isnan(values).all():
            return float("nan"), float("nan")
        best = int(np.nanargmax(values))
        return float(values[best]), float(self.thresholds[best])
