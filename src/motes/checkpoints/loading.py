"""From a weight file to a network ready to run, and the card that says how its input is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motes.cards import Card, model_card
from motes.checkpoints.backbones import is_backbone_of
from motes.checkpoints.matching import best_fit, described, load_published, module_of, published_to_own, skeleton
from motes.checkpoints.reading import read_card, read_state
from motes.errors import CardError, CheckpointError
from motes.naming import look_up

if TYPE_CHECKING:
    from torch import nn


def load_network(
    path: str | Path,
    model: str | None = None,
    variant: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    absent: Sequence[str] = (),
) -> tuple[nn.Module, Card]:
    """The network of a weight file, in eval mode, and its card.

    Name, variant, bands and classes come from the file's card; a file without one (published weights) is told by the
    names of its tensors, and its card is then the network's own, with the classes in the order of the published weights
    (``PUBLISHED_CLASSES`` in the network's file) where that is not the data set's.

    Args:
        path: any file that ``read_state`` reads.
        model: a name of ``motes models``; needed only where the names of the tensors do not tell.
        variant: one of the card's variants; needed only where several have the same names and shapes.
        options: of ``create_model`` (``backbone``, ``num_classes``, ...), for files without a card whose network was
            not made as published; ``model`` must be given with them.
        absent: patterns of tensors that may be missing or left over; see ``load_published``.

    Returns:
        The network, and its card with ``form`` and ``source_sha256`` (of this file) filled in.

    Raises:
        CheckpointError: unreadable file, or weights of another network.
        CardError: unknown model or variant.
    """
    from motes.models import create_model

    path = Path(path)
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(
            f"{path}: an ONNX file runs as it is and has no torch weights", "give the weights it was made from"
        )
    if model is not None:
        look_up("variant of " + model, variant, model_card(model).variants, CardError) if variant else model_card(model)
    stored = read_card(path)
    if stored and model and stored.name != model:
        raise CheckpointError(f"{path}: its card says it is {stored.name}, not {model}")
    if options and (stored or not model):
        raise CheckpointError(
            f"{path}: options go with files without a card, and with the name of the network",
            f"its card says what it is: {stored.name}" if stored else "give it with --model",
        )
    state = read_state(path)
    name, found = (model, variant) if options and model else identify(path, state, stored, model, variant)
    if variant and found != variant:
        raise CheckpointError(
            f"{path}: holds {described(name, found)}, not variant '{variant}'",
            "leave --variant out, or use 'motes convert'",
        )
    if stored:
        net = create_model(name, found, stored.input.channels, len(stored.classes), **own_options(stored, name, found))
    else:
        net = create_model(name, found, **(options or {}))
        net.card = net.card.replace(classes=published_order(net) or net.card.classes)
    load_published(net, state, str(path), absent).eval()
    card = stored or net.card
    form, kept = getattr(net, "form", card.form), own_options(card, name, found)
    card = card.replace(variant=found, form=form, options=kept, source_sha256=sha256(path))
    net.card = card
    return net, card


def identify(
    path: Path, state: Mapping[str, Any], stored: Card | None, model: str | None, variant: str | None = None
) -> tuple[str, str | None]:
    """Name and variant of the network that a file's tensors are of; ``variant`` where they fit several as well."""
    if stored:
        return stored.name, stored.variant
    backbone = getattr(state, "facts", {}).get("part") == "backbone"
    name = model or (None if backbone else (best_fit(state) or (None,))[0])
    if backbone or (name and is_backbone_of(name, variant, state)):
        raise CheckpointError(
            f"{path}: holds a backbone alone, not a whole network",
            f"start a training from it with model.backbone_weights={path}, or convert it with --part backbone",
        )
    if name is None:
        first = next(iter(state))
        raise CheckpointError(
            f"{path}: its {len(state)} tensors ('{first}', ...) are of no known network",
            "name one with --model; see 'motes models'",
        )
    return name, variant_of(name, state, variant)


def variant_of(name: str, state: Mapping[str, Any], wanted: str | None = None) -> str | None:
    """Which variant of a network a state is of: asked of the network's file, else told by the names that fit best.

    Variants may share all names and shapes; of several that fit best, it is the ``wanted`` one, or the network as
    published.
    """
    module, _ = skeleton(name, None)
    if hasattr(module, "variant_of"):
        variant: str | None = module.variant_of(published_to_own(module, state))
        return variant
    from motes.checkpoints.matching import fit, fitted

    own_state = published_to_own(module, state)
    variants = (None, *model_card(name).variants)
    scores = {v: fit(fitted(own_state, skeleton(name, v)[1]), skeleton(name, v)[1]) for v in variants}
    return max(variants, key=lambda v: (scores[v], v == wanted))


def published_order(net: nn.Module) -> tuple[str, ...] | None:
    """The classes of ``net`` in the order in which its authors number them; None where that is its own card's.

    Also None where its classes are others than the published ones.
    """
    order = tuple(getattr(module_of(net), "PUBLISHED_CLASSES", ()))
    return order if sorted(order) == sorted(net.card.classes) else None


def own_options(card: Card, name: str, variant: str | None) -> dict[str, Any]:
    """The constructor options of a card that the variant does not set itself, or sets otherwise."""
    module, _ = skeleton(name, None)
    fixed = getattr(module, "VARIANTS", {}).get(variant, {})
    return {k: v for k, v in card.options.items() if k not in fixed or stored_form(v) != stored_form(fixed[k])}


def stored_form(value: Any) -> Any:
    """An option as a card brings it back from a file: its tuples are lists there."""
    return json.loads(json.dumps(value))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
