"""Weight files in, numpy arrays out: the format is recognised by content, and nothing in a file is ever executed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motes.cards import METADATA_KEY, Card
from motes.checkpoints import gluon_files, jittor_files, paddle_files
from motes.checkpoints.pickles import ArrayRef, Machine, RefusedPickleError, TensorRef
from motes.checkpoints.safetensors_files import LARGEST_HEADER, header_card, header_facts, read_tensors
from motes.checkpoints.state import State
from motes.checkpoints.torch_files import LEGACY_MAGIC, Numbers, open_legacy, open_zip
from motes.errors import CheckpointError
from motes.naming import nearest

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
    "weights",
    "module",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
)
"""Keys under which training scripts put the weights, in order of preference: the trained ones before their average."""

DAMAGED = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OSError,
)
"""What zipfile, struct and our interpreter raise on a damaged file; that the file can be opened is known by then."""

LEADING = ("module.", "_orig_mod.")
"""Prefixes that torch's DataParallel and compile put before every name."""


def read_state(path: str | Path) -> State:
    """The weights of a file: published name -> array, in the file's order, without the framework that wrote it.

    Read: ``.safetensors``; torch files (``.pth``, ``.pt``, ``.ckpt``, ``.pth.tar``) of both formats; Paddle's
    ``.pdparams``; Jittor's ``.pkl``; MXNet's ``.params``; plain pickles of arrays. The weights may sit in a training
    snapshot under one of :data:`WRAPPERS`. ``module.`` and ``_orig_mod.`` are stripped if all names have them. bfloat16
    becomes float32; every other dtype is kept. Names and layouts are torch's: see :class:`State` and
    :mod:`motes.checkpoints.paddle_files`.

    Raises:
        CheckpointError: missing, empty, cut short, not a weight file, or a pickle that asks for anything but arrays
            (nothing of it is executed).
    """
    path = Path(path)
    kind = recognise(path)
    if kind == "safetensors":
        state = State(read_tensors(path), kind, header_facts(path))
    elif kind == "gluon":
        state = gluon_files.read_gluon(path)
    else:
        state = read_pickled(path, kind)
    if not state:
        raise CheckpointError(f"{path}: holds no weights")
    return without_leading(state)


def read_card(path: str | Path) -> Card | None:
    """The card inside a ``.safetensors`` or ``.onnx`` file; None if it has none, or the format cannot hold one.

    Raises:
        CheckpointError: missing or unreadable.
        CardError: a card that is malformed.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return onnx_card(path)
    return header_card(path) if recognise(path) == "safetensors" else None


def recognise(path: Path) -> str:
    """``safetensors``, ``gluon``, ``zip``, ``legacy`` or ``pickle``, by content.

    Raises:
        CheckpointError: none of them; says what it looks like.
    """
    size = check_file(path)
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "zip"
    if head.startswith(LEGACY_MAGIC):
        return "legacy"
    if head.startswith(gluon_files.MAGIC):
        return "gluon"
    announced = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and announced <= min(size, LARGEST_HEADER):
        return "safetensors"
    what = foreign(path, head)
    if what:
        raise CheckpointError(f"{path}: is {what[0]}, not a weight file", what[1])
    return "pickle"


def check_file(path: Path) -> int:
    """Size in bytes of a file that exists and is not empty; anything else is a CheckpointError."""
    if path.is_dir():
        inside = next((n for n in ("best.safetensors", "last.ckpt") if (path / n).is_file()), None)
        hint = f"a run? its weights are {path / inside}" if inside else None
        raise CheckpointError(f"{path}: is a folder, expected a weight file", hint)
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, names)
        raise CheckpointError(f"{path}: no such file", f"did you mean '{close}'?" if close else None)
    size = path.stat().st_size
    if not size:
        raise CheckpointError(f"{path}: is empty (0 bytes)")
    return size


def foreign(path: Path, head: bytes) -> tuple[str, str | None] | None:
    """What a file is that is mistaken for weights now and then, and what to do; None if it may be a pickle."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer", "fetch the real file with 'git lfs pull'"
    if text[:1] == b"<":
        return "an HTML or XML page", "the download was probably a web page; fetch the file itself"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it first"
    if head.startswith(b"\x1f\x8b"):
        return "gzip-compressed", "unpack it first"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")):
        return "an image", None
    if head.startswith(b"\x89HDF"):
        return "an HDF5 (Keras) file", None
    if path.suffix.lower() in (".pdmodel", ".pdiparams"):
        return "a Paddle program for deployment", "give the .pdparams that it was exported from"
    if path.suffix.lower() in (".onnx", ".safetensors"):
        return f"a {path.suffix[1:]} file or a damaged one", None
    return None


