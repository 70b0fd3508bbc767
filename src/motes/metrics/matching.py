"""Which predicted component belongs to which target, and what is a false alarm."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from motes.metrics.components import Components
from motes.metrics.protocols import Protocol


@dataclass(frozen=True)
class Hits:
    """Targets of one image under a protocol's rule.

    ``missed`` includes the phantom miss and ``false_blobs`` the phantom false alarm of protocols that have them.
    """

    detected: int
    missed: int
    false_pixels: int
    false_blobs: int
    pair_iou: float = 0.0
    """Sum of the IoU of the pairs behind ``detected`` (rule ``diameter``)."""


@dataclass(frozen=True)
class Quality:
    """What hIoU and its error taxonomy add up, for one image."""

    matched: int = 0
    false: int = 0
    missed: int = 0
    interference: int = 0  # predictions near no target
    perception: int = 0  # targets near no prediction
    m2s: int = 0  # several predictions compete for one target
    s2m: int = 0  # one prediction serves several targets
    seg_iou: float = 0.0
    seg_mrg: float = 0.0
    seg_itf: float = 0.0
    seg_pcp: float = 0.0


def hits(targets: Components, found: Components, rule: Protocol) -> Hits:
    """Detected targets and false alarms of one image."""
    if rule.matching == "shooting":
        return _shooting(targets, found)
    if rule.matching == "opdc":
        rows, columns = opdc(targets, found, rule)
    elif rule.matching == "greedy":
        rows, columns = greedy(targets, found, rule.distance)
    else:
        rows, columns = diameter(targets, found)
    detected = len(rows) if rule.matching != "diameter" else len(np.unique(rows))
    areas = found.areas
    false = np.ones(len(found), bool)
    false[columns] = False
    if rule.false_alarms == "membership":
        false &= ~np.isin(areas, areas[columns])
    return Hits(
        detected,
        len(targets) - detected + (rule.phantoms and len(targets) == 0),
        int(areas[false].sum()),
        int(np.count_nonzero(false)) + (rule.phantoms and len(found) == 0),
        float(_ious(targets, found)[0][rows, columns].sum()) if rule.matching == "diameter" and len(rows) else 0.0,
    )


def greedy(targets: Components, found: Components, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Each target, in raster order, takes the FIRST free component nearer than ``distance``: (targets, components).

    Neither the nearest nor the best assignment, and it depends on raster order, so a flipped image may score
    differently. It is what the field computes.
    """
    rows, columns = _near_pairs(targets, found, distance)
    if len(np.unique(rows)) == len(rows) and len(np.unique(columns)) == len(columns):
        return rows, columns  # nobody competes: the usual case
    kept, taken_rows, taken_columns = [], set(), set()
    for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            kept.append(k)
    return rows[kept], columns[kept]


def diameter(targets: Components, found: Components) -> tuple[np.ndarray, np.ndarray]:
    """Each component hits the first target nearer than half its equivalent diameter; a target may be hit twice."""
    radius = np.sqrt(targets.areas / np.pi)
    near = _distances(targets, found) < radius[:, None]
    columns = np.flatnonzero(near.any(axis=0)) if len(targets) else np.zeros(0, np.intp)
    rows = near[:, columns].argmax(axis=0) if len(columns) else np.zeros(0, np.intp)
    return rows, columns


