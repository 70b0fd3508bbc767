"""The networks: one file each, its card beside it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from motes.cards import Card, list_models, model_card
from motes.errors import CardError, MotesError
from motes.naming import look_up

__all__ = ["any_size", "create_model", "list_models", "model_card"]

SHAPE = ("in_channels", "num_classes")
EXPECTED: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "a name"),
}
"""Annotation of an option -> what its values are, in Python and in words."""


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
        in_channels: bands of the input; default: the variant's, or the card's.
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
    given = dict(getattr(module, "VARIANTS", {}).get(variant, {}))
    # A variant may have other bands, classes, input statistics (``input``: fields of InputSpec) and selection of boxes
    # (``boxes``: fields of BoxSpec) than the card.
    channels, classes = given.pop("in_channels", card.input.channels), given.pop("num_classes", len(card.classes))
    card = card.replace(
        input=dataclasses.replace(card.input, **given.pop("input", {})),
        boxes=dataclasses.replace(card.boxes, **given.pop("boxes", {})),
    )
    options = {**given, **options}
    channels = channels if in_channels is None else in_channels
    classes = classes if num_classes is None else num_classes
    known = options_of(make, getattr(module, card.class_name))
    for option, value in options.items():
        check_option(name, option, value, known)
    try:
        net: nn.Module = make(in_channels=channels, num_classes=classes, **options)
    except TypeError as e:
        raise CardError(f"{name}: {e}") from None
    # What the options make of the size limits, a network knows itself: ``input_limits``, fields of InputSpec.
    spec = dataclasses.replace(card.input, **getattr(net, "input_limits", {}))
    card = card.replace(variant=variant, form=getattr(net, "form", card.form), options=options, input=spec)
    net.card = with_shape(card, channels, classes)
    return net


def options_of(*makers: Callable[..., nn.Module]) -> dict[str, str]:
    """Option -> its annotation, of everything that makes a network but bands and classes."""
    found = [p for make in makers for p in inspect.signature(make).parameters.values()]
    return {p.name: str(p.annotation) for p in found if p.kind is not p.VAR_KEYWORD and p.name not in SHAPE}


def check_option(network: str, option: str, value: Any, known: Mapping[str, str]) -> None:
    """Raises CardError for an unknown option, and for text where a number or a switch is expected.

    ``tiny: maybe`` would otherwise be true, as every text but the empty one is.
    """
    look_up(f"option of {network}", option, known, CardError)
    kind, words = EXPECTED.get(known[option], (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (Integral, Real)):
        raise CardError(f"option '{option}' of {network} must be {words}, found {value!r}")


def with_shape(card: Card, channels: int, classes: int) -> Card:
    """``card`` for a network with other bands or classes than published: statistics of three bands do not fit one."""
    if channels != card.input.channels:
        spec = card.input
        mean, std = ((sum(v) / len(v),) for v in (spec.mean, spec.std))
        card = card.replace(input=dataclasses.replace(spec, channels=channels, mean=mean, std=std))
    if classes != len(card.classes):
        card = card.replace(classes=tuple(f"class{i}" for i in range(classes)))
    return card


class AnySize(nn.Module):
    """See :func:`any_size`."""

    def __init__(self, net: nn.Module, stride: int, min_size: int, max_size: int | None = None) -> None:
        super().__init__()
        self.net, self.stride, self.min_size, self.max_size = net, stride, min_size, max_size

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        h, w = images.shape[-2:]
        bottom, right = (padding(n, self.stride, self.min_size) for n in (h, w))
        if self.max_size is not None and max(h + bottom, w + right) > self.max_size:
            raise MotesError(
                f"a frame of {h}x{w} px is too large for {self.net.card.name}, no side may exceed {self.max_size} px",
                "Detector and `motes detect` cut larger frames into tiles",
            )
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
    normalisation. Nothing is resized. MotesError for a frame with a side above the card's maximum.
    """
    spec = net.card.input
    free = spec.stride == 1 and spec.min_size == 1 and spec.max_size is None
    return net if free else AnySize(net, spec.stride, spec.min_size, spec.max_size)


def padding(length: int, stride: int, min_size: int) -> int:
    """Pixels to add to a side of ``length`` so that it reaches ``min_size`` and is a multiple of ``stride``."""
    need = max(length, min_size)
    return -(-need // stride) * stride - length
