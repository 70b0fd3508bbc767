"""``motes bench``: a network, weights, an ONNX file or a training-free method, timed on every backend it runs on."""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from motes.benchmark.complexity import complexity
from motes.benchmark.latency import measure
from motes.cards import Card, list_models
from motes.checkpoints import load_network
from motes.errors import CheckpointError, MissingExtraError, MotesError
from motes.export.parity import fitting
from motes.inference import Backend, load_backend
from motes.inference import backend as deployed
from motes.inference.box_detector import CandidateBackend
from motes.models import create_model
from motes.naming import look_up

BACKENDS = ("torch", *deployed.BACKENDS)


def bench(
    target: str,
    sizes: Sequence[tuple[int, int]] = ((256, 256), (512, 512)),
    backends: Sequence[str] = (),
    threads: int | None = None,
    runs: int = 15,
    model: str | None = None,
    variant: str | None = None,
) -> dict[str, Any]:
    """Parameters, multiply-accumulates and latency, batch 1.

    Networks by name have random weights. torch runs the network as it is and merged; the other backends run what
    ``motes export`` would write. An ONNX file or a training-free method is only timed.

    Of a detector its candidates are counted and timed: the network with its decoding, and proposals where it has such,
    without the choice among candidates, which depends on the scene. Frames are padded to what it takes, as in use.

    Args:
        target: a name of ``motes models``, a weight file, an ``.onnx`` file, a shipped network or a classical method.
        sizes: (height, width) px.
        backends: some of :data:`BACKENDS`; empty: all that are installed and can run the target.
        threads: CPU threads; None leaves it to each backend.
        runs: timed runs per row.
        model, variant: for a weight file whose names do not tell.

    Returns:
        ``{"target", "model", "task", "machine", "threads", "complexity": [row], "latency": [row]}``.

    Raises:
        MotesError: unknown target or backend, or a backend that cannot run the target.
    """
    for backend in backends:
        look_up("backend", backend, BACKENDS)
    with torch_threads(threads), tempfile.TemporaryDirectory(prefix="motes-bench-") as folder:
        net = network(target, model, variant)
        if net is None:
            rows = list(ready_made(target, backends, threads))
            costs = []
        else:
            rows = list(of_network(net, backends, threads, Path(folder)))
            costs = [cost(form, n, size) for form, n in forms(net) for size in sizes]
        latency = [timed(name, form, runner, size, runs) for size in sizes for name, form, runner in rows]
        card = rows[0][2].card
        rows.clear()  # closes the files: Windows cannot delete them open
    return {
        "target": target,
        "model": card.name,
        "task": card.task,
        "threads": threads or os.cpu_count(),
        "machine": machine(),
        "complexity": costs,
        "latency": latency,
    }


def network(target: str, model: str | None, variant: str | None) -> nn.Module | None:
    """The torch network that ``target`` means; None if it is an ONNX file, a shipped network or a method."""
    from motes.classical import METHODS
    from motes.inference.backend import list_weights

    path = Path(target)
    if target in list_models():
        return create_model(target, variant).eval()
    if target in METHODS or target in list_weights() or path.suffix.lower() == ".onnx":
        return None
    if path.exists() or path.suffix or len(path.parts) > 1:
        return load_network(path, model, variant)[0]
    look_up("model", target, [*list_models(), *list_weights(), *METHODS], CheckpointError)
    return None


Row = tuple[str, str, Backend]
"""Backend name, form, and what runs."""


def forms(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The network as it is, and merged if that is something else."""
    from motes.export import reparameterize

    merged = reparameterize(net)
    as_is = getattr(net, "form", "train")
    return [(as_is, net)] if merged is net else [(as_is, net), ("deploy", merged)]


def of_network(net: nn.Module, backends: Sequence[str], threads: int | None, folder: Path) -> Iterator[Row]:
    from motes.models.backend import TorchBackend

    if not backends or "torch" in backends:
        for form, each in forms(net):
            yield "torch", form, TorchBackend(each, net.card)
    others = [b for b in BACKENDS[1:] if b in backends or (not backends and installed(b))]
    if others:
        file = folder / "network.onnx"
        form, data = exported(net)
        file.write_bytes(data)
        for backend in others:
            yield backend, form, loaded(file, backend, threads)


def exported(net: nn.Module) -> tuple[str, bytes]:
    """The form that is exported, and the file."""
    from motes.export.boxes import candidate_bytes
    from motes.export.forms import deployable
    from motes.export.onnx_file import onnx_bytes

    if net.card.task == "detection":
        return net.card.form, candidate_bytes(net, net.card)
    merged = deployable(net)
    form = getattr(merged, "form", "train")
    return form, onnx_bytes(merged, net.card.replace(form=form))


def ready_made(target: str, backends: Sequence[str], threads: int | None) -> Iterator[Row]:
    from motes.classical import METHODS

    if target in METHODS:
        if backends:
            raise MotesError(f"'{target}' is a training-free method and has no backend", "leave --backend out")
        yield "numpy/OpenCV", "-", load_backend(target)
        return
    if "torch" in backends:
        raise MotesError(f"'{target}' is an ONNX file, which torch does not run", "give the weights it was made from")
    for backend in backends or [b for b in BACKENDS[1:] if installed(b)]:
        runner = loaded(target, backend, threads)
        yield backend, runner.card.form, runner


def loaded(path: str | Path, backend: str, threads: int | None) -> Backend:
    if not installed(backend):
        raise MissingExtraError(f"the {backend} backend", backend.partition("-")[0])
    return load_backend(path, backend, threads=threads)


def installed(backend: str) -> bool:
    runtime = backend.partition("-")[0]
    return importlib.util.find_spec({"onnx": "onnxruntime"}.get(runtime, runtime)) is not None


def cost(form: str, net: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    counted = complexity(net, *taken(with_card(net).card, size))
    return {
        "form": form,
        "height": size[0],
        "width": size[1],
        "params": counted.params,
        "macs": counted.macs,
        "published_macs": counted.published_macs,
    }


def taken(card: Card, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a frame of ``size`` runs at: that of a detector is padded, others are taken as they are."""
    if card.task != "detection":
        return size
    height, width = (fitting(side, card.input) for side in size)
    return height, width


def with_card(net: nn.Module) -> nn.Module:
    if not isinstance(getattr(net, "card", None), Card):
        raise MotesError(f"{type(net).__name__} has no card", "make it with create_model or load_network")
    return net


def timed(name: str, form: str, runner: Backend, size: tuple[int, int], runs: int) -> dict[str, Any]:
    height, width = taken(runner.card, size)
    run = runner.candidates if isinstance(runner, CandidateBackend) and runner.card.task == "detection" else runner.run
    batch = np.random.default_rng(0).standard_normal((1, runner.card.input.channels, height, width), np.float32)
    result = measure(run, batch, runs=runs)
    return {
        "backend": name,
        "form": form,
        "height": size[0],
        "width": size[1],
        "median_ms": result.median,
        "best_ms": result.best,
        "p90_ms": result.p90,
        "runs": result.runs,
        "frames_per_s": 1e3 / result.median,
    }


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if threads:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    from importlib.metadata import version

    packages = {p: version(p) for p in ("torch", "onnxruntime", "openvino") if installed(p)}
    return {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count(), "packages": packages}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
