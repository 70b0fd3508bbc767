"""What published tables say that networks cost, and the same counted on ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from motes.benchmark.complexity import complexity
from motes.cards import list_models, model_card
from motes.errors import MotesError
from motes.models import create_model
from motes.naming import look_up

SIDE = 512
"""px of the square frame that the tables count on (``macs_512`` of a card's published rows)."""


def networks_with_cost() -> list[str]:
    """Names of the networks whose card has a published cost."""
    return [name for name in list_models() if cost_rows(name)]


def cost_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a card's ``published`` that say a cost: ``{params, macs_512, variant?, source}``."""
    return [dict(row) for row in model_card(name).published if "params" in row]


def published_costs(target: str | None = None, advance: Callable[[], object] | None = None) -> list[dict[str, Any]]:
    """One row for each published cost, counted without memory: no weight is made.

    Args:
        target: a network; None: all that have a published cost.
        advance: called after every network.

    Returns:
        ``model``, ``variant``, ``source``; ``published_params`` as the card says and ``counted_params`` as its source
        counts, with frozen norms and with what is declared and never used; ``params``: what our network has, which is
        all of use, and ``frozen_params`` of them. ``published_macs`` of a 512x512 frame, ``counted_macs`` without what
        the source leaves out (deformable convolutions), ``macs`` with them.

    Raises:
        MotesError: unknown network, or one without a published cost.
    """
    if target is not None:
        look_up("model", target, list_models())
        if not cost_rows(target):
            raise MotesError(f"nothing is published of what {target} costs", "motes bench counts and times it")
    rows = []
    for name in networks_with_cost() if target is None else [target]:
        rows += [counted(name, row) for row in cost_rows(name)]
        if advance:
            advance()
    return rows


def counted(name: str, row: dict[str, Any]) -> dict[str, Any]:
    with torch.device("meta"):
        net = create_model(name, row.get("variant"))
    cost = complexity(net, SIDE, SIDE)
    return {
        "model": name,
        "variant": row.get("variant"),
        "source": row.get("source"),
        "published_params": row["params"],
        "counted_params": cost.published_params,
        "params": cost.params,
        "frozen_params": sum(p.numel() for p in net.parameters() if not p.requires_grad),
        "published_macs": row.get("macs_512"),
        "counted_macs": cost.published_macs,
        "macs": cost.macs,
    }
