"""``motes convert``: weights of any readable file, in another form, another format, or their backbone alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from motes.cards import model_card
from motes.checkpoints import load_network, read_card, read_state, write_state
from motes.checkpoints.backbones import (
    backbone_names,
    backbone_state,
    holds_more,
    is_backbone_of,
    load_backbone,
    network_of_backbone,
)
from motes.checkpoints.loading import published_order, sha256
from motes.checkpoints.matching import (
    abbreviated,
    best_fit,
    fitted,
    linear_weights,
    matches,
    module_of,
    new_names,
    published_to_own,
)
from motes.checkpoints.writing import format_of, output_path
from motes.errors import MotesError
from motes.export.forms import change_form
from motes.export.parity import Bounds, ParityReport, Tile, bounds_of, compare, synthetic_tiles
from motes.models import create_model


def convert(
    source: str | Path,
    output: str | Path | None = None,
    model: str | None = None,
    form: str | None = None,
    tiles: Iterable[Tile] | None = None,
    bounds: Bounds | None = None,
    variant: str | None = None,
    *,
    to: str | None = None,
    options: Mapping[str, Any] | None = None,
    absent: Sequence[str] = (),
    swap_classes: bool = False,
) -> ParityReport:
    """Reads weights, changes their form, compares both networks on every tile, and writes the result with its card.

    Args:
        source: any file that ``read_state`` reads.
        output: ``.safetensors`` (with the card); a plain dict under the published names, which the authors' code loads:
            ``.pth``, ``.pt``, ``.pth.tar`` for torch, ``.pkl`` for Jittor; ``.pdparams`` for Paddle, under PaddleRS's
            names where it has the network. None: the source's stem, in the working directory.
        model: the network; None: as the card or the names tell.
        form: ``train``, ``converted`` or ``deploy``; None: merged where the network can be.
        tiles: what to compare on; None: synthetic scenes.
        bounds: how much the output may differ; None: what the network says (``export_bounds``), or the default.
        variant: of the network; needed only where the names do not tell.
        to: a format (:data:`motes.checkpoints.writing.FORMATS`); None: as the suffix of ``output`` tells.
        options: of the network, for a file without a card; see ``load_network``.
        absent: patterns of tensors that may be missing (they keep a fresh network's numbers) or left over.
        swap_classes: exchange the outputs of the classes that the authors number otherwise than the data set does; see
            :func:`swapped`.

    Raises:
        MotesError: wrong suffix, wrong network, a form it cannot take, or outputs that differ too much: no file then.
    """
    from motes.models.backend import TorchBackend

    output = output_path(source, output, to)
    net, card = load_network(source, model, variant, options=options, absent=absent)
    notes = notes_on(net, read_state(source), source, absent)
    card = swapped(net) if swap_classes else card
    notes += note_on_classes(net, format_of(output), swap_classes)
    form = form or ("deploy" if hasattr(net, "reparameterize") else card.form)
    merged = change_form(net, form)
    new_card = card.replace(variant=merged.card.variant, form=form, options=merged.card.options)
    tiles = synthetic_tiles(card, ((64, 64), (131, 167))) if tiles is None else tiles
    before, after = TorchBackend(net, card, as_is=True), TorchBackend(merged, new_card, as_is=True)
    report = compare(before, after, tiles, bounds or bounds_of(net), card.threshold)
    if not report.passed:
        raise MotesError(f"{output}: not written, form '{form}' disagrees with '{card.form}': {report.worst()}")
    names = written_names(merged, format_of(output))
    linear = {names[name] for name in linear_weights(merged)}
    state = {names[name]: value for name, value in merged.state_dict().items()}
    write_state(output, state, linear=linear, card=new_card)
    report.facts = {
        "source": str(source),
        "source_sha256": card.source_sha256,
        "model": card.name,
        "from": card.form,
        "to": form,
        "format": format_of(output),
        "params": [sum(p.numel() for p in n.parameters()) for n in (net, merged)],
        "tensors": [len(n.state_dict()) for n in (net, merged)],
        "notes": notes,
        "file": str(output),
    }
    return report


def notes_on(net: nn.Module, state: Mapping[str, Any], source: str | Path, absent: Sequence[str]) -> list[str]:
    """What was allowed to be absent and is."""
    if not absent:
        return []
    own = net.state_dict()
    given = fitted(published_to_own(module_of(net), state, str(source)), own)
    missing = [n for n in own if n not in given and matches(n, absent)]
    extra = [n for n in given if n not in own]
    notes = (
        [f"{len(missing)} missing tensors keep a fresh network's numbers ({abbreviated(missing)})"] if missing else []
    )
    return notes + ([f"{len(extra)} tensors left out ({abbreviated(extra)})"] if extra else [])


def convert_backbone(
    source: str | Path,
    output: str | Path | None = None,
    model: str | None = None,
    variant: str | None = None,
    *,
    to: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a backbone alone: taken out of a network's weights, or read from a file that holds no more than it.

    The names are those of the classifier that the backbone is the body of (torchvision's for a ResNet), without the
    classifier's last layer; a training starts from the result with ``model.backbone_weights=PATH``.

    Args:
        source: weights of a whole network, of a backbone, or of its classifier.
        output, to: as for :func:`convert`.
        model: the network whose backbone it is; None: as the card, the names or the shapes tell.
        variant: of the network.
        options: of the network, ``backbone="resnet18"`` among them; ``model`` may be left out with that one.

    Returns:
        ``model``, ``backbone``, ``source``, ``tensors`` and ``file``.

    Raises:
        MotesError: a network without a backbone, or a tensor missing, left over or of another shape.
    """
    source, output = Path(source), output_path(source, output, to)
    options = dict(options or {})
    if "backbone" in options and model is None:
        model = "semantic_fpn"  # takes any
    found = None if read_card(source) else of_backbone_alone(source, model, variant, options)
    if found:
        net = create_model(*found, **options)
        used = load_backbone(net, read_state(source), str(source))
    else:
        net = load_network(source, model, variant, options=options)[0]
        used = f"{source}: taken out of {net.card.name}"
    state = backbone_state(net)
    names = backbone_names(module_of(net), net.state_dict())
    linear = {names[name] for name in linear_weights(net) if name in names}
    backbone = getattr(getattr(net, "backbone", None), "name", None) or net.card.options.get("backbone", net.card.name)
    facts = {"part": "backbone", "backbone": backbone, "source_sha256": sha256(source)}
    write_state(output, state, linear=linear, facts=facts)
    return {"model": net.card.name, "backbone": backbone, "source": used, "tensors": len(state), "file": str(output)}


def of_backbone_alone(
    source: Path, model: str | None, variant: str | None, options: Mapping[str, Any]
) -> tuple[str, str | None] | None:
    """The network whose backbone a file without a card holds alone; None where it holds a whole network."""
    state = read_state(source)
    if model is None:
        whole = best_fit(state)
        if whole and not is_backbone_of(*whole, state):
            return None
        return network_of_backbone(state, source)
    with torch.device("meta"):
        net = create_model(model, variant, **options)
    return None if holds_more(module_of(net), net.state_dict(), state) else (model, variant)


def swapped(net: nn.Module) -> Any:
    """Exchanges the outputs of classes between the authors' order and the data set's, in place; the new card.

    FactSeg's and FarSeg's authors number storage tanks and roundabouts (2 and 12 of iSAID) the other way round. Which
    order it is now, the card says (that of a file without a card: the authors', see ``load_network``).

    Raises:
        MotesError: a network whose authors number the classes as the data set does.
        CardError: other classes than the published ones.
    """
    from motes.models.class_order import reorder_classes

    authors = getattr(module_of(net), "PUBLISHED_CLASSES", None)
    if authors is None:
        raise MotesError(f"{net.card.name}: its authors number the classes as the data set does, nothing to swap")
    official = model_card(net.card.name).classes
    return reorder_classes(net, official if tuple(net.card.classes) == tuple(authors) else authors).card


def note_on_classes(net: nn.Module, kind: str, swap: bool) -> list[str]:
    """In whose order the classes are written, where a reader could take them for the other's."""
    authors = published_order(net)
    if authors is None:
        return []
    if tuple(net.card.classes) == authors:
        return [] if swap else ["classes are in the authors' order; --swap-classes puts them in the data set's"]
    if kind == "safetensors":
        return []
    return [
        "classes are in the data set's order, as only .safetensors can say: read back they are taken for the authors'"
    ]


def written_names(net: nn.Module, kind: str) -> dict[str, str]:
    """Name of a tensor in the network -> in a file of that format, by the rules of the network's file.

    ``WRITTEN_NAMES = {"torch": rules, "pdparams": rules}`` says what the authors' code and PaddleRS call them where
    they are not called so here; a rule is a regular expression and its replacement.

    Raises:
        MotesError: reading the file would not give the network's names back.
    """
    module, own = module_of(net), list(net.state_dict())
    tables = getattr(module, "WRITTEN_NAMES", {})
    rules = {"safetensors": [], "jittor": tables.get("torch", [])}.get(kind, tables.get(kind, tables.get("torch", [])))
    names = {}
    for name in own:
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        names[name] = new
    back = new_names(module, names.values())
    read = fitted({back.get(new, ""): name for name, new in names.items()}, own)
    if any(read.get(name) != name for name in own):
        wrong = next(name for name in own if read.get(name) != name)
        raise MotesError(
            f"{net.card.name}: '{wrong}' cannot be written as {kind}: its name '{names[wrong]}' is read otherwise"
        )
    return names
