"""Near-twins: frames of one scene that ended up as two images.

Two frames are compared as 32x32 thumbnails (grey, Pillow's bilinear filter, zero mean, unit length): the dot product is
their correlation. Neighbouring frames of a sequence correlate by more than 0.9; a split that puts one of them into
training and one into test measures memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from motes.data.dataset import Sample
from motes.data.parallel import in_threads
from motes.errors import DataError
from motes.imaging import read_image, resize

SIDE = 32
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def near_twins(
    samples_a: Sequence[Sample],
    samples_b: Sequence[Sample] | None = None,
    threshold: float = 0.9,
    advance: Callable[[], object] | None = None,
) -> list[tuple[str, str, float]]:
    """Pairs of samples whose thumbnails correlate by more than ``threshold``.

    Args:
        samples_a: one set of images.
        samples_b: the other; None compares ``samples_a`` with itself, each pair once.
        threshold: correlation in [0, 1].
        advance: called once an image read, for a progress bar.

    Returns:
        ``(name_a, name_b, correlation)``, the closest first. An image is never its own twin.

    Raises:
        DataError: a threshold outside [0, 1].
        ImageError: an image that cannot be read.
    """
    check_threshold(threshold)
    a = thumbnails(samples_a, advance)
    b = a if samples_b is None else thumbnails(samples_b, advance)
    others = samples_a if samples_b is None else samples_b
    pairs = [
        (samples_a[i].name, others[j].name, c)
        for i, j, c in correlated(a, b, threshold, once=samples_b is None)
        if samples_a[i].image != others[j].image
    ]
    return sorted(pairs, key=lambda p: -p[2])


def thumbnails(samples: Sequence[Sample], advance: Callable[[], object] | None = None) -> NDArray[np.float32]:
    """The thumbnails of all samples as rows, [N, 1024], read by several threads."""

    rows = in_threads(lambda sample: thumbnail(read_image(sample.image).pixels), samples, advance)
    return np.stack(rows) if rows else np.zeros((0, SIDE * SIDE), np.float32)


def thumbnail(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """``pixels`` [H, W, C] as a zero-mean, unit-length vector [1024]; zeros for an image without any contrast.

    Grey in float32, so that a 16-bit frame whose contrast is a few counts keeps it.
    """
    deep = pixels[..., :3].astype(np.float32)
    grey = deep @ LUMA if deep.shape[-1] == 3 else deep.mean(-1)
    small = resize(np.nan_to_num(grey)[..., None], (SIDE, SIDE), "bilinear").ravel().astype(np.float64)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    # Below rounding noise there is no structure to correlate.
    flat = length <= 1e-5 * max(1.0, float(np.abs(grey).max(initial=0.0)))
    return np.zeros(SIDE * SIDE, np.float32) if flat else (small / length).astype(np.float32)


def correlated(
    a: NDArray[np.float32], b: NDArray[np.float32], threshold: float, once: bool = False, rows: int = 2048
) -> Iterator[tuple[int, int, float]]:
    """Index pairs (i, j) with ``a[i] @ b[j] > threshold``; ``once``: only i < j, for a set against itself."""
    for start in range(0, len(a), rows):
        product = a[start : start + rows] @ b.T
        for i, j in zip(*np.nonzero(product > threshold), strict=True):
            if not once or start + i < j:
                yield int(start + i), int(j), min(1.0, float(product[i, j]))


def check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise DataError(f"a near-twin threshold of {threshold:g} is no correlation", "give a number from 0 to 1")


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The connected groups of ``count`` items linked by ``pairs``, each sorted, in the order of their first items."""
    leader = list(range(count))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for i, j in pairs:
        low, high = sorted((find(i), find(j)))
        leader[high] = low
    found: dict[int, list[int]] = {}
    for i in range(count):
        found.setdefault(find(i), []).append(i)
    return list(found.values())
