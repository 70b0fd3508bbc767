"""``motes convert``: a weight file of any readable format and form into our format, or torch's, in another form."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from motes.checkpoints import load_network, write_safetensors
from motes.errors import MotesError
from motes.export.forms import change_form
from motes.export.parity import Bounds, ParityReport, Tile, bounds_of, compare, synthetic_tiles

SUFFIXES = (".safetensors", ".pth", ".pt", ".pth.tar")


def convert(
    source: str | Path,
    output: str | Path,
    model: str | None = None,
    form: str | None = None,
    tiles: Iterable[Tile] | None = None,
    bounds: Bounds | None = None,
    variant: str | None = None,
) -> ParityReport:
    """Reads weights, changes their form, compares both networks on every tile, and writes the result with its card.

    Args:
        source: any file that ``read_state`` reads.
        output: ``.safetensors`` (with the card), or ``.pth``, ``.pt``, ``.pth.tar`` for torch: a plain dict of tensors
            under the published names, which the authors' code loads.
        model: the network; None: as the card or the names tell.
        form: ``train``, ``converted`` or ``deploy``; None: merged where the network can be.
        tiles: what to compare on; None: synthetic scenes.
        bounds: how much the output may differ; None: what the network says (``export_bounds``), or the default.
        variant: of the network; needed only where the names do not tell.

    Raises:
        MotesError: wrong suffix, wrong network, a form it cannot take, or outputs that differ too much: no file then.
    """
    from motes.models.backend import TorchBackend

    output = Path(output)
    if not output.name.lower().endswith(SUFFIXES):
        raise MotesError(f"{output}: cannot write this format", f"one of {', '.join(SUFFIXES)}; ONNX is 'motes export'")
    net, card = load_network(source, model, variant)
    form = form or ("deploy" if hasattr(net, "reparameterize") else card.form)
    merged = change_form(net, form)
    new_card = card.replace(variant=merged.card.variant, form=form, options=merged.card.options)
    tiles = synthetic_tiles(card, ((64, 64), (131, 167))) if tiles is None else tiles
    before, after = TorchBackend(net, card, as_is=True), TorchBackend(merged, new_card, as_is=True)
    report = compare(before, after, tiles, bounds or bounds_of(net), card.threshold)
    if not report.passed:
        raise MotesError(f"{output}: not written, form '{form}' disagrees with '{card.form}': {report.worst()}")
    state = merged.state_dict()
    if output.suffix.lower() == ".safetensors":
        write_safetensors(output, state, new_card)
    else:
        write_torch(output, state)
    report.facts = {
        "source": str(source),
        "source_sha256": card.source_sha256,
        "model": card.name,
        "from": card.form,
        "to": form,
        "params": [sum(p.numel() for p in n.parameters()) for n in (net, merged)],
        "tensors": [len(n.state_dict()) for n in (net, merged)],
        "file": str(output),
    }
    return report


def write_torch(path: Path, state: dict) -> None:
    """A plain ``OrderedDict`` of CPU tensors, atomically; the same tensors give the same bytes."""
    import torch

    from motes.imaging import atomic_path

    file = io.BytesIO()  # a file name would become part of the archive
    torch.save(OrderedDict((name, tensor.detach().cpu().contiguous()) for name, tensor in state.items()), file)
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.getvalue())
