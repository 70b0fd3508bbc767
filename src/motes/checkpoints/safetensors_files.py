"""``.safetensors``: our own weight format. The card sits in the header, readable without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motes.cards import METADATA_KEY, Card
from motes.checkpoints.torch_files import from_bfloat16
from motes.errors import CheckpointError, MissingExtraError

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit


FACTS_KEY = "motes-facts"
"""Key of the header under which a file without a card says what it holds, as JSON."""


def write_safetensors(
    path: str | Path, state: Mapping[str, Any], card: Card | None, facts: Mapping[str, Any] | None = None
) -> None:
    """Writes weights and their card, atomically; the same weights and card give the same bytes.

    Args:
        path: the file to write.
        state: name -> array or torch tensor.
        card: what they are; stored as JSON under the key ``motes`` of the header.
        facts: instead of a card, of weights that are no whole network; ``read_state`` gives them back.
    """
    from motes.imaging import atomic_path

    try:
        from safetensors.numpy import save
    except ModuleNotFoundError:
        raise MissingExtraError("writing .safetensors", "train") from None
    arrays = {name: as_array(value) for name, value in state.items()}
    header = {METADATA_KEY: card.to_json()} if card else {FACTS_KEY: json.dumps(dict(facts or {}), sort_keys=True)}
    data = save(arrays, header)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def as_array(value: Any) -> np.ndarray:
    """A tensor or array as a C-ordered array of its own (0-d stays 0-d)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        value = value.numpy()
    return np.asarray(value, order="C")


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the position (bytes) where the numbers start.

    Raises:
        CheckpointError: not a safetensors file, or cut short.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        raw = file.read(size) if size <= LARGEST_HEADER else b""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if len(raw) != size or not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a safetensors file, or cut short")
    return header, 8 + size


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors; bfloat16 becomes float32.

    Raises:
        CheckpointError: cut short, or a tensor that does not fit its bytes.
    """
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    state = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            if kind not in DTYPES:
                raise CheckpointError(f"{path}: tensor '{name}' has dtype {kind}, which numpy lacks")
            if not 0 <= begin <= end <= len(data):
                raise CheckpointError(f"{path}: cut short inside tensor '{name}'")
            flat = np.frombuffer(data[begin:end], DTYPES[kind])
            flat = from_bfloat16(flat) if kind == "BF16" else flat.astype(flat.dtype.newbyteorder("="))
            state[name] = flat.reshape(shape)
        except (TypeError, KeyError, ValueError):
            raise CheckpointError(f"{path}: the header entry of tensor '{name}' is damaged") from None
    return state


def header_facts(path: Path) -> dict[str, Any]:
    """What a file without a card says of itself."""
    metadata = read_header(path)[0].get("__metadata__") or {}
    try:
        facts = json.loads(metadata.get(FACTS_KEY, "{}"))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def header_card(path: Path) -> Card | None:
    """The card in the header, or None if it has none."""
    metadata = read_header(path)[0].get("__metadata__") or {}
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    return Card.from_json(text, str(path)) if isinstance(text, str) else None
