"""Pickles read as data: an interpreter of the pickle opcodes that never imports and never calls anything a file names.

A pickle is a small program that may call any function of any module, so ``pickle.load`` runs whatever the file's
author wrote. Weights need a dozen functions, all of them "build this array". Here a global stays a name
(:class:`Global`); a call of a name on the list below makes a description (:class:`ArrayRef`, :class:`TensorRef`) that
is turned into numpy arrays later; every other name refuses the file.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from motes.errors import CheckpointError


class RefusedPickleError(Exception):
    """The pickle asks for something that weights never need."""


class Global(NamedTuple):
    """A name of the pickle, such as ``collections.OrderedDict``; a name and no more."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class DtypeRef:
    """A pickled numpy dtype."""

    code: str
    order: str = "<"

    def dtype(self) -> np.dtype | None:
        """The dtype if it is a plain number, else None (strings, records, Python objects)."""
        code = self.code.lstrip("<>=|")
        if code not in NUMBERS:
            return None
        return np.dtype(code).newbyteorder(">" if self.order == ">" or self.code.startswith(">") else "<")


@dataclass(eq=False)
class ArrayRef:
    """A pickled numpy array, known after its BUILD opcode."""

    shape: tuple[int, ...] = ()
    dtype: DtypeRef | None = None
    fortran: bool = False
    data: Any = b""
    framework: str | None = None

    def is_numeric(self) -> bool:
        return self.dtype is not None and self.dtype.dtype() is not None

    def array(self) -> np.ndarray:
        dtype = self.dtype.dtype() if self.dtype else None
        if dtype is None:
            raise CheckpointError("an array that does not hold plain numbers")
        raw = self.data.encode("latin-1") if isinstance(self.data, str) else self.data  # Python 2 wrote text
        flat = np.frombuffer(raw, dtype)
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(array.astype(dtype.newbyteorder("="), copy=False), order="C")


@dataclass(eq=False)
class StorageRef:
    """The numbers of one or several tensors, stored outside the pickle under ``key``."""

    kind: str
    key: str
    count: int
    offset: int = 0


@dataclass(eq=False)
class TensorRef:
    """A torch tensor: a view of a storage, offset and strides in elements."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor, copied out of the storage's numbers."""
        n = int(np.prod(self.size, dtype=np.int64)) if self.size else 1
        if len(self.size) != len(self.stride) or min((0, self.offset, *self.size, *self.stride)) < 0:
            raise ValueError("impossible tensor shape")
        if n == 0:
            return np.zeros(self.size, numbers.dtype)
        last = self.offset + sum((s - 1) * t for s, t in zip(self.size, self.stride, strict=True))
        # A stride of 0 repeats an element: a few bytes could otherwise ask for all memory there is.
        if last >= numbers.size or n > max(numbers.size, 1 << 24):
            raise ValueError("tensor larger than its storage")
        step = numbers.itemsize
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.size, tuple(s * step for s in self.stride), writeable=False
        )
        return np.array(view, order="C")


@dataclass(eq=False)
class Inert:
    """An object of a harmless class that often sits beside the weights (argparse.Namespace, a path); never rebuilt."""

    cls: Global
    args: tuple[Any, ...] = ()
    state: Any = None


NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
}


def _array(shape: Any, dtype: Any, data: Any, fortran: bool = False) -> ArrayRef:
    if not isinstance(dtype, DtypeRef):
        raise ValueError("array without a dtype")
    return ArrayRef(tuple(int(s) for s in shape), dtype, bool(fortran), data)


