"""Weights out, in the format of any framework, without the framework (torch's own format needs torch)."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from motes.cards import Card
from motes.checkpoints.jittor_files import write_jittor
from motes.checkpoints.paddle_files import write_paddle
from motes.checkpoints.safetensors_files import as_array, write_safetensors
from motes.errors import MotesError
from motes.naming import look_up

FORMATS = {
    "safetensors": (".safetensors",),
    "torch": (".pth", ".pt", ".pth.tar"),
    "pdparams": (".pdparams",),
    "jittor": (".pkl",),
}
"""Format -> the suffixes of its files, the usual one first."""


def write_state(
    path: str | Path,
    state: Mapping[str, Any],
    *,
    linear: Collection[str] = (),
    card: Card | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights in the format that the suffix names, atomically; the same weights give the same bytes.

    Args:
        path: its suffix is one of :data:`FORMATS`.
        state: name -> array or torch tensor, under torch's names and in torch's layouts.
        linear: names of the weights of linear layers, which Paddle stores transposed
            (:func:`motes.checkpoints.matching.linear_weights`).
        card: what they are; ``.safetensors`` alone can hold it.
        facts: what a file without a card says of itself; ``.safetensors`` alone can hold it.

    Raises:
        MotesError: unknown suffix.
    """
    kind = format_of(path)
    if kind == "torch":
        write_torch(Path(path), state)
    elif kind == "safetensors":
        write_safetensors(path, state, card, facts)
    else:
        arrays = {name: as_array(value) for name, value in state.items()}
        if kind == "pdparams":
            write_paddle(path, arrays, linear)
        else:
            write_jittor(path, arrays)


def format_of(path: str | Path) -> str:
    """The format that a suffix names."""
    name = Path(path).name.lower()
    found = next((kind for kind, suffixes in FORMATS.items() if name.endswith(suffixes)), None)
    if found is None:
        known = ", ".join(suffix for suffixes in FORMATS.values() for suffix in suffixes)
        raise MotesError(f"{path}: cannot write this format", f"one of {known}; ONNX is 'motes export'")
    return found


def output_path(source: str | Path, output: str | Path | None, to: str | None) -> Path:
    """Where to write: ``output``, or beside nothing else named, ``source``'s stem with the suffix of the format ``to``.

    Raises:
        MotesError: neither is given, an unknown format, or a suffix of another format.
    """
    if to is not None:
        look_up("format", to, FORMATS)
    if output is None:
        if to is None:
            raise MotesError("no output named", "give -o FILE, or --to FORMAT")
        stem = Path(source).name
        for suffix in sorted((s for suffixes in FORMATS.values() for s in suffixes), key=len, reverse=True):
            stem = stem.removesuffix(suffix)
        output = Path(stem + FORMATS[to][0])
    path = Path(output)
    if to is not None and format_of(path) != to:
        raise MotesError(f"{path}: its suffix is not of the format '{to}'", f"{' or '.join(FORMATS[to])}")
    format_of(path)
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise MotesError(f"{path}: is the file that is read", "give another name with -o")
    return path


def write_torch(path: Path, state: Mapping[str, Any]) -> None:
    """A plain ``OrderedDict`` of CPU tensors, atomically; the same tensors give the same bytes."""
    import torch

    from motes.imaging import atomic_path

    def tensor(value: Any) -> torch.Tensor:
        return (
            value.detach().cpu().contiguous() if hasattr(value, "detach") else torch.from_numpy(as_array(value).copy())
        )

    file = io.BytesIO()  # a file name would become part of the archive
    torch.save(OrderedDict((name, tensor(value)) for name, value in state.items()), file)
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.getvalue())
