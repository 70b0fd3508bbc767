"""The forms of a network: as it was trained, and what it can be merged into without changing its output."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from motes.errors import MotesError
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
        merged.card = source.card.replace(variant=form, form=form, options=options)
    return merged


def deployable(net: nn.Module) -> nn.Module:
    """A copy for export: merged, batch norms folded into the convolutions before them, every operator expressible."""
    merged = copy.deepcopy(reparameterize(net)).eval()
    fold_norms(merged)
    replace_pooling(merged)
    return merged.requires_grad_(False)


def fold_norms(net: nn.Module) -> None:
    """Folds every batch norm that directly follows a convolution in a Sequential into it; exact in eval mode."""
    for chain in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(chain) - 1):
            if isinstance(chain[i], nn.Conv2d) and isinstance(chain[i + 1], nn.BatchNorm2d):
                chain[i] = fuse_conv_bn_eval(chain[i], chain[i + 1])
                chain[i + 1] = nn.Identity()


def replace_pooling(net: nn.Module) -> None:
    """Puts :class:`MatrixPooling` where adaptive average pooling has no ONNX operator (any output but 1x1)."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, MatrixPooling(child.output_size))


class MatrixPooling(nn.Module):
    """Adaptive average pooling as two small matrix products, for any height and width.

    Output row i is the mean of input rows floor(i n / b) .. ceil((i + 1) n / b) - 1, as torch defines it. The matrices
    are computed from the shape inside the graph. [B, C, H, W] -> [B, C, bins, bins].
    """

    def __init__(self, bins: int | tuple[int, int]) -> None:
        super().__init__()
        self.bins = (bins, bins) if isinstance(bins, int) else bins

    def forward(self, x: Tensor) -> Tensor:
        rows = averaging(x.shape[-2], self.bins[0], x)
        columns = averaging(x.shape[-1], self.bins[1], x)
        # Columns first: one large product with a small right-hand side, instead of one per channel.
        return torch.matmul(rows, torch.matmul(x, columns.transpose(0, 1)))


def averaging(length: int, bins: int, like: Tensor) -> Tensor:
    """The matrix [bins, length] that averages ``length`` samples into ``bins``."""
    i = torch.arange(bins, device=like.device).unsqueeze(1)
    j = torch.arange(length, device=like.device).unsqueeze(0)
    first, last = (i * length) // bins, ((i + 1) * length + bins - 1) // bins
    inside = (j >= first) & (j < last)
    return inside.to(like.dtype) / (last - first).to(like.dtype)