def _dtype(code: Any, *_: Any) -> DtypeRef:
    if not isinstance(code, str):
        raise ValueError("dtype that is not a code")
    return DtypeRef(code)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise ValueError("tensor without a storage")
    return TensorRef(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuilt(make: Any, _type: Any, args: Any, *_: Any) -> Any:
    return CALLS[make](*args)


def _first(*args: Any) -> Any:
    return args[0]


def _variable(array: Any) -> ArrayRef:
    """Jittor's variable: an array and no more."""
    if not isinstance(array, ArrayRef):
        raise ValueError("variable without an array")
    array.framework = "jittor"
    return array


CALLS: Mapping[Any, Callable[..., Any]] = {
    Global("collections", "OrderedDict"): lambda pairs=(): dict(pairs),
    Global("collections", "defaultdict"): lambda _factory=None, pairs=(): dict(pairs),
    Global("collections", "Counter"): lambda pairs=(): dict(pairs),
    **{
        Global(builtins, name): make
        for builtins in ("builtins", "__builtin__")
        for name, make in {"set": list, "frozenset": list, "list": list, "tuple": tuple, "dict": dict}.items()
    },
    Global("_codecs", "encode"): lambda text, _encoding="latin1": text.encode("latin-1"),
    Global("numpy", "dtype"): _dtype,
    **{
        Global(f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", lambda *_: ArrayRef()),
            ("multiarray", "scalar", lambda dtype, data=b"": _array((), dtype, data)),
            ("numeric", "_frombuffer", lambda data, dtype, shape, order="C": _array(shape, dtype, data, order == "F")),
        )
    },
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_parameter"): _first,
    Global("torch._utils", "_rebuild_parameter_with_state"): _first,
    Global("torch._tensor", "_rebuild_from_type_v2"): _rebuilt,
    Global("jittor", "jittor_core.Var"): _variable,
    Global("torch", "Size"): tuple,
    Global("torch", "device"): lambda *args: ":".join(map(str, args)),
}
"""What a pickle may call, and what happens instead."""

INERT = frozenset(
    Global(module, name)
    for module, names in {
        "argparse": "Namespace",
        "pathlib": "Path PurePath PosixPath PurePosixPath WindowsPath PureWindowsPath",
        "pathlib._local": "Path PurePath PosixPath PurePosixPath WindowsPath PureWindowsPath",
    }.items()
    for name in names.split()
)

_ARGUMENTS = {
    "torch": [
        *STORAGES,
        "Tensor",
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "uint8",
        "bool",
    ],
    "torch.nn.parameter": ["Parameter"],
    "numpy": ["ndarray", "float32", "float64", "int64"],
    "builtins": ["object", "int", "float", "str", "bool"],
    "__builtin__": ["object", "int", "float", "str", "unicode", "bool", "long"],
    "copyreg": ["_reconstructor"],
    "copy_reg": ["_reconstructor"],
}
NAMES = frozenset(Global(module, name) for module, names in _ARGUMENTS.items() for name in names)
"""Names that may occur as arguments."""


@dataclass
class Machine:
    """Runs one pickle. ``persistent`` answers the ids of data stored outside the pickle (torch's storages)."""

    persistent: Callable[[Any], Any] | None = None
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, stream: io.BytesIO) -> Any:
        """The object of the pickle that starts at the stream's position; the stream is left after its end.

        Raises:
            RefusedPickleError: it names something that is not on the lists above.
            ValueError: it is cut short or damaged.
        """
        try:
            for opcode, arg, _ in pickletools.genops(stream):
                self._step(opcode.name, arg)
            return self.stack.pop()
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as e:
            raise ValueError(f"damaged pickle: {type(e).__name__}") from e

    def _step(self, op: str, arg: Any) -> None:
        stack = self.stack
        if op in _LITERALS:
            stack.append(arg)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op]())
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif op == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(op[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif op in ("TUPLE", "LIST", "FROZENSET"):
            items = self._pop_mark()
            self.stack.append(tuple(items) if op == "TUPLE" else items)
        elif op == "DICT":
            items = self._pop_mark()
            self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif op == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif op in ("APPENDS", "ADDITEMS"):
            items = self._pop_mark()
            self.stack[-1].extend(items)
        elif op == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif op == "SETITEMS":
            items = self._pop_mark()
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif op in ("GLOBAL", "INST"):
            stack.append(allowed(*arg.split(" ", 1)))
            if op == "INST":
                raise RefusedPickleError(f"an instance of '{stack[-1]}'")
        elif op == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(allowed(module, name))
        elif op in ("REDUCE", "NEWOBJ"):
            args, function = stack.pop(), stack.pop()
            stack.append(call(function, args))
        elif op == "BUILD":
            state = stack.pop()
            build(stack[-1], state)
        elif op in ("BINPERSID", "PERSID"):
            key = stack.pop() if op == "BINPERSID" else arg
            if self.persistent is None:
                raise RefusedPickleError("data outside the pickle")
            stack.append(self.persistent(key))
        elif op == "POP":
            if stack:
                stack.pop()
            else:
                self._pop_mark()
        elif op == "POP_MARK":
            self._pop_mark()
        elif op == "DUP":
            stack.append(stack[-1])
        elif op not in ("PROTO", "FRAME", "STOP"):
            raise RefusedPickleError(f"the pickle instruction {op}")

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items


_NUMBER_OPCODES = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXT_OPCODES = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES_OPCODES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_LITERALS = frozenset(_NUMBER_OPCODES + _TEXT_OPCODES + _BYTES_OPCODES)
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


def allowed(module: Any, name: Any) -> Global:
    """The name as a token, if it is one that weights need."""
    token = Global(module, name)
    if token in CALLS or token in INERT or token in NAMES:
        return token
    raise RefusedPickleError(f"'{token}'")


def call(function: Any, args: Any) -> Any:
    """What stands for the call: a description of an array, a plain container, or an inert object."""
    if function in INERT:
        return Inert(function, tuple(args))
    if isinstance(function, Global) and function.name == "_reconstructor" and args[0] in INERT:
        return Inert(args[0])
    if not isinstance(function, Global) or function not in CALLS:
        raise RefusedPickleError(f"a call of '{function}'")
    return CALLS[function](*args)


def build(target: Any, state: Any) -> None:
    """Pickle's ``__setstate__`` for our own descriptions; attributes of anything else are dropped."""
    if isinstance(target, DtypeRef):
        target.order = str(state[1])
    elif isinstance(target, ArrayRef):
        _, shape, target.dtype, target.fortran, target.data = state
        target.shape = tuple(int(s) for s in shape)
        if not isinstance(target.dtype, DtypeRef):
            raise ValueError("array without a dtype")
    elif isinstance(target, Inert):
        target.state = state
    elif not isinstance(target, (dict, TensorRef)):
        raise RefusedPickleError(f"attributes on a {type(target).__name__}")