def read_pickled(path: Path, kind: str) -> State:
    """The weights of a pickled file, whatever framework wrote it."""
    facts: dict[str, Any] = {}
    try:
        chosen, numbers, jittor = open_pickled(path, kind, facts)
    except RefusedPickleError as e:
        if kind == "pickle" and not is_binary_pickle(path) and not str(e).startswith("'"):
            raise unreadable(path, kind) from None  # some other file whose first letters happen to be opcodes
        raise CheckpointError(
            f"{path}: refused, it asks for {e}, which weights never need; nothing was executed",
            "only files of plain tensors are read: ask its author for the state dict",
        ) from None
    except DAMAGED as e:
        raise unreadable(path, kind) from e
    arrays = resolve(path, chosen, numbers)
    if kind != "pickle":
        return State(arrays, "torch", facts)
    if not jittor and paddle_files.is_paddle(path, chosen):
        state = paddle_files.from_paddle(path, arrays, chosen)
        state.facts = facts
        return state
    jittor = jittor or any(getattr(v, "framework", None) == "jittor" for v in chosen.values())
    return State(arrays, "jittor" if jittor else "pickle", facts)


def open_pickled(path: Path, kind: str, facts: dict[str, Any]) -> tuple[Mapping[str, Any], Numbers, bool]:
    """The weights by name, the torch storages that they use, and whether the file ends as Jittor's do.

    What is stored beside the weights goes into ``facts``.
    """

    def pick(tree: Any) -> Mapping[str, Any]:
        chosen = choose(path, tree)
        facts.update(plain(tree))
        return chosen

    if kind == "zip":
        return (*open_zip(path, pick), False)
    if kind == "legacy":
        return (*open_legacy(path, pick), False)
    data, jittor = jittor_files.payload(path, path.read_bytes())
    stream = io.BytesIO(data)
    tree = Machine().run(stream)
    if stream.tell() < len(data):
        raise ValueError("bytes after the end of the pickle")
    return pick(tree), {}, jittor


def plain(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers and texts of a training snapshot."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, ArrayRef) and value.is_numeric() and value.shape == ():
            found[str(name)] = value.array().item()
        elif isinstance(value, (bool, int, float, str)):
            found[str(name)] = value
    return found


def unreadable(path: Path, kind: str) -> CheckpointError:
    if kind == "pickle" and not is_binary_pickle(path):
        with path.open("rb") as file:
            head = file.read(80)
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in head[:24])
        return CheckpointError(f"{path}: not a weight file (it starts with '{shown}')")
    return CheckpointError(f"{path}: cut short or damaged ({path.stat().st_size} bytes)", "copy or download it again")


def is_binary_pickle(path: Path) -> bool:
    """Whether it starts as every pickle since protocol 2 (2003) does."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def choose(path: Path, tree: Any) -> Mapping[str, Any]:
    """The mapping of names to tensors inside a training snapshot."""
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path}: holds a {type(tree).__name__}, expected a dict of tensors")
    average = tree.get("average")  # our own last.ckpt: what its run would write as best.safetensors
    if isinstance(average, Mapping) and isinstance(average.get("state"), Mapping) and "net" in tree:
        return average["state"]
    named = [tree[k] for k in WRAPPERS if k in tree and isinstance(tree[k], Mapping)]
    for inner in named:
        if any(is_array(v) for v in inner.values()):
            return inner
        deeper = [v for k, v in inner.items() if k in WRAPPERS and isinstance(v, Mapping)]
        for candidate in deeper:
            if any(is_array(v) for v in candidate.values()):
                return candidate
    if paddle_files.is_optimiser(tree):
        raise CheckpointError(
            f"{path}: holds the state of a Paddle optimiser, not weights", "the weights are in the .pdparams beside it"
        )
    if any(is_array(v) for v in tree.values()):
        return tree
    nested = [v for v in tree.values() if isinstance(v, Mapping) and any(is_array(x) for x in v.values())]
    if len(nested) == 1:
        return nested[0]
    keys = ", ".join(f"'{k}'" for k in list(tree)[:8])
    raise CheckpointError(f"{path}: found no dict of tensors in it", f"its keys are {keys}" if keys else "it is empty")


def is_array(value: Any) -> bool:
    """Whether it describes an array; Paddle also stores pairs of an internal name and an array."""
    value = value[1] if paddle_files.is_pair(value) else value
    return isinstance(value, TensorRef) or (isinstance(value, ArrayRef) and value.is_numeric())


def resolve(path: Path, chosen: Mapping[str, Any], numbers: Numbers) -> dict[str, np.ndarray]:
    """The arrays of the chosen mapping; other values beside them (counters, settings) are left out."""
    state = {}
    for name, value in chosen.items():
        if not is_array(value):
            continue
        value = value[1] if paddle_files.is_pair(value) else value
        try:
            if isinstance(value, TensorRef):
                state[str(name)] = value.array(numbers[value.storage.key, value.storage.offset])
            else:
                state[str(name)] = value.array()
        except (ValueError, TypeError, KeyError, MemoryError) as e:
            raise CheckpointError(
                f"{path}: cut short or damaged at tensor '{name}'", "copy or download it again"
            ) from e
    return state


def without_leading(state: State) -> State:
    """Strips :data:`LEADING` prefixes while all names share one."""
    while prefix := next((p for p in LEADING if all(name.startswith(p) for name in state)), None):
        state = state.renamed({name: name[len(prefix) :] for name in state})
    return state


def onnx_card(path: Path) -> Card | None:
    from motes.inference.onnx_card import onnx_metadata

    check_file(path)
    text = onnx_metadata(path.read_bytes(), str(path)).get(METADATA_KEY)
    return Card.from_json(text, str(path)) if text else None
