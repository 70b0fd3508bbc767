"""The networks: one file each, its card beside it."""

from __future__ import annotations

import importlib
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from motes.cards import Card, list_models, model_card
from motes.errors import CardError
from motes.naming import look_up

__all__ = ["any_size", "create_model", "list_models", "model_card"]


def create_model(
    name: str,
    variant: str | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> nn.Module:
    """A network with fresh weights, in training mode; its card is at ``net.card``.

    Args:
        name: a name of ``motes models``.
        variant: one of the card's variants; None is the network as published.
        in_channels: bands of the input; default: the card's.
        num_classes: foreground classes; default: the card's.
        options: passed to the network's constructor.

    Raises:
        CardError: unknown name, variant or option (the nearest valid one is suggested).
    """
    card = model_card(name)
    if variant is not None:
        look_up(f"variant of {name}", variant, card.variants, CardError)
    module = importlib.import_module(f"motes.models.{name}")
    make = getattr(module, "create", None) or getattr(module, card.class_name)
    if variant is not None:
        options = {**getattr(module, "VARIANTS", {}).get(variant, {}), **options}
    channels = card.input.channels if in_channels is None else in_channels
    classes = len(card.classes) if num_classes is None else num_classes
    try:
        net: nn.Module = make(in_channels=channels, num_classes=classes, **options)
    except TypeError as e:
        raise CardError(f"{name}: {e}") from None
    card = card.replace(variant=variant, form=getattr(net, "form", card.form), options=options)
    net.card = with_shape(card, channels, classes)
    return net


def with_shape(card: Card, channels: int, classes: int) -> Card:
    """``card`` for a network with other bands or classes than published: statistics of three bands do not fit one."""
    import dataclasses

    if channels != card.input.channels:
        spec = card.input
        mean, std = ((sum(v) / len(v),) for v in (spec.mean, spec.std))
        card = card.replace(input=dataclasses.replace(spec, channels=channels, mean=mean, std=std))
    if classes != len(card.classes):
        card = card.replace(classes=tuple(f"class{i}" for i in range(classes)))
    return card


class AnySize(nn.Module):
    """See :func:`any_size`."""

    def __init__(self, net: nn.Module, stride: int, min_size: int) -> None:
        super().__init__()
        self.net, self.stride, self.min_size = net, stride, min_size

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        h, w = images.shape[-2:]
        bottom, right = (padding(n, self.stride, self.min_size) for n in (h, w))
        if not bottom and not right:
            return self.net(images)
        mode = "reflect" if bottom < h and right < w else "replicate"
        out = self.net(F.pad(images, (0, right, 0, bottom), mode=mode))
        if isinstance(out, tuple):
            return tuple(o[..., :h, :w] for o in out)
        return out[..., :h, :w]


def any_size(net: nn.Module) -> nn.Module:
    """``net`` for frames of any size: pads to its card's stride and minimum, and crops the logits back.

    Padding mirrors the frame to the right and below (repeats its edge where it is too small to mirror), after
    normalisation. Nothing is resized.
    """
    spec = net.card.input
    return net if spec.stride == 1 and spec.min_size == 1 else AnySize(net, spec.stride, spec.min_size)


def padding(length: int, stride: int, min_size: int) -> int:
    """Pixels to add to a side of ``length`` so that it reaches ``min_size`` and is a multiple of ``stride``."""
    need = max(length, min_size)
    return -(-need // stride) * stride - length
