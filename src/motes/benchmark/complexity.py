"""Parameters and multiply-accumulates of a network, counted on a copy without memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from motes.errors import MotesError
from motes.models import create_model

SIDES = (256, 512)
"""px of the square frames that cards tell the cost of: the first one that a network takes."""


@dataclass(frozen=True)
class Complexity:
    """What one frame costs.

    ``params``: trainable numbers; ``published_params``: with those that the authors' code declares and never uses
    (``published_extra_params`` of a module). ``numbers``: all numbers of the state dict, running statistics included.
    ``macs``: multiply-accumulates of convolutions and matrix products (biases, norms, activations, pooling and
    interpolation not counted). ``published_macs``: the same for the authors' code, where ours needs fewer for the same
    result.
    """

    height: int
    width: int
    params: int
    numbers: int
    macs: int
    published_macs: int
    published_params: int = 0


def complexity(net: nn.Module, height: int = 256, width: int = 256) -> Complexity:
    """Counts one forward pass of a [1, C, height, width] frame in eval mode; takes no time and no memory to speak of.

    Raises:
        MotesError: the network cannot take frames of that size.
    """
    channels = net.card.input.channels
    shadow = copy.deepcopy(net).to("meta").eval()
    extra = 0

    def add(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal extra
        extra += module.published_extra_macs(output)

    for module in shadow.modules():
        if hasattr(module, "published_extra_macs"):
            module.register_forward_hook(add)
    # Of a detector what comes before the choice of boxes, which depends on values; ``counted`` where that does, too.
    run = getattr(shadow, "counted", None) or getattr(shadow, "candidates", None) or shadow
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            run(torch.empty(1, channels, height, width, device="meta"))
    except RuntimeError as e:
        reason = str(e).splitlines()[0]
        raise MotesError(f"{net.card.name} cannot take a frame of {height}x{width} px: {reason}") from None
    macs = counter.get_total_flops() // 2  # the counter counts a multiply and an add as two
    params = sum(p.numel() for p in net.parameters())
    return Complexity(
        height=height,
        width=width,
        params=params,
        numbers=sum(t.numel() for t in net.state_dict().values()),
        macs=macs,
        published_macs=macs + extra,
        published_params=params + sum(int(getattr(m, "published_extra_params", 0)) for m in net.modules()),
    )


def complexity_of_forms(name: str) -> dict[str, dict[str, int]]:
    """``{form: {params, macs_256}}`` of a network and its variants, as a card holds it.

    Of a variant that cannot take 256 x 256 px it is ``macs_512``; one that takes neither is left out.
    """
    from motes.cards import model_card

    counted = {}
    with torch.device("meta"):
        for variant in (None, *model_card(name).variants):
            net = create_model(name, variant)
            spec = net.card.input
            side = next((s for s in SIDES if spec.min_size <= s <= (spec.max_size or s)), None)
            if side is None:
                continue
            cost = complexity(net, side, side)
            counted[variant or "train"] = {"params": cost.params, f"macs_{side}": cost.macs}
    return counted
