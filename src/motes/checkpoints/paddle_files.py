"""Paddle's ``.pdparams``, a bare pickle: how its names and layouts differ from torch's, both ways, without Paddle.

Batch norms call their statistics ``_mean`` and ``_variance`` and count no batches; the weight of a linear layer is
[in, out] where torch's is [out, in]; all other layouts agree. An embedding is a matrix called ``weight`` as well, so a
transpose needs the type of the layer. ``Layer.state_dict()`` stores it: ``linear_3.w_0`` is the internal name of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motes.checkpoints.pickle_writing import dumps
from motes.checkpoints.pickles import ArrayRef
from motes.checkpoints.state import State
from motes.checkpoints.torch_files import from_bfloat16
from motes.errors import CheckpointError

INTERNAL_NAMES = "StructuredToParameterName@@"
"""Key of the table name -> internal name."""

SLICES = "UnpackBigParamInfor@@"
"""Key of the table name -> {"OriginShape", "slices"}: before pickle protocol 4, tensors above 1 GiB are cut up."""

STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
"""Paddle's and torch's last part of a name."""

LAYER = re.compile(r"^(\w+?)_\d+\.[wb]_\d+$")
"""An internal name that Paddle chose itself, as it does unless told another."""

ACCUMULATOR = re.compile(r"_(velocity|momentum|moment\d?|moment\d_max|beta\d_pow_acc|inf_norm|mean_(square|grad))_\d+$")
"""The end of an optimiser's names."""


def is_paddle(path: Path, chosen: Mapping[Any, Any]) -> bool:
    """Whether a pickled dict is Paddle's: told by its bookkeeping or its names, else by its suffix."""
    if INTERNAL_NAMES in chosen or SLICES in chosen or any(map(is_pair, chosen.values())):
        return True
    heads = {str(name)[: -len("._mean")] for name in chosen if str(name).endswith("._mean")}
    return any(f"{head}._variance" in chosen for head in heads) or path.suffix.lower() == ".pdparams"


def is_pair(value: Any) -> bool:
    """Whether it is a tensor outside a state dict: its internal name and its array."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], ArrayRef)


def is_optimiser(tree: Mapping[Any, Any]) -> bool:
    """Whether it is a ``.pdopt``: the state of an optimiser, under internal names."""
    if "LR_Scheduler" in tree or "master_weights" in tree:
        return True
    names = [str(name) for name in tree if name != INTERNAL_NAMES]
    return bool(names) and all(ACCUMULATOR.search(name) for name in names)


def from_paddle(path: Path, arrays: Mapping[str, np.ndarray], chosen: Mapping[Any, Any]) -> State:
    """Paddle's arrays under torch's names and in torch's layouts.

    Args:
        path: for the error message.
        arrays: as stored.
        chosen: the pickled dict they are of, with its bookkeeping.

    Raises:
        CheckpointError: a slice of a large tensor is missing, or two names fall together.
    """
    whole = joined(path, arrays, chosen.get(SLICES))
    table = chosen.get(INTERNAL_NAMES)
    internal = dict(table) if isinstance(table, Mapping) else {}
    internal |= {name: value[0] for name, value in chosen.items() if is_pair(value)}
    state, assumed = {}, set()
    for name, stored in whole.items():
        array = from_bfloat16(stored) if stored.dtype == np.uint16 else stored  # Paddle's own form of bfloat16
        new = torch_name(name)
        if new in state:
            raise CheckpointError(f"{path}: two tensors are both called '{new}' in torch")
        layer = LAYER.match(str(internal.get(name, "")))
        if array.ndim == 2 and (layer[1] == "linear" if layer else name.rpartition(".")[2] == "weight"):
            array = np.ascontiguousarray(array.T)
            if not layer:
                assumed.add(new)
        state[new] = array
    return State(state, "paddle", assumed=assumed)


def joined(path: Path, arrays: Mapping[str, np.ndarray], table: Any) -> dict[str, np.ndarray]:
    """The arrays, those that were cut up put together."""
    if table is None:
        return dict(arrays)
    whole = dict(arrays)
    for name, entry in table.items() if isinstance(table, Mapping) else [("", None)]:
        try:
            parts = [whole.pop(str(part)) for part in entry["slices"]]
            shape = tuple(map(int, entry["OriginShape"]))
            whole[str(name)] = np.concatenate([p.reshape(-1) for p in parts]).reshape(shape)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CheckpointError(f"{path}: cut short or damaged at the slices of tensor '{name}'") from None
    return whole


def torch_name(name: str) -> str:
    head, dot, leaf = name.rpartition(".")
    return f"{head}{dot}{STATISTICS.get(leaf, leaf)}" if dot else name


def to_paddle(state: Mapping[str, np.ndarray], linear: Collection[str]) -> dict[str, np.ndarray]:
    """Torch's arrays under Paddle's names and in Paddle's layouts; counters of batches are left out.

    Args:
        state: name -> array.
        linear: names of the weights of linear layers, as ``matching.linear_weights(net)`` gives them.
    """
    back = {theirs: ours for ours, theirs in STATISTICS.items()}
    found = {}
    for name, array in state.items():
        head, dot, leaf = name.rpartition(".")
        if leaf != "num_batches_tracked":
            found[f"{head}{dot}{back.get(leaf, leaf)}"] = array.T if name in linear else array
    return found


def write_paddle(path: str | Path, state: Mapping[str, np.ndarray], linear: Collection[str]) -> None:
    """Writes ``.pdparams`` as ``paddle.load`` takes it: a plain dict of arrays; see :func:`to_paddle`."""
    from motes.imaging import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_bytes(dumps(to_paddle(state, linear)))
