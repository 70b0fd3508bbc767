"""One pass over the pixels of a data set, by several threads: what info and check both need."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motes.data.dataset import Sample
from motes.data.near import thumbnail
from motes.data.parallel import in_threads
from motes.errors import MotesError
from motes.imaging import read_image, read_mask


@dataclass
class Facts:
    """What the pixels of one sample say. Sizes are (height, width)."""

    name: str
    size: tuple[int, int] | None = None
    channels: int = 0
    dtype: str = ""
    digest: str = ""
    """Hash of the decoded pixels; a grey image stored as three equal channels has that of the grey one."""
    thumbnail: NDArray[np.float32] | None = field(default=None, repr=False)
    image_error: str | None = None
    mask_error: str | None = None
    mask_size: tuple[int, int] | None = None
    mask_values: int = 0
    """Different values (or colours) in the mask file."""
    areas: tuple[int, ...] = ()
    """Pixels of each 8-connected target."""
    boxes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    """[N, 4] half-open xyxy of each target."""
    coverage: float = 0.0
    """Share of mask pixels that are target."""


def scan(samples: Iterable[Sample], advance: Callable[[], object] | None = None) -> list[Facts]:
    """Read every image and mask once, in the order of ``samples``; what cannot be read is noted, not raised.

    Args:
        samples: what to read.
        advance: called once a sample, for a progress bar.
    """

    return in_threads(_facts, samples, advance)


def _facts(sample: Sample) -> Facts:
    facts = Facts(sample.name)
    try:
        pixels = read_image(sample.image).pixels
        facts.size, facts.channels, facts.dtype = pixels.shape[:2], pixels.shape[2], str(pixels.dtype)
        facts.digest = digest(pixels)
        facts.thumbnail = thumbnail(pixels)
    except (MotesError, OSError) as e:
        facts.image_error = str(e)
    if sample.mask is None:
        return facts
    try:
        mask = read_mask(sample.mask)
        facts.mask_size = mask.shape[:2]
        facts.mask_values = _values(read_image(sample.mask).pixels)
        facts.boxes, facts.areas = targets(mask)
        facts.coverage = float(mask.mean())
    except (MotesError, OSError) as e:
        facts.mask_error = str(e)
    return facts


def digest(pixels: NDArray[np.generic]) -> str:
    """Hash of size, dtype and pixels [H, W, C]; equal channels count once."""
    if pixels.shape[2] > 1 and (pixels[..., 1:3] == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    state = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def targets(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Half-open xyxy boxes [N, 4] and areas of the 8-connected components of a mask [H, W]."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    x, y, width, height, area = stats[1:].astype(np.int64).T
    return np.stack([x, y, x + width, y + height], axis=1), tuple(int(a) for a in area)


def _values(pixels: NDArray[np.generic]) -> int:
    """How many different values, or colours, an image holds."""
    if pixels.shape[2] == 1 or (pixels[..., 1:] == pixels[..., :1]).all():
        return len(np.unique(pixels[..., 0]))
    return len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0))
