"""Reference files for ``motes align``: what goes into a network and what must come out of it.

``.npz``: named arrays. ``.npy``: one pickled dictionary of arrays, the form that the package reprod_log writes; it is
read by our own interpreter of pickles, so nothing in it is executed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motes.checkpoints.filled import fill_input, fill_state
from motes.checkpoints.pickles import ArrayRef, Machine, RefusedPickleError
from motes.checkpoints.reading import DAMAGED, check_file, read_state
from motes.errors import CheckpointError
from motes.imaging import atomic_path
from motes.naming import look_up

SUFFIXES = (".npz", ".npy")

GIVEN = ("shape", "input", "image", "mean", "std", "target", "keys", "kept", "override", "scaled", "factor", "weights",
         "settings", "spots")  # fmt: skip
"""Entries of a reference that say what goes in (``spots``: a remark); every other one is compared."""

EMBEDDED = "weights/"
"""Prefix of the parameters that a reference carries itself."""


@dataclass
class Reference:
    """One reference file.

    ``values``: name -> array, what must come out. ``input`` [B, C, H, W] float32 as the network takes it and ``target``
    [B, K, H, W]: None where the file has none. ``settings``: how it was made, empty for files of others.
    """

    path: Path
    values: dict[str, np.ndarray]
    input: np.ndarray | None = None
    target: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    given: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def keys_name(self) -> str | None:
        """The file of parameter names and shapes that the reference names."""
        text = text_of(self.given.get("keys"))
        return text if text and not text.startswith("{") else None

    @property
    def own_keys(self) -> dict[str, Any] | None:
        """Parameter names and shapes that the reference itself holds; the names are ours."""
        text = text_of(self.given.get("keys"))
        return as_json(text, self.path) if text and text.startswith("{") else None

    @property
    def kept(self) -> list[str]:
        """Tensors that keep what a fresh network has there."""
        return [str(name) for name in np.atleast_1d(self.given.get("kept", []))]

    def state(self, keys: Path | None = None) -> dict[str, np.ndarray] | None:
        """The weights: carried in the file, in a file that it names, or filled by name; None if it says nothing.

        Args:
            keys: the file of names and shapes to fill by, for references that neither hold nor name weights.
        """
        carried = {k[len(EMBEDDED) :]: v for k, v in self.given.items() if k.startswith(EMBEDDED)}
        if carried:
            return carried
        if file := text_of(self.given.get("weights")):
            return read_state(self.path.parent / file)
        names = self.own_keys
        if names is None and keys is not None:
            check_file(keys)
            names = as_json(keys.read_text(encoding="utf-8", errors="replace"), keys)
        if names is None:
            return None
        try:
            state = fill_state(names)
        except (TypeError, ValueError) as e:
            raise CheckpointError(f"{keys or self.path}: expected {{name: [shape, dtype]}}: {e}") from None
        for change in as_json(text_of(self.given.get("override")) or "[]", self.path):
            for name in (n for n in state if n.endswith(change["suffix"])):
                state[name] = (state[name] * change["mul"] + change["add"]).astype(state[name].dtype)
        for name in (str(n) for n in np.atleast_1d(self.given.get("scaled", []))):
            look_up(f"tensor to scale in {self.path}", name, state, CheckpointError)
            state[name] = (state[name] * self.given.get("factor", 1.0)).astype(state[name].dtype)
        return {name: value for name, value in state.items() if name not in self.kept}


def read_reference(path: str | Path) -> Reference:
    """Reads an ``.npz`` or ``.npy`` reference.

    Raises:
        CheckpointError: missing, cut short, of another format, or a pickle that asks for anything but arrays.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path}: expected a reference, .npz or .npy")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a reference, .npz or .npy")
    check_file(path)
    arrays = read_arrays(path)
    given = {k: v for k, v in arrays.items() if k in GIVEN or k.startswith(EMBEDDED)}
    values = {k: v for k, v in arrays.items() if k not in given}
    for name, value in values.items():
        if value.dtype.kind not in "fiub":
            raise CheckpointError(f"{path}: '{name}' holds {value.dtype}, expected numbers to compare with")
    settings = as_json(text_of(given.get("settings")) or "{}", path)
    return Reference(path, values, input_of(given, path), given.get("target"), settings, given)


