"""Which detection finds which box: VOC's rule, COCO's, and by the distance of centres.

All functions get the detections of ONE class. Flags are 1 hit, -1 false alarm, 0 not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HIT, FALSE, NEITHER = 1, -1, 0


def box_iou(a: np.ndarray, b: np.ndarray, plus_one: bool = False) -> np.ndarray:
    """IoU of every pair, [N, M] in the dtype of ``a`` [N, 4] and ``b`` [M, 4] xyxy.

    With ``plus_one`` widths are x2 - x1 + 1 (boxes whose maxima are pixels). The union is at least 1e-6.
    """
    unit = a.dtype.type(plus_one)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low + unit).clip(0).prod(axis=2)
    union = box_areas(a, plus_one)[:, None] + box_areas(b, plus_one)[None] - common
    return common / np.maximum(union, a.dtype.type(1e-6))


def box_areas(boxes: np.ndarray, plus_one: bool = False) -> np.ndarray:
    """Areas [N] of boxes [N, 4], px."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2] + boxes.dtype.type(plus_one)).prod(axis=1))


def best_truths(boxes: np.ndarray, truths: np.ndarray, plus_one: bool) -> tuple[np.ndarray, np.ndarray]:
    """IoU [N] and index [N] of the truth that each detection of an image overlaps most; the first of equal ones.

    Without truths: 0 and -1.
    """
    if not len(truths) or not len(boxes):
        return np.zeros(len(boxes), boxes.dtype), np.full(len(boxes), -1)
    iou = box_iou(boxes, truths, plus_one)
    index = iou.argmax(axis=1)
    return iou[np.arange(len(boxes)), index], index


def voc_flags(iou: np.ndarray, truth: np.ndarray, ignored: np.ndarray, threshold: float) -> np.ndarray:
    """Flags [N] by VOC's rule: a detection may only take the truth it overlaps most.

    Args:
        iou: [N] with that truth; detections by descending score.
        truth: [N] its number, different in different images; -1 for none.
        ignored: bool, by number: not to be counted, however often it is hit.
        threshold: least IoU of a hit.
    """
    flags = np.full(len(iou), FALSE, np.int8)
    close = np.flatnonzero((iou >= threshold) & (truth >= 0))
    on_ignored = ignored[truth[close]]
    flags[close[on_ignored]] = NEITHER
    close = close[~on_ignored]
    first = np.unique(truth[close], return_index=True)[1]
    flags[close[first]] = HIT
    return flags


def coco_flags(
    boxes: np.ndarray,
    truths: np.ndarray,
    ignored: np.ndarray,
    thresholds: Sequence[float],
    bands: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Flags int8 [bands, thresholds, N] of an image by COCO's rule: the best truth that is still free.

    Args:
        boxes: [N, 4] by descending score.
        truths: [M, 4].
        ignored: bool [M]; takes any number of detections out of the count.
        thresholds: of the IoU, inclusive.
        bands: (low, high) of the square root of the area, px, low inclusive. Truths outside count as ignored (once
            each, as in COCO), detections outside that hit nothing are not counted.
    """
    limits = np.square(np.asarray(bands, np.float64))
    out = np.full((len(bands), len(thresholds), len(boxes)), FALSE, np.int8)
    inside = _inside(box_areas(boxes), limits)
    out[np.broadcast_to(~inside[:, None], out.shape)] = NEITHER
    if not len(truths) or not len(boxes):
        return out
    aside = ignored[None] | ~_inside(box_areas(truths), limits)
    least = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)[:, None]
    iou = box_iou(boxes, truths)
    taken = np.zeros((len(bands), len(thresholds), len(truths)), bool)
    rows, columns = np.ogrid[: len(bands), : len(thresholds)]
    for d in np.flatnonzero(iou.max(axis=1) >= least.min()).tolist():
        worth = np.where((iou[d] >= least)[None] & ~taken, iou[d] + 2 * ~aside[:, None], -1)
        # Of equal overlaps COCO takes the last.
        chosen = worth.shape[2] - 1 - worth[..., ::-1].argmax(axis=2)
        found = worth[rows, columns, chosen] >= 0
        flags = np.where(aside[rows, chosen], NEITHER, HIT)
        out[..., d] = np.where(found, flags, out[..., d])
        taken[rows, columns, chosen] |= found & ~ignored[chosen]
    return out


def centre_flags(boxes: np.ndarray, truths: np.ndarray, ignored: np.ndarray, distance: float) -> np.ndarray:
    """The flags [N] of `centre_pairs`."""
    return centre_pairs(boxes, truths, ignored, distance)[0]


def centre_pairs(
    boxes: np.ndarray, truths: np.ndarray, ignored: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Each detection of an image, by descending score, takes the nearest free truth within reach.

    Args:
        boxes: [N, 4] by descending score.
        truths: [M, 4].
        ignored: bool [M]; a detection that reaches such a one only is not counted.
        distance: of the centres, px; strict.

    Returns:
        Flags int8 [N], and whether each truth was found, bool [M].
    """
    out, found = np.full(len(boxes), FALSE, np.int8), np.zeros(len(truths), bool)
    if not len(boxes) or not len(truths):
        return out, found
    x, y = (np.subtract.outer(_centres(boxes)[:, k], _centres(truths)[:, k]) for k in (0, 1))
    apart = np.sqrt(x * x + y * y)
    near = apart < distance
    out[near[:, ignored].any(axis=1)] = NEITHER
    for d in np.flatnonzero(near[:, ~ignored].any(axis=1)).tolist():
        reach = np.where(near[d] & ~ignored & ~found, apart[d], np.inf)
        k = int(reach.argmin())
        if np.isfinite(reach[k]):
            out[d], found[k] = HIT, True
    return out, found


def proposal_ious(boxes: np.ndarray, truths: np.ndarray, plus_one: bool = False) -> np.ndarray:
    """IoU [M] that each truth of an image gets when pairs are taken one-to-one, the best pair first; 0 without one."""
    out = np.zeros(len(truths), np.float64)
    iou = box_iou(boxes, truths, plus_one) if len(boxes) and len(truths) else np.zeros((0, 0), boxes.dtype)
    for _ in range(min(iou.shape)):
        d, t = np.unravel_index(iou.argmax(), iou.shape)
        out[t] = max(iou[d, t], 0)
        iou[d], iou[:, t] = -1, -1
    return out


def _centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2


def _inside(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """bool [bands, N]."""
    return np.asarray((areas >= limits[:, :1]) & (areas < limits[:, 1:]))
