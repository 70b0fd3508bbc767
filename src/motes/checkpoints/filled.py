"""Weights and inputs that follow from names and shapes alone, so that a reference need not store them.

Two programs that agree on this file compare a network of a hundred million parameters by exchanging a few kB.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

Keys = Mapping[str, tuple[Sequence[int], str]]
"""Parameter or buffer name -> (shape, dtype)."""


def fill_state(keys: Keys) -> dict[str, np.ndarray]:
    """A tensor for every name."""
    return {name: fill(name, shape, dtype) for name, (shape, dtype) in keys.items()}


def fill(name: str, shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
    """The tensor of one name; the name's last part and the number of axes decide its range.

    Counters are 0. ``running_var`` lies in 1 +- 0.2, ``running_mean`` and ``bias`` in +-0.1, a scalar in 0.5 +- 0.1, a
    vector (the gain of a norm) in 1 +- 0.1; anything else is a kernel with numbers in +-1.2 sqrt(3 / fan-in), where
    the fan-in is the product of all axes but the first.
    """
    if "int" in dtype:
        return np.zeros(tuple(shape), dtype)
    noise, leaf = uniform(name, shape), name.rpartition(".")[2]
    if leaf == "running_var":
        middle, spread = 1.0, 0.2
    elif leaf in ("running_mean", "bias"):
        middle, spread = 0.0, 0.1
    elif not shape:
        middle, spread = 0.5, 0.1
    elif len(shape) == 1:
        middle, spread = 1.0, 0.1
    else:
        middle, spread = 0.0, float(np.sqrt(3.0 / np.prod(shape[1:])) * 1.2)
    value: np.ndarray = np.asarray(middle + spread * noise).astype(dtype)
    return value


def fill_input(shape: Sequence[int], name: str = "input") -> np.ndarray:
    """[..., H, W] float32 in [-1, 1): waves and noise in equal parts, so that both pooling and edges matter."""
    y = np.linspace(0, 3, shape[-2])[:, None]
    x = np.linspace(0, 2, shape[-1])[None]
    waves = np.sin(2.1 * y + 0.4) * np.cos(3.3 * x - 0.2)
    noise = uniform(f"{name}{tuple(map(int, shape))}", shape)
    value: np.ndarray = (0.5 * waves + 0.5 * noise).astype(np.float32)
    return value


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """float64 in [-1, 1): the upper 53 bits of PCG64 started with the CRC-32 of ``name``, divided by 2^52, minus 1."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape, dtype=np.int64)))
    return ((np.atleast_1d(raw) >> np.uint64(11)) * 2.0**-52 - 1.0).reshape(tuple(shape))
