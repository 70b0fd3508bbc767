"""A weight file as a torch backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motes.checkpoints.loading import load_network

if TYPE_CHECKING:
    from motes.models.backend import TorchBackend


def load_torch_backend(
    path: str | Path,
    model: str | None = None,
    variant: str | None = None,
    *,
    threads: int | None = None,
    device: str | None = None,
) -> TorchBackend:
    """Runs a weight file with PyTorch; see :func:`load_network` for ``model`` and ``variant``.

    Args:
        threads: CPU threads; None leaves it to PyTorch.
        device: ``cpu``, ``cuda``, ...; None = the GPU if there is one.
    """
    import torch

    from motes.models.backend import TorchBackend

    if threads:
        torch.set_num_threads(threads)
    net, card = load_network(path, model, variant)
    return TorchBackend(net, card, device or ("cuda" if torch.cuda.is_available() else "cpu"))