def write_reference(path: str | Path, given: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
    """Writes ``.npz``, or a ``.npy`` dictionary of ``values``.

    reprod_log's dictionaries hold what is compared and no more: input and target then go beside it, to
    ``<stem>.input.npy`` and ``<stem>.target.npy``, and weights and settings are left out.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path}: cannot write this format", f"one of {', '.join(SUFFIXES)}")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez_compressed(file, **given, **values)  # type: ignore[arg-type]
        else:
            np.save(file, np.array(dict(values), dtype=object), allow_pickle=True)
    if path.suffix.lower() == ".npy":
        for name in ("input", "target"):
            if name in given:
                with atomic_path(path.with_suffix(f".{name}.npy")) as temporary, temporary.open("wb") as file:
                    np.save(file, given[name])


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a file; a plain array in an ``.npy`` is called after the file."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        with path.open("rb") as file:
            start = file.read(1 << 16)
            if not header_says_object(start):
                file.seek(0)
                return {path.stem: np.load(file, allow_pickle=False)}
            file.seek(header_length(start))
            tree = Machine().run(io.BytesIO(file.read()))
    except RefusedPickleError as e:
        raise CheckpointError(
            f"{path}: refused, it asks for {e}, which arrays never need; nothing was executed"
        ) from None
    except DAMAGED as e:
        if "Object arrays" in str(e):
            raise CheckpointError(f"{path}: holds Python objects, expected arrays of numbers") from None
        raise CheckpointError(f"{path}: cut short, damaged or no {path.suffix[1:]} file") from e
    inside = tree.data if isinstance(tree, ArrayRef) else None
    if not isinstance(inside, list) or len(inside) != 1 or not isinstance(inside[0], Mapping):
        raise CheckpointError(f"{path}: holds Python objects, expected a dictionary of arrays")
    return dict(flat(inside[0], path))


def flat(tree: Mapping[Any, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of nested dictionaries, called ``outer/inner``."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, path, f"{name}/")
        elif isinstance(value, ArrayRef) and value.is_numeric():
            try:
                yield name, value.array()
            except (ValueError, TypeError) as e:
                raise CheckpointError(f"{path}: cut short or damaged at '{name}'") from e
        elif isinstance(value, int | float):
            yield name, np.asarray(value)
        else:
            raise CheckpointError(f"{path}: '{name}' holds no array of numbers")


def header_says_object(start: bytes) -> bool:
    """Whether an ``.npy`` file's header announces Python objects; ValueError if it is no such header."""
    return bool(parse_header(start)[1].hasobject)


def header_length(start: bytes) -> int:
    return parse_header(start)[0]


def parse_header(start: bytes) -> tuple[int, np.dtype]:
    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read(stream)
    return stream.tell(), dtype


def input_of(given: Mapping[str, np.ndarray], path: Path) -> np.ndarray | None:
    """The input as stored, made from an 8-bit ``image`` and its statistics, or filled from its ``shape``."""
    if "input" in given:
        images = np.asarray(given["input"])
    elif "image" in given:
        grey = np.asarray(given["image"], np.float64) / 255
        images = (grey - given.get("mean", 0.0)) / given.get("std", 1.0)
        images = images[None, None] if images.ndim == 2 else images
    elif "shape" in given:
        shape = [int(n) for n in given["shape"]]
        if len(shape) != 4 or min(shape) < 1:
            raise CheckpointError(f"{path}: shape is {shape}, expected [images, channels, height, width]")
        images = fill_input(shape)
    else:
        return None
    if images.ndim != 4 or images.dtype.kind not in "fiub":
        raise CheckpointError(f"{path}: its input has shape {list(images.shape)}, expected [B, C, H, W]")
    return np.ascontiguousarray(images, np.float32)


def text_of(value: np.ndarray | None) -> str | None:
    return str(value) if value is not None and value.dtype.kind == "U" and value.ndim == 0 else None


def as_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise CheckpointError(f"{path}: not JSON: {e}") from None