def opdc(targets: Components, found: Components, rule: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Overlap priority with distance compensation: the matching of hIoU.

    The assignment of least total distance over all components keeps its pairs of IoU >= ``rule.overlap``; the
    assignment over what is still free keeps its pairs nearer than ``rule.distance``.

    Targets and components in a line have many assignments of the same total, and the paper does not say which one
    counts. Here it is one with the most pairs that are kept, so mirrored images agree; pyirstdmetrics (``phantoms``)
    takes the one its solver happens to return.
    """
    if not len(targets) or not len(found):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    distances = _distances(targets, found)
    iou = _ious(targets, found)[0]
    bonus = 0.0 if rule.phantoms else 1e-6  # far below any real difference, px
    rows, columns = np.zeros(0, np.intp), np.zeros(0, np.intp)
    if (iou >= rule.overlap).any():
        rows, columns = _assign(distances - bonus * (iou + (iou >= rule.overlap)))
        good = iou[rows, columns] >= rule.overlap
        rows, columns = rows[good], columns[good]
    free = np.ix_(np.setdiff1d(np.arange(len(targets)), rows), np.setdiff1d(np.arange(len(found)), columns))
    rest = distances[free]
    if (rest < rule.distance).any():
        i, j = _assign(rest - bonus * (iou[free] + (rest < rule.distance)))
        good = rest[i, j] < rule.distance
        rows, columns = np.r_[rows, free[0][i[good], 0]], np.r_[columns, free[1][0, j[good]]]
    return rows, columns


def quality(targets: Components, found: Components, rule: Protocol) -> Quality:
    """hIoU's counts of one image, under OPDC matching whatever the protocol's rule for Pd is."""
    if not len(targets) or not len(found):
        no_target = int(rule.phantoms and not len(targets))
        no_prediction = int(rule.phantoms and not len(found))
        missed, false = len(targets) + no_target, len(found) + no_prediction
        return Quality(false=false, missed=missed, interference=false, perception=missed)
    rows, columns = opdc(targets, found, rule)
    iou, common = _ious(targets, found)
    near = (iou >= rule.overlap) | (_distances(targets, found) < rule.distance)
    interference = int(np.count_nonzero(~near.any(axis=0)))
    perception = int(np.count_nonzero(~near.any(axis=1)))
    false, missed = len(found) - len(rows), len(targets) - len(rows)
    inter = common[rows, columns]
    on_targets = common[:, columns].sum(axis=0)
    area_target, area_found = targets.areas[rows], found.areas[columns]
    union = area_target + area_found - inter
    return Quality(
        matched=len(rows),
        false=false,
        missed=missed,
        interference=interference,
        perception=perception,
        m2s=false - interference,
        s2m=missed - perception,
        seg_iou=float((inter / union).sum()),
        seg_mrg=float(((on_targets - inter) / union).sum()),
        seg_itf=float(((area_found - on_targets) / union).sum()),
        seg_pcp=float(((area_target - inter) / union).sum()),
    )


def _shooting(targets: Components, found: Components) -> Hits:
    target, prediction = (targets.labels > 0).view(np.uint8), (found.labels > 0).view(np.uint8)
    shot = cv2.dilate(prediction, np.ones((3, 3), np.uint8)) * target
    detected = len(np.unique(targets.labels[shot > 0]))
    far = prediction * (cv2.dilate(target, np.ones((9, 9), np.uint8)) == 0)
    pixels = int(np.count_nonzero(far))
    blobs = int(cv2.connectedComponents(far, connectivity=8)[0]) - 1 if pixels else 0
    return Hits(detected, len(targets) - detected, pixels, blobs)


def _distances(targets: Components, found: Components) -> np.ndarray:
    """float64 [targets, components], px."""
    x, y = (np.subtract.outer(targets.centroids[:, k], found.centroids[:, k]) for k in (0, 1))
    return np.sqrt(x * x + y * y)


def _near_pairs(targets: Components, found: Components, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """All (target, component) pairs nearer than ``distance``, in order; without the table of all distances."""
    by_x = np.argsort(found.centroids[:, 0], kind="stable")
    sorted_x = found.centroids[by_x, 0]
    first = np.searchsorted(sorted_x, targets.centroids[:, 0] - distance)
    count = np.searchsorted(sorted_x, targets.centroids[:, 0] + distance, side="right") - first
    rows = np.repeat(np.arange(len(targets)), count)
    columns = by_x[np.arange(len(rows)) + np.repeat(first - np.cumsum(count) + count, count)]
    x, y = (targets.centroids[rows] - found.centroids[columns]).T
    near = np.sqrt(x * x + y * y) < distance
    rows, columns = rows[near], columns[near]
    order = np.lexsort([columns, rows])
    return rows[order], columns[order]


def _ious(targets: Components, found: Components) -> tuple[np.ndarray, np.ndarray]:
    """IoU and common pixels of every pair, [targets, components]."""
    under = found.labels.ravel()[targets.pixels]
    both = under > 0
    pairs = targets.owners[both].astype(np.intp) * len(found) + (under[both] - 1)
    common = np.bincount(pairs, minlength=len(targets) * len(found)).reshape(len(targets), len(found))
    return common / (targets.areas[:, None] + found.areas[None] - common), common


def _assign(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assignment of least total cost; scipy is loaded only where some rows (or columns) want the same partner."""
    for axis in (1, 0):
        if costs.shape[0] <= costs.shape[1] if axis == 1 else costs.shape[0] >= costs.shape[1]:
            partner = costs.argmin(axis=axis)
            single = np.count_nonzero(costs == costs.min(axis=axis, keepdims=True)) == len(partner)
            if single and len(np.unique(partner)) == len(partner):
                own = np.arange(len(partner))
                return (own, partner) if axis == 1 else (partner, own)
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(costs)
