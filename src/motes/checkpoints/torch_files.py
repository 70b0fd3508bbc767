"""Torch's two file formats read without torch: the zip archive (since 1.6) and the consecutive pickles before it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motes.checkpoints.pickles import STORAGES, Global, Inert, Machine, RefusedPickleError, StorageRef, TensorRef

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9")

Choose = Callable[[Any], Mapping[str, Any]]
"""Picks the weights out of a training snapshot."""

Numbers = Mapping[tuple[str, int], np.ndarray]
"""(storage key, offset) -> its numbers, 1-D."""


def open_zip(path: Path, choose: Choose) -> tuple[Mapping[str, Any], Numbers]:
    """The chosen weights of a zip file, and the storages that they use.

    Raises:
        zipfile.BadZipFile, ValueError: cut short or damaged.
        RefusedPickleError: not a file of weights.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [n[: -len("data.pkl")] for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise RefusedPickleError("a zip archive that torch did not write")
        root = roots[0]
        if f"{root}constants.pkl" in names:
            raise RefusedPickleError("a TorchScript program")
        if any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist()):
            raise RefusedPickleError("a compressed archive, which torch never writes")
        order = archive.read(f"{root}byteorder").strip() if f"{root}byteorder" in names else b"little"
        chosen = choose(Machine(storage).run(io.BytesIO(archive.read(f"{root}data.pkl"))))
        numbers = {
            (ref.key, ref.offset): decode(archive.read(f"{root}data/{ref.key}"), ref, order == b"little")
            for ref in storages(chosen)
        }
    return chosen, numbers


def open_legacy(path: Path, choose: Choose) -> tuple[Mapping[str, Any], Numbers]:
    """The same for a file written before torch 1.6: five pickles, then each storage as a count and its raw elements.

    Raises:
        ValueError: cut short or damaged.
        RefusedPickleError: not a file of weights.
    """
    data = path.read_bytes()
    stream = io.BytesIO(data)
    Machine().run(stream)  # magic number
    Machine().run(stream)  # protocol
    system = Machine().run(stream)
    tree = Machine(storage).run(stream)
    keys = Machine().run(stream)
    little = bool(system.get("little_endian", True)) if isinstance(system, dict) else True
    kinds = {ref.key: ref.kind for ref in storages(tree)}
    raw: dict[str, memoryview] = {}
    position = stream.tell()
    for key in map(str, keys):
        if key not in kinds:
            raise ValueError("a storage that nothing uses")
        start = position + 8
        position = start + int.from_bytes(data[position:start], "little") * width(kinds[key])
        if len(data) < position:
            raise ValueError("cut short")
        raw[key] = memoryview(data)[start:position]
    chosen = choose(tree)
    return chosen, {(r.key, r.offset): decode(raw[r.key], r, little)[r.offset :] for r in storages(chosen)}


def storage(identity: Any) -> StorageRef:
    """The persistent id ``("storage", type, key, location, count[, view])`` of torch's pickles."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        what = identity[0] if isinstance(identity, tuple) and identity else identity
        raise RefusedPickleError(f"a stored {what}")
    _, kind, key, _, count, *view = identity
    if not isinstance(kind, Global) or kind.name not in STORAGES:
        raise RefusedPickleError(f"'{kind}'")
    offset = int(view[0][1]) if view and view[0] else 0
    return StorageRef(STORAGES[kind.name], str(key), int(count), offset)


def storages(tree: Any) -> list[StorageRef]:
    """Every storage that a tensor of the tree uses, once."""
    found: dict[tuple[str, int], StorageRef] = {}
    todo, seen = [tree], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (TensorRef, StorageRef)):
            ref = item.storage if isinstance(item, TensorRef) else item
            found[ref.key, ref.offset] = ref
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            todo += item
        elif isinstance(item, Inert):
            todo += [item.args, item.state]
    return list(found.values())


def width(kind: str) -> int:
    """Bytes of one element."""
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def decode(raw: bytes | memoryview, ref: StorageRef, little: bool = True) -> np.ndarray:
    """Raw bytes as numbers in native order; bfloat16, which numpy lacks, becomes float32."""
    order = "<" if little else ">"
    code = "u2" if ref.kind == "bf16" else ref.kind
    flat = np.frombuffer(raw, np.dtype(code).newbyteorder(order))
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    if flat.size < ref.count:
        raise ValueError("cut short")
    return from_bfloat16(flat) if ref.kind == "bf16" else flat


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 -> float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
