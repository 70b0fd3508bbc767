"""Backbones as detectors use them: chosen levels, batch norms with fixed statistics, first stages not trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from motes.errors import CardError, MotesError
from motes.layers.backbone import Backbone, import_timm, plain
from motes.naming import look_up

BACKBONE_NAMES = [(r"^((?:.*\.)?backbone)\.(?!body\.)", r"\1.body.")]
"""mmdetection's names of a ResNet's tensors -> ours, for a detector's ``PUBLISHED_NAMES``."""

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""What torchvision's backbones were trained on, for the input of a card."""

STYLES = ("pytorch", "caffe")
NORMS = ("train", "fixed", "frozen")
COARSEST = 5  # log2 of the last stride of every pyramid of timm


def create_box_backbone(
    name: str = "resnet50",
    style: str = "pytorch",
    levels: Sequence[int] = (3, 4, 5),
    norm: str = "frozen",
    frozen_stages: int = 1,
    in_channels: int = 3,
    **options: Any,
) -> BoxBackbone:
    """A timm network without its classifier that gives the maps of ``levels``, with fresh weights.

    Args:
        name: of ``timm.list_models()``.
        style: where a bottleneck halves the map: ``pytorch`` in its 3x3 convolution, ``caffe`` in the 1x1 before it
            (networks without such bottlenecks are the same in both styles).
        levels: ascending; level n has stride 2^n.
        norm: of batch norms: ``train`` as usual; ``fixed``: the running statistics are always used and never change;
            ``frozen``: that, and scale and shift are not trained either.
        frozen_stages: how many stages after the stem are not trained; 0: the stem alone, -1: everything is trained.
        in_channels: bands of the input.
        options: of timm's constructor.

    Raises:
        CardError: unknown name, style, norm or option, or a network without maps at these strides.
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    look_up("backbone", name, timm.list_models(pretrained=True) if "." in name else timm.list_models(), CardError)
    look_up("style of backbone", style, STYLES, CardError)
    look_up("norm of backbone", norm, NORMS, CardError)
    levels = tuple(levels)
    try:
        body = timm.create_model(
            name,
            pretrained=False,
            features_only=True,
            in_chans=in_channels,
            out_indices=tuple(n - COARSEST - 1 for n in levels),
            **options,
        )
    except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as e:
        raise CardError(f"timm cannot make a backbone of '{name}' with {options or 'no options'}: {e}") from None
    return BoxBackbone(body, name, in_channels, options, style, levels, norm, frozen_stages)


class BoxBackbone(Backbone):
    """See :func:`create_box_backbone`; ``channels`` and ``strides`` of its maps, finest first."""

    def __init__(
        self,
        body: nn.Module,
        name: str,
        in_channels: int,
        options: dict[str, Any],
        style: str,
        levels: Sequence[int],
        norm: str,
        frozen_stages: int,
    ) -> None:
        super().__init__(body, name, in_channels, options)
        if self.strides != tuple(2**n for n in levels):
            raise CardError(
                f"backbone '{name}' has maps at strides {self.strides}, expected {tuple(2**n for n in levels)}",
                "a pyramid such as resnet50, convnext_tiny or pvt_v2_b1 has them",
            )
        self.levels, self.norm, self.frozen_stages = tuple(levels), norm, frozen_stages
        if style == "caffe":
            for block in body.modules():
                halve_early(block)
        if norm != "train":
            keep_size(body)
        freeze(body, frozen_stages)
        if norm == "frozen":
            for module in batch_norms(body):
                module.requires_grad_(False)
        self.train()

    def thaw(self) -> None:
        """Trains every stage and every batch norm: what stays as ImageNet left it is only noise in a fresh network."""
        self.norm, self.frozen_stages = "train", -1
        self.requires_grad_(True).train(self.training)

    def train(self, mode: bool = True) -> BoxBackbone:
        super().train(mode)
        for module in batch_norms(self.body):
            if self.norm != "train" or not module.weight.requires_grad:
                module.eval()
        return self


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def halve_early(block: nn.Module) -> None:
    """Moves the stride of a bottleneck from its 3x3 convolution to the 1x1 before it."""
    first, second = getattr(block, "conv1", None), getattr(block, "conv2", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d):
        return
    if first.kernel_size == (1, 1) and second.stride != (1, 1):
        first.stride, second.stride = second.stride, (1, 1)


def keep_size(body: nn.Module) -> None:
    """Initial gains of the residual branches under which values keep their size although no statistics are taken.

    timm starts the last batch norm of a branch at 0, which frozen would stay so, and 1 doubles the variance a block.
    """
    blocks = [m for m in body.modules() if hasattr(m, "zero_init_last")]
    for block in blocks:
        norms = [m for m in (getattr(block, f"bn{i}", None) for i in (3, 2)) if isinstance(m, nn.BatchNorm2d)]
        if norms:
            nn.init.constant_(norms[0].weight, len(blocks) ** -0.5)


def freeze(body: nn.Module, stages: int) -> None:
    """Stops the training of the stem (``stages`` = 0) and of the first ``stages`` stages; the first has stride 4."""
    if stages < 0:
        return
    modules = {int(i["reduction"]): plain(str(i["module"])) for i in body.feature_info.info}
    last = modules.get(2 ** max(stages + 1, 2))
    if last is None:
        raise CardError(f"cannot freeze {stages} stages of a backbone with {len(modules)}")
    named = list(body.named_parameters())
    own = [i for i, (name, _) in enumerate(named) if f"_{plain(name)}".find(f"_{last}_") >= 0]
    if not own:
        raise MotesError(f"backbone has no parameters in its stage '{last}'")
    for _, parameter in named[: own[0] if stages == 0 else own[-1] + 1]:
        parameter.requires_grad_(False)
