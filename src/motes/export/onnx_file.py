"""ONNX with free batch, height and width, the card inside, compared with the network before it gets its name."""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import nn

from motes.cards import METADATA_KEY, Card
from motes.errors import MotesError
from motes.export.forms import card_in, deployable, reparameterize
from motes.export.parity import Bounds, ParityReport, Tile, bounds_of, compare, fitting, synthetic_tiles

if TYPE_CHECKING:
    from motes.export.boxes import BoxParity

OPSET = 17
FREE = {0: "batch", 2: "height", 3: "width"}


def export_onnx(
    net: nn.Module,
    card: Card,
    path: str | Path,
    tiles: Iterable[Tile] | None = None,
    bounds: Bounds | None = None,
) -> ParityReport | BoxParity:
    """Merges ``net`` and writes it as ONNX: input ``image`` [B, C, H, W] float32, output ``logits`` [B, K, H, W]; of a
    detector its candidates (``export_boxes``).

    B, H and W are free; H and W are fixed where the card's ``min_size`` and ``max_size`` are the same.

    The written file is run by ONNX Runtime on every tile and compared with ``net`` itself, as it is (unmerged, torch,
    float32). The same network and card give the same bytes.

    Args:
        net: from ``load_network`` or ``create_model``; not changed.
        card: goes into the file's metadata, its form and variant set to what the file holds.
        path: the ``.onnx`` file.
        tiles: what to compare on; None: synthetic scenes of six sizes, odd ones and a batch of two among them.
        bounds: how much may differ; None: what the network says (``export_bounds``), or the default.

    A network that ONNX cannot express exactly says why in an attribute, ``not_exported`` (a string), of its class or of
    the instance where it depends on the options; it is refused with that reason.

    Raises:
        MotesError: the two disagree by more than ``bounds``; no file is left then. Or the network is ``not_exported``.
    """
    if reason := getattr(net, "not_exported", None):
        raise MotesError(f"{card.name} is not exported: {reason}", "motes detect --backend torch runs its weights")
    from motes.imaging import atomic_path
    from motes.inference import OnnxBackend
    from motes.models.backend import TorchBackend

    if card.task == "detection":
        from motes.export.boxes import export_boxes

        return export_boxes(net, card, path, tiles)
    path = Path(path)
    merged = deployable(net)
    form = getattr(merged, "form", card.form)
    card = card_in(card, form)
    data = onnx_bytes(merged, card)
    tiles = synthetic_tiles(card) if tiles is None else tiles
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
        reference, exact = TorchBackend(copy.deepcopy(net), card, as_is=True), Float64(net)
        report = compare(reference, OnnxBackend(temporary), tiles, bounds or bounds_of(net), card.threshold, exact)
        if not report.passed:
            raise MotesError(f"{path}: not written, ONNX Runtime disagrees with the network: {report.worst()}")
    report.facts = facts_of(path, data, card)
    return report


def facts_of(path: Path, data: bytes, card: Card) -> dict[str, Any]:
    """What a parity report says of the file."""
    return {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source_sha256": card.source_sha256,
        "model": card.name,
        "form": card.form,
    }


class Float64:
    """A copy of a network, merged, that computes in float64."""

    def __init__(self, net: nn.Module) -> None:
        self.net = copy.deepcopy(reparameterize(net)).eval().cpu().double()

    def run(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.net(torch.from_numpy(batch).double()).numpy()
        return logits


def onnx_bytes(net: nn.Module, card: Card, outputs: Sequence[str] = ("logits",)) -> bytes:
    """The serialised model of a network that is ready for export, with these names of what it returns."""
    spec = card.input
    # A network that takes one size alone says so in the file's input.
    free = FREE if spec.max_size is None or spec.min_size < spec.max_size else {0: FREE[0]}
    # Odd sides and two frames: nothing about the example may become a constant of the graph.
    sides = [fitting(n, spec) for n in (51, 70)]
    example = torch.zeros(2, spec.channels, *sides)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript-based exporter: the other one is given up on adaptive pooling, takes 6 s instead of 0.2 s, and
        # its graph is no faster. Its warnings are about being the older one.
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.onnx.export(
            net,
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={"image": free, **({"logits": free} if "logits" in outputs else {})},
        )
    model = onnx.load_from_string(file.getvalue())
    tidy(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def tidy(model: onnx.ModelProto) -> None:
    """Removes what depends on the machine that exported: documentation with file paths, the producer's version."""
    model.producer_name, model.producer_version, model.doc_string = "motes", "", ""
    model.graph.name, model.graph.doc_string = "motes", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
