"""Learning rates as a function of the training's progress, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from motes.training.recipe import SchedulePart


def learning_rate(part: SchedulePart, base: float, epoch: float, epochs: float) -> float:
    """The rate at ``epoch`` (0-based, fractional where ``unit`` is ``step``) of ``epochs``.

    With w warm-up epochs the rate rises linearly to ``base``. Then poly: base (1 - t)^power; cosine: to ``min_lr``
    along half a period; step: times ``gamma`` at every milestone. t runs from 0 at the warm-up's end to 1 at the end of
    the training (``horizon: rest``), or is (epoch - w) / epochs (``total``, the SeRankDet toolbox, never quite 1).
    """
    w = part.warmup_epochs
    if w and epoch <= w:
        # The published toolbox steps once an epoch and gives epochs 0 and 1 the same rate.
        return base * max(epoch, min(1.0, w)) / w if part.unit == "epoch" else max(base * epoch / w, base * 1e-3)
    t = (epoch - w) / (epochs if part.horizon == "total" else max(epochs - w, 1e-9))
    t = min(max(t, 0.0), 1.0)
    if part.name == "poly":
        return max(base * (1 - t) ** part.power, part.min_lr)
    if part.name == "cosine":
        return part.min_lr + (base - part.min_lr) / 2 * (1 + math.cos(math.pi * t))
    if part.name == "step":
        return max(base * part.gamma ** sum(epoch >= m for m in part.milestones), part.min_lr)
    return base


def warmup(part: SchedulePart, step: int) -> float:
    """What the rate of step ``step`` (0-based) is multiplied by: mmengine's ``LinearLR`` and ``ConstantLR`` by step.

    Of n warm-up steps the last one has the full rate already, as there.
    """
    last = part.warmup_steps - 1
    if step >= last:
        return 1.0
    share = step / last if part.warmup == "linear" else 0.0
    return part.warmup_factor + (1 - part.warmup_factor) * share


def progress(part: SchedulePart, step: int, per_epoch: int) -> float:
    """Epochs done when step ``step`` (0-based) is taken, as the schedule counts them: whole ones by epoch, ``shift``
    units later or earlier as published."""
    if part.unit == "epoch":
        return max(float(step // per_epoch + part.shift), 0.0)
    return max(step + part.shift, 0) / per_epoch


def clip_each(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scales every tensor's gradient by itself to an L2 norm of at most ``largest``, as Paddle's ``ClipGradByNorm``."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((largest / norms.clamp(min=1e-12)).clamp(max=1.0).unbind()))


class MovingAverage:
    """Exponential moving average of a network's parameters and statistics; counters are copied.

    The decay grows from 0.1 to ``decay`` over the first steps, so that the average forgets the initial weights.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = net.state_dict()
        names = [k for k, v in self.state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.state[k] for k in names], [state[k] for k in names], 1 - decay)
        for k in self.state.keys() - set(names):
            self.state[k].copy_(state[k])

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.steps = saved["steps"]
        for k, v in saved["state"].items():
            self.state[k].copy_(v)
