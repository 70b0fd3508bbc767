"""Published weights whose ids are not the data set's: channels of the class head put in another order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from motes.data.classes import class_table
from motes.errors import CardError

AUTHORS_CLASSES = class_table("isaid-factseg").names
"""What the channels of FarSeg's and FactSeg's published weights are: in their colour table storage tanks and
roundabouts are exchanged against iSAID's own, so channel 2 is the roundabouts and channel 12 the storage tanks."""


def reorder_classes(net: nn.Module, classes: Sequence[str]) -> nn.Module:
    """Puts the output channels of ``net`` in the order of ``classes``, in place; its card says so afterwards.

    Weights and biases of the layers that the network lists in ``class_heads`` are permuted, so the outputs are the same
    numbers under other ids. The background (id 0) keeps its place where the network treats it apart (FactSeg).

    Args:
        net: from ``create_model``; its card's ``classes`` say what its channels are now.
        classes: the same names in the order wanted.

    Raises:
        CardError: other names than the card's, or a network without ``class_heads``.
    """
    now = tuple(net.card.classes)
    wanted = tuple(classes)
    heads = getattr(net, "class_heads", ())
    if not heads:
        raise CardError(f"{net.card.name}: its classes cannot be put in another order")
    if Counter(now) != Counter(wanted) or len(set(now)) != len(now):
        differing = sorted(set(now) ^ set(wanted)) or sorted(now)
        raise CardError(f"{net.card.name}: its classes are not those wanted, they differ in {', '.join(differing[:4])}")
    if getattr(net, "background_apart", False) and now[0] != wanted[0]:
        raise CardError(f"{net.card.name}: its background '{now[0]}' must stay the first class, found '{wanted[0]}'")
    order = torch.tensor([now.index(name) for name in wanted])
    with torch.no_grad():
        for name in heads:
            head = net.get_submodule(name)
            for tensor in (head.weight, head.bias):
                if tensor is not None:
                    tensor.copy_(tensor[order.to(tensor.device)])
    net.card = net.card.replace(classes=wanted)
    return net
