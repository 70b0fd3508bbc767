"""Jittor's ``.pkl``: a pickle with its SHA-1 behind it. Names and layouts are torch's, without counters of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from motes.checkpoints.pickle_writing import dumps
from motes.errors import CheckpointError

MARK = b"HCAJSLHD"
DIGEST = 20  # bytes of a SHA-1


def payload(path: Path, data: bytes) -> tuple[bytes, bool]:
    """The pickle without Jittor's tail, and whether there was one.

    Raises:
        CheckpointError: the checksum in the tail is not that of the bytes.
    """
    if not data.endswith(MARK):
        return data, False
    tail = DIGEST + len(MARK)
    body, stored = data[:-tail], data[-tail : -len(MARK)]
    if hashlib.sha1(body, usedforsecurity=False).digest() != stored:
        raise CheckpointError(
            f"{path}: damaged, its checksum (SHA-1) is not that of its {len(body)} bytes", "copy or download it again"
        )
    return body, True


def write_jittor(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes ``.pkl`` as ``jittor.load`` takes it: a plain dict of arrays, its SHA-1, the mark; no counters."""
    from motes.imaging import atomic_path

    body = dumps({name: array for name, array in state.items() if not name.endswith("num_batches_tracked")})
    with atomic_path(path) as temporary:
        temporary.write_bytes(body + hashlib.sha1(body, usedforsecurity=False).digest() + MARK)
