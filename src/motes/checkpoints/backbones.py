"""The backbone of a network by itself: which tensors it is, taking it out, and starting a network from one.

A backbone is what ``net.backbone`` holds where it is one of timm's (:mod:`motes.layers.backbone`); in a file of its own
its tensors have the names of the classifier that it is the body of (``conv1.weight``, ``layer1.0.bn1.weight``). Other
networks that have one say so in their file:

``BACKBONE = "backbone."``: this prefix is the backbone and is left out in a file of its own;
``BACKBONE = ("stem.", "layer1.")``: these are, under the names they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from motes.cards import list_models, model_card
from motes.checkpoints.matching import (
    abbreviated,
    as_tensor,
    described,
    fitted,
    is_counter,
    module_of,
    published_to_own,
    skeleton,
)
from motes.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

TIMM = "backbone.body."
"""Where timm's backbones sit in our networks."""

CLASSIFIER = ("fc.weight", "fc.bias")
"""Of a torchvision ResNet: has no place in a backbone."""


def backbone_names(module: ModuleType, names: Iterable[str]) -> dict[str, str]:
    """Name of a backbone's tensor in the network -> in a file of the backbone alone; empty where there is no backbone.

    Args:
        module: the network's file.
        names: all its tensors.
    """
    names = list(names)
    if any(name.startswith(TIMM) for name in names):
        return {n: n.removeprefix(TIMM).removeprefix("model.") for n in names if n.startswith(TIMM)}
    prefixes = getattr(module, "BACKBONE", ())
    if isinstance(prefixes, str):
        return {n: n.removeprefix(prefixes) for n in names if n.startswith(prefixes)}
    return {n: n for n in names if n.startswith(tuple(prefixes))} if prefixes else {}


def backbone_state(net: nn.Module) -> dict[str, Any]:
    """The tensors of a network's backbone, under the names of a file of its own.

    Raises:
        CheckpointError: the network has no backbone.
    """
    names = backbone_names(module_of(net), net.state_dict())
    if not names:
        raise CheckpointError(f"{title(net)} has no backbone that could be taken out of it")
    return {names[name]: value for name, value in net.state_dict().items() if name in names}


def load_backbone(net: nn.Module, state: Mapping[str, Any], where: str = "these weights") -> str:
    """Copies the weights of a backbone alone, or of its classifier, into the backbone of ``net``, strictly.

    Args:
        net: from ``create_model``, or a backbone of timm's.
        state: name -> array, as ``read_state`` gives it.
        where: the file, for messages.

    Returns:
        What was used and what was left out, in a few words.

    Raises:
        CheckpointError: tensors left over (but for the classifier's), missing ones (but for counters), shapes that
            differ, or a network that has no backbone.
    """
    from motes.layers.backbone import Backbone, load_backbone_weights

    if isinstance(getattr(net, "backbone", net), Backbone):
        return str(load_backbone_weights(net, state, where))
    own = net.state_dict()
    places = {theirs: ours for ours, theirs in backbone_names(module_of(net), own).items()}
    if not places:
        raise CheckpointError(
            f"{title(net)} has no backbone of its own", "give the weights of the whole network, init=PATH"
        )
    spare = [n for n in state if n not in places]
    unknown = [n for n in spare if n not in CLASSIFIER]
    missing = [n for n in places if n not in state and not is_counter(n)]
    wrong = [n for n in places if n in state and tuple(np.shape(state[n])) != tuple(own[places[n]].shape)]
    if unknown or missing or wrong:
        kinds = ((unknown, "have no place"), (missing, "are missing"), (wrong, "differ in shape"))
        found = ", ".join(f"{len(names)} {what} ({abbreviated(names)})" for names, what in kinds if names)
        raise CheckpointError(f"{where}: not weights of the backbone of {title(net)}: {found}")
    import torch

    new = {places[n]: as_tensor(torch, v, own[places[n]]) for n, v in state.items() if n in places}
    net.load_state_dict({**own, **{places[n]: own[places[n]] * 0 for n in places if is_counter(n)}, **new})
    left = f", {len(spare)} of the classifier left out ({abbreviated(spare)})" if spare else ""
    return f"{where}: {len(new)} tensors used{left}"


def is_backbone_of(name: str, variant: str | None, state: Mapping[str, Any]) -> bool:
    """Whether a state is mostly the backbone of a network, and nothing else of it."""
    module, own = skeleton(name, variant)
    inside = backbone_names(module, own)
    return bool(inside) and not holds_more(module, own, state) and len(matching(inside, own, state)) > len(inside) / 2


def holds_more(module: ModuleType, own: Iterable[str], state: Mapping[str, Any]) -> bool:
    """Whether a state has tensors of a network that are not its backbone's, by their names."""
    own = list(own)
    outside = set(own) - backbone_names(module, own).keys()
    return not outside.isdisjoint(fitted(published_to_own(module, state), own))


def matching(inside: Mapping[str, str], own: Mapping[str, tuple[int, ...]], state: Mapping[str, Any]) -> list[str]:
    """Names of a backbone's file that ``state`` has, in the same shapes."""
    shapes = {theirs.replace(".", "_"): own[ours] for ours, theirs in inside.items()}
    return [n for n, v in state.items() if shapes.get(n.replace(".", "_")) == tuple(np.shape(v))]


def network_of_backbone(state: Mapping[str, Any], path: Path) -> tuple[str, str | None]:
    """Name and variant of a network whose backbone a file holds.

    Raises:
        CheckpointError: of none.
    """
    given = [n for n in state if not is_counter(n) and n not in CLASSIFIER]
    best, most = None, 0.0
    for name in sorted(list_models(), key=lambda name: model_card(name).task == "detection"):
        for variant in (None, *model_card(name).variants):
            module, own = skeleton(name, variant)
            inside = {ours: theirs for ours, theirs in backbone_names(module, own).items() if not is_counter(ours)}
            if not inside:
                break  # nor has any variant
            share = len(matching(inside, own, state)) / max(len(inside), len(given))
            if share > most:
                best, most = (name, variant), share
    if best is None or most < 0.5:
        raise CheckpointError(
            f"{path}: its {len(state)} tensors ('{next(iter(state))}', ...) are of no backbone of a known network",
            "name its network with --model, or its backbone with --option backbone=NAME",
        )
    return best


def title(net: nn.Module) -> str:
    card = getattr(net, "card", None)
    return described(card.name, card.variant) if card else type(net).__name__
