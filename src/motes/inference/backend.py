"""Backends: what runs a network. Which one a name or a file means."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from motes.cards import Card
from motes.errors import CardError, CheckpointError

DEFAULT_MODEL = "motes"
"""The network that ``motes detect`` runs when none is named: ``weights/<this>.onnx``."""

BACKENDS = ("onnx", "openvino", "openvino-bf16")
"""The backends of the field half; ``torch`` is handed in by the command line, from the lab.

``openvino-bf16`` computes in bfloat16 where the CPU can: about twice as fast, the third digit of a probability differs.
"""

_TORCH_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".pkl", ".pdparams")


@runtime_checkable
class Backend(Protocol):
    """Anything that runs a network.

    ``run`` takes [B, C, H, W] float32, already scaled and normalised, sides fit for ``card.input``, and returns logits
    [B, K, H, W] float32 of the same height and width.
    """

    card: Card

    def run(self, batch: np.ndarray) -> np.ndarray:
        """[B, C, H, W] float32 -> logits [B, K, H, W] float32."""
        ...


def load_backend(
    model: str | Path | None = None,
    backend: str = "onnx",
    *,
    threads: int | None = None,
    **options: Any,
) -> Backend:
    """The backend that runs ``model``.

    Args:
        model: None = the shipped network; the name of a shipped network or of a training-free method; a ``.onnx`` file.
        backend: one of :data:`BACKENDS`; ignored by training-free methods.
        threads: CPU threads of one run; None leaves it to the runtime.
        options: settings of a training-free method (``size=7, k=10``).

    Raises:
        CheckpointError: unknown name (the nearest one is suggested) or an unreadable file.
        CardError: a file without a card, or one that does not fit its network; an unknown option.
    """
    from motes.classical import METHODS, classical_backend
    from motes.naming import look_up

    look_up("backend", backend, BACKENDS, CheckpointError)
    name = str(model) if model is not None else DEFAULT_MODEL
    if name in METHODS:
        return classical_backend(name, **options)
    if options:
        raise CardError(f"'{name}' is a network and has no option '{next(iter(options))}'", "only methods have options")
    path = find_weights(name)
    runtime, _, precision = backend.partition("-")
    if runtime == "openvino":
        from motes.inference.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, threads=threads, precision=precision or "f32")
    from motes.inference.onnx_backend import OnnxBackend

    return OnnxBackend(path, threads=threads)


def list_weights() -> dict[str, Path]:
    """Name -> file of every shipped network."""
    folder = Path(str(resources.files("motes"))) / "weights"
    return {p.stem: p for p in sorted(folder.glob("*.onnx"))}


def find_weights(name: str) -> Path:
    """The ONNX file that ``name`` means: a path, a shipped network, or the start of exactly one shipped name."""
    path = Path(name)
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix in _TORCH_SUFFIXES:
            raise CheckpointError(
                f"{name}: weights of the lab half, which ONNX Runtime cannot run",
                "add --backend torch, or turn them into .onnx with 'motes export'",
            )
        return path
    if (path / "model.onnx").is_file():  # a deployment folder of `motes export`
        return path / "model.onnx"
    if path.is_dir():
        raise CheckpointError(f"{name}: a folder, expected an .onnx file or a name")
    if suffix == ".onnx" or suffix in _TORCH_SUFFIXES or "/" in name or "\\" in name:
        near = _nearest_file(path)
        raise CheckpointError(f"{name}: no such file", f"did you mean '{near}'?" if near else None)
    return _shipped(name)


def _shipped(name: str) -> Path:
    from motes.cards import list_models
    from motes.classical import METHODS
    from motes.naming import look_up, nearest

    shipped = list_weights()
    if name in shipped:
        return shipped[name]
    of_network = [n for n in shipped if n.split("-")[0] == name]
    if len(of_network) == 1:
        return shipped[of_network[0]]
    if not shipped and name == DEFAULT_MODEL:
        raise CheckpointError("this installation holds no shipped network", "name a file: --model network.onnx")
    if name in list_models():
        which = f"shipped: {', '.join(shipped)}" if shipped else "none are shipped"
        raise CheckpointError(f"no weights of '{name}' are shipped", f"name a file: --model {name}.onnx; {which}")
    known = [*shipped, *METHODS]
    networks = {n.split("-")[0]: n for n in shipped}  # so that a typo in "repisdnet" finds "repisdnet-sirst"
    close = nearest(name, known) or networks.get(nearest(name, networks) or "")
    if close:
        raise CheckpointError(f"unknown model '{name}'", f"did you mean '{close}'?")
    look_up("model", name, known, CheckpointError)
    raise AssertionError  # look_up raised


def _nearest_file(path: Path) -> Path | None:
    """The file beside ``path`` whose name looks most like it."""
    try:
        names = [p.name for p in path.parent.iterdir() if p.is_file()]
    except OSError:
        return None
    found = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / found[0] if found else None
