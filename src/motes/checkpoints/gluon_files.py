"""MXNet's ``.params`` (Gluon's ``save_parameters``, ``nd.save``) read without MXNet.

All numbers are little-endian. The list: u64 0x112, u64 0, u64 count, the arrays, u64 count of names, each name as u64
length and bytes. An array: u32 magic of its version, i32 storage type (since version 2), i32 axes and i64 sides (the
oldest form has no magic, but u32 axes and u32 sides), i32 device type, i32 device, i32 type of numbers, the numbers.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from motes.checkpoints.state import State
from motes.checkpoints.torch_files import from_bfloat16
from motes.errors import CheckpointError

MAGIC = (0x112).to_bytes(8, "little")
VERSIONS = {0xF993FAC8: 1, 0xF993FAC9: 2, 0xF993FACA: 3}
DTYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8", "bf16")
"""By the type flag."""

MOST_AXES = 32


def read_gluon(path: Path) -> State:
    """All arrays by their names; ``arg:`` and ``aux:`` (symbolic files) are dropped; bfloat16 becomes float32.

    Raises:
        CheckpointError: cut short, damaged, without names, or sparse.
    """
    data = Reader(path, path.read_bytes())
    data.take(len(MAGIC) + 8)
    arrays = [data.array(i) for i in range(data.count("arrays"))]
    names = [data.name() for _ in range(data.count("names"))]
    if data.position != len(data.bytes):
        raise data.damaged(f"{len(data.bytes) - data.position} bytes follow its end")
    if not names and arrays:
        raise CheckpointError(f"{path}: its {len(arrays)} arrays have no names", "save them with net.save_parameters")
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise data.damaged(f"{len(names)} names ({len(set(names))} different ones) for {len(arrays)} arrays")
    return State({n: a for n, a in zip(names, arrays, strict=True) if a is not None}, "gluon")


class Reader:
    """Walks the bytes and never past their end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.bytes, self.position = path, memoryview(data), 0

    def take(self, size: int) -> memoryview:
        if size > len(self.bytes) - self.position:
            raise self.damaged("cut short")
        self.position += size
        return self.bytes[self.position - size : self.position]

    def number(self, code: str) -> int:
        found: int = struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]
        return found

    def count(self, what: str) -> int:
        """A count of things that take at least four bytes each."""
        found = self.number("Q")
        if found > (len(self.bytes) - self.position) // 4:
            raise self.damaged(f"it announces {found} {what}")
        return found

    def name(self) -> str:
        try:
            return str(self.take(self.number("Q")), "utf-8").removeprefix("arg:").removeprefix("aux:")
        except UnicodeDecodeError:
            raise self.damaged("a name that is no text") from None

    def array(self, index: int) -> np.ndarray | None:
        """The next array; None where MXNet stored one that was never filled."""
        first = self.number("I")
        version = VERSIONS.get(first, 0)
        if version >= 2 and (storage := self.number("i")) != 0:
            raise CheckpointError(f"{self.path}: array {index} is sparse (storage type {storage}), expected dense ones")
        axes = self.number("i") if version else first
        if axes == (-1 if version == 3 else 0):
            return None
        if not 0 <= axes <= MOST_AXES:
            raise self.damaged(f"array {index} has {axes} axes")
        shape = tuple(self.number("q" if version else "I") for _ in range(axes))
        self.take(8)  # the device that it was on
        flag = self.number("i")
        if min((0, *shape)) < 0 or not 0 <= flag < len(DTYPES):
            raise self.damaged(f"array {index} has shape {list(shape)} and type {flag}")
        kind = DTYPES[flag]
        code = np.dtype("<u2" if kind == "bf16" else kind).newbyteorder("<")
        size = code.itemsize
        for side in shape:  # Python's integers do not overflow
            size *= side
        flat = np.frombuffer(self.take(size), code)
        flat = from_bfloat16(flat) if kind == "bf16" else flat.astype(code.newbyteorder("="))
        return flat.reshape(shape)

    def damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: MXNet file cut short or damaged: {what}", "copy or download it again")
