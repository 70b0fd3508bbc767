"""The forms of a network: as it was trained, and what it can be merged into without changing its output."""

from __future__ import annotations

import copy

from torch import nn

from motes.cards import Card
from motes.errors import MotesError
from motes.export.pooling import replace_pooling
from motes.export.pyramid import merge_pyramid
from motes.models.folding import fold_norms
from motes.naming import look_up


def reparameterize(net: nn.Module) -> nn.Module:
    """The deploy-time network with the same output in eval mode (a copy), or ``net`` itself if it has none.

    The result's card says ``variant`` and ``form`` "deploy".
    """
    if not hasattr(net, "reparameterize"):
        return net
    merged: nn.Module = net.reparameterize()
    return net if merged is net else with_form(merged.eval(), net, "deploy")


def change_form(net: nn.Module, form: str) -> nn.Module:
    """``net`` in ``form``: ``train``, ``converted`` or ``deploy``, each with the same output in eval mode.

    Raises:
        MotesError: the network has no such form, or is already merged further than that.
    """
    now = getattr(net, "form", "train")
    forms = ["train"]
    if hasattr(net, "converted"):
        forms.append("converted")
    if hasattr(net, "reparameterize"):
        forms.append("deploy")
    name = net.card.name if hasattr(net, "card") else type(net).__name__
    look_up(f"form of {name}", form, forms)
    if form == now:
        return net
    if forms.index(form) < forms.index(now):
        raise MotesError(f"{name} is in form '{now}', which cannot be taken apart into '{form}' again")
    return reparameterize(net) if form == "deploy" else with_form(net.converted(), net, form)


def with_form(merged: nn.Module, source: nn.Module, form: str) -> nn.Module:
    if hasattr(source, "card"):
        options = {k: v for k, v in source.card.options.items() if k != "form"}
        merged.card = card_in(source.card.replace(options=options), form)
    return merged


def card_in(card: Card, form: str) -> Card:
    """The card of a network after it was merged into ``form``."""
    if form != "train" and card.variant not in (None, "converted", "deploy"):
        card = card.replace(complexity={})  # its rows of merged forms are the costs of the default network
    return card.replace(form=form, variant=form if form != "train" else card.variant)


def deployable(net: nn.Module) -> nn.Module:
    """A copy on the CPU: merged, batch norms folded into the convolutions before them, every operator expressible."""
    merged = copy.deepcopy(reparameterize(net)).eval().cpu()
    fold_norms(merged)
    merge_pyramid(merged)
    replace_pooling(merged)
    return merged.requires_grad_(False)
