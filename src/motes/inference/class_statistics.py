"""What a class map holds: pixels and objects of every class."""

from __future__ import annotations

import numpy as np

_BAND = 1024  # rows at a time: labels of components take 4 bytes a pixel


def class_statistics(ids: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and objects of every class, int64 [K] each.

    Objects are 8-connected components; touching objects of one class count as one. Works in bands of rows, so that it
    takes little more memory than ``ids``.

    Args:
        ids: [H, W] uint8, below ``classes``.
        classes: K.
    """
    pixels, objects = count_ids(ids, classes), np.zeros(classes, np.int64)
    for k in np.flatnonzero(pixels).tolist():
        objects[k] = ids.size > 0 if pixels[k] == ids.size else _objects(ids, k)
    return pixels, objects


def count_ids(ids: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of every class, int64 [K]; in bands, for counting takes 8 bytes a pixel."""
    pixels = np.zeros(256, np.int64)
    for top in range(0, len(ids), _BAND):
        pixels += np.bincount(ids[top : top + _BAND].ravel(), minlength=256)
    return pixels[:classes]


def _objects(ids: np.ndarray, k: int) -> int:
    """Components of the pixels that equal ``k``: those of all bands, less what hangs together across their borders."""
    import cv2

    count = 0
    pairs: list[np.ndarray] = []
    above: np.ndarray | None = None
    for top in range(0, len(ids), _BAND):
        mask = np.equal(ids[top : top + _BAND], k).view(np.uint8)
        if not mask.any():
            above = None
            continue
        found, labels = cv2.connectedComponents(mask, connectivity=8)
        first = np.where(labels[0] > 0, labels[0] + count, 0)
        if above is not None:
            for a, b in ((above, first), (above[1:], first[:-1]), (above[:-1], first[1:])):
                touching = (a > 0) & (b > 0)
                pairs.append(np.stack([a[touching], b[touching]], axis=1))
        above = np.where(labels[-1] > 0, labels[-1] + count, 0)
        count += found - 1
    return count - _joins(np.concatenate(pairs)) if pairs else count


def _joins(pairs: np.ndarray) -> int:
    """How many fewer groups there are once every pair is one: nodes in pairs less groups of them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return 0
    nodes, places = np.unique(pairs, return_inverse=True)
    a, b = places.reshape(pairs.shape).T
    graph = coo_array((np.ones(len(pairs), np.int8), (a, b)), shape=(len(nodes), len(nodes)))
    groups = connected_components(graph, directed=False, return_labels=False)
    return len(nodes) - int(groups)
