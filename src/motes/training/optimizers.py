"""Optimisers by name: those of ``torch.optim``, and the ones of ``dadaptation`` that find their own rate."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from motes.errors import MissingExtraError, MotesError
from motes.naming import look_up
from motes.training.recipe import OptimizerPart

ADAPTIVE = ("DAdaptAdaGrad", "DAdaptAdam", "DAdaptAdan", "DAdaptLion", "DAdaptSGD")
"""Classes of the package ``dadaptation`` (Defazio & Mishchenko, ICML 2023). Their ``lr`` is a factor, 1 by default."""


def create_optimizer(part: OptimizerPart, trained: nn.Module | Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser of a network, or of parameters as they are (then ``decay`` and ``backbone_lr`` do nothing).

    An option of value null is left at its default.

    Raises:
        MotesError: no such optimiser (the nearest is suggested), or an option it does not take.
        MissingExtraError: a D-Adaptation one, and the package is not installed.
    """
    known = [n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    name = look_up("optimiser", part.name, [*known, *ADAPTIVE])
    options = {k: v for k, v in part.options.items() if v is not None}
    adaptive = name in ADAPTIVE
    if adaptive:
        try:
            import dadaptation
        except ModuleNotFoundError:
            raise MissingExtraError(f"optimiser {name}", "detection") from None
    make = getattr(dadaptation if adaptive else torch.optim, name)
    groups: Any = parameter_groups(part, trained, adaptive) if isinstance(trained, nn.Module) else trained
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints what it was told
            optimizer: torch.optim.Optimizer = make(groups, lr=part.lr, **options)
    except (TypeError, ValueError) as e:
        raise MotesError(f"optimiser {part.name}: {e}") from None
    return optimizer


def parameter_groups(part: OptimizerPart, net: nn.Module, adaptive: bool = False) -> list[dict[str, Any]]:
    """The parameters in groups of equal decay and equal share of the rate; one group where the recipe tells none apart.

    A group's share stands under ``share`` (read by `set_rate`), for D-Adaptation, whose groups must have one rate,
    under its own ``layer_scale``.
    """
    norms = {id(p) for m in net.modules() if "norm" in type(m).__name__.lower() for p in m.parameters(recurse=False)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, p in net.named_parameters():
        plain = part.decay == "weights" and (id(p) in norms or name.rpartition(".")[2].endswith("bias"))
        below = part.backbone_lr != 1 and "backbone" in name.split(".")
        groups.setdefault((plain, below), []).append(p)
    made = []
    for (plain, below), parameters in groups.items():
        group: dict[str, Any] = {"params": parameters}
        if plain:
            group["weight_decay"] = 0.0
        if below:
            group["layer_scale" if adaptive else "share"] = part.backbone_lr
        made.append(group)
    return made


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
