"""What a reference's outputs are held against: a mask, or the classes' ids; and the metrics of either."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from motes.checkpoints.filled import fill_input
from motes.errors import CheckpointError
from motes.export.parity import probabilities
from motes.metrics import ClassScore, SegmentationScore

METRICS = ("iou", "niou", "pd", "fa", "miou", "oa")
IGNORED = 255


def filled_target(task: str, batch: int, classes: int, height: int, width: int) -> np.ndarray:
    """A target that follows from its shape alone: a mask [B, K, H, W], for ``aerial`` ids [B, H, W]."""
    noise = fill_input((batch, classes, height, width), "target")
    if task != "aerial":
        return (noise > 0.6).astype(np.float32)
    ids: np.ndarray = noise.argmax(1).astype(np.int64)
    return ids


def as_target(task: str, target: np.ndarray, where: object) -> np.ndarray:
    """A target as it is compared: a mask [B, K, H, W], or int64 ids [B, H, W] of any numbers that are whole.

    Raises:
        CheckpointError: an aerial target that is not [B, H, W] or [B, 1, H, W], or has fractions.
    """
    if task != "aerial":
        return target[:, None] if target.ndim == 3 else target
    ids = target[:, 0] if target.ndim == 4 and target.shape[1] == 1 else target
    if ids.ndim != 3 or (ids != np.floor(ids)).any():
        raise CheckpointError(f"{where}: a target of {list(target.shape)} {target.dtype}, expected class ids [B, H, W]")
    return ids.astype(np.int64)


def tensor_of(target: np.ndarray) -> Tensor:
    """For a loss: float32, but ids stay whole numbers."""
    kind = np.int64 if is_ids(target) else np.float32
    return torch.from_numpy(np.ascontiguousarray(target, kind))


def is_ids(target: np.ndarray) -> bool:
    return target.ndim == 3


def fits(logits: np.ndarray, target: np.ndarray) -> bool:
    """Do the shapes belong together?"""
    if is_ids(target):
        return logits.ndim == 4 and (logits.shape[0], *logits.shape[2:]) == target.shape
    return logits.shape == target.shape


def metrics_of(logits: np.ndarray, target: np.ndarray, protocol: str) -> dict[str, np.ndarray]:
    """Metrics of logits [B, K, H, W]; those that are 0 / 0 are left out.

    A mask of one class: ``iou``, ``niou``, ``pd``, ``fa`` under ``protocol``. Ids: ``miou``, ``oa`` and ``iou`` [K], in
    which a class that occurs nowhere has 0.
    """
    if is_ids(target):
        score = ClassScore(logits.shape[1], IGNORED)
        for prediction, label in zip(logits.argmax(1), target, strict=True):
            score.update(prediction, label)
        found = score.compute(intervals=False)
        each = [found[f"iou/{name}"].value or 0.0 for name in score.names]
        return {"iou": np.array(each)} | scalars(found, ("miou", "oa"))
    if logits.shape[1] > 1:
        return {}
    of_mask = SegmentationScore(protocol)
    for probability, label in zip(probabilities(logits)[:, 0], target[:, 0] > 0.5, strict=True):
        of_mask.update(probability.astype(np.float32), label)
    return scalars(of_mask.compute(intervals=False), ("iou", "niou", "pd", "fa"))


def scalars(found: dict, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {n: np.asarray(found[n].value) for n in names if n in found and found[n].value is not None}
