"""A recipe's network, and what its weights start from: never by chance without a word."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from motes.cards import model_card
from motes.checkpoints import load_published, read_state
from motes.checkpoints.backbones import load_backbone
from motes.checkpoints.loading import published_order
from motes.checkpoints.reading import read_card
from motes.errors import CheckpointError, MotesError
from motes.models import create_model
from motes.models.class_order import reorder_classes
from motes.training.recipe import Recipe
from motes.training.selection import box_rules, classes_of


def make_network(recipe: Recipe) -> nn.Module:
    """The network for the recipe's input and classes, weights drawn by chance; its card says so too.

    Where a detector's backbone will start so, none of its stages and statistics stay fixed.
    MotesError where network and data are of different tasks.
    """
    part = recipe.model
    task = model_card(part.name).task
    if task != recipe.task:
        needs = "data.classes=TABLE says what its labels are" if task == "aerial" else "it takes no data.classes"
        raise MotesError(f"{part.name} is a network of the task {task}, the data are of the task {recipe.task}", needs)
    channels = recipe.input.channels if recipe.input else None
    names = names_of(recipe)
    classes = None if names is None else len(names)
    net = create_model(part.name, part.variant, in_channels=channels, num_classes=classes, **part.options)
    if from_chance(recipe) and hasattr(backbone := getattr(net, "backbone", None), "thaw"):
        backbone.thaw()
    if recipe.input:
        net.card = dataclasses.replace(net.card, input=recipe.input)
    if names is not None:
        net.card = net.card.replace(classes=names)
    return net


def from_chance(recipe: Recipe) -> bool:
    """Whether nothing is loaded before the training."""
    return not recipe.model.init and recipe.model.backbone_weights in (None, "none")


def names_of(recipe: Recipe) -> tuple[str, ...] | None:
    """The classes of the recipe's labels or boxes; None for masks of one class."""
    if recipe.task == "detection":
        return box_rules(recipe).names
    table = classes_of(recipe.data)
    return None if table is None else tuple(table.names)


def learned_before(recipe: Recipe) -> dict[str, Any]:
    """What ``model.init`` learned from: its ``epochs_before`` and ``frames``; nothing of weights without a card."""
    card = read_card(Path(recipe.model.init)) if recipe.model.init else None
    if card is None or "epochs" not in card.training:
        return {}
    known = card.training
    return {"epochs_before": known["epochs"] + known.get("epochs_before", 0), "frames": list(known.get("frames", ()))}


def load_start(net: nn.Module, recipe: Recipe) -> str:
    """Loads ``model.init`` or ``model.backbone_weights`` and says in a few words what the training starts from.

    Raises:
        CheckpointError: a file that does not fit, or ImageNet weights that cannot be downloaded.
    """
    part = recipe.model
    if part.init:
        try:
            load_published(net, read_state(Path(part.init)), part.init)
        except CheckpointError as e:
            raise CheckpointError(e.message, e.hint or made_otherwise(net, part.init)) from None
        return f"weights of {part.init}{in_own_order(net, part.init)}"
    if from_chance(recipe):
        return f"weights drawn by chance, seed {recipe.loop.seed}"
    if part.backbone_weights != "imagenet":
        path = Path(part.backbone_weights).expanduser()
        report = load_backbone(net, read_state(path), str(path))
        return f"a backbone of {report}; the rest drawn by chance, seed {recipe.loop.seed}"
    from motes.layers.backbone import load_backbone_weights

    try:
        report = load_backbone_weights(net, "imagenet")
    except CheckpointError as e:
        raise CheckpointError(
            e.message,
            "give a downloaded file, model.backbone_weights=PATH, or start from chance, model.backbone_weights=none",
        ) from None
    return f"an ImageNet backbone, {report}; the rest drawn by chance, seed {recipe.loop.seed}"


def made_otherwise(net: nn.Module, file: str) -> str | None:
    """What ``file`` was made with, where that is ``net``'s network with other options."""
    made, own = read_card(Path(file)), net.card
    if made is None or made.name != own.name or made.options == own.options:
        return None
    return f"it was made with the options {dict(made.options)}, model.options makes them {dict(own.options)}"


def in_own_order(net: nn.Module, file: str) -> str:
    """Puts loaded class channels that the file numbers otherwise in the order of ``net``'s card; what to say of it."""
    stored, wanted = read_card(Path(file)), net.card.classes
    held = stored.classes if stored else published_order(net)
    if held is None or held == wanted or sorted(held) != sorted(wanted):
        return ""
    net.card = net.card.replace(classes=held)
    reorder_classes(net, wanted)
    return ", its classes put in the order of the data"
