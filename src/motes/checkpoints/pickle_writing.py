"""A dict of arrays as a pickle that any numpy since 1.0 loads; the same arrays give the same bytes.

``pickle.dumps`` under numpy 2 names a module that numpy before 1.26 lacks, and frameworks live with such ones.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping

import numpy as np

HEAD = pickle.PROTO + b"\x04" + pickle.EMPTY_DICT
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def dumps(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle, protocol 4.

    Raises:
        TypeError: an array that does not hold plain numbers.
    """
    parts = [HEAD]
    for name, array in arrays.items():
        parts += [text(name), *pickled(np.asarray(array)), pickle.SETITEM]
    return b"".join([*parts, pickle.STOP])


def pickled(array: np.ndarray) -> list[bytes]:
    """One array: an empty one, told its shape, dtype and numbers."""
    if array.dtype.kind not in "fiubc":
        raise TypeError(f"{array.dtype} holds no plain numbers")
    shape = b"".join([pickle.MARK, *map(integer, array.shape), pickle.TUPLE])
    raw = array.tobytes(order="C")
    size = pickle.BINBYTES8 + struct.pack("<Q", len(raw))
    before = [EMPTY_ARRAY, pickle.MARK, b"K\x01", shape, dtype(array.dtype), pickle.NEWFALSE, size]
    return [*before, raw, pickle.TUPLE, pickle.BUILD]


def dtype(kind: np.dtype) -> bytes:
    order, code = kind.str[:1], kind.str[1:]
    make = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"
    return make + b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return pickle.LONG1 + bytes([len(raw)]) + raw
