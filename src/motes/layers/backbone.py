"""Feature backbones of timm: one image in, maps at strides 4, 8, 16 and 32 out; and their ImageNet weights, strictly.

The names of the tensors are timm's, which for the ResNets are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from motes.errors import CardError, CheckpointError, MissingExtraError, MotesError
from motes.naming import look_up

TORCHVISION = "tv_in1k"
"""timm's tag for torchvision's ImageNet weights, which the published aerial networks start from."""

SHOWN = 3  # names in an error


def create_backbone(name: str, in_channels: int = 3, levels: int = 4, **options: Any) -> Backbone:
    """A timm network without its classifier, with fresh weights.

    Args:
        name: of ``timm.list_models()``, with or without the tag of its weights (``resnet50``, ``resnet50.a1_in1k``).
        in_channels: bands of the input.
        levels: maps wanted, counted from the coarsest: 4 start at stride 4, 5 at stride 2.
        options: of timm's constructor: ``output_stride=16``, ``stem_type="deep"``, ``stem_width=64``, ...

    Raises:
        CardError: unknown name or option, or a network without maps at these strides (a plain ViT).
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    look_up("backbone", name, timm.list_models(pretrained=True) if "." in name else timm.list_models(), CardError)
    try:
        body = timm.create_model(
            name,
            pretrained=False,
            features_only=True,
            in_chans=in_channels,
            out_indices=tuple(range(-levels, 0)),
            **options,
        )
    except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as e:
        raise CardError(f"timm cannot make a backbone of '{name}' with {options or 'no options'}: {e}") from None
    net = Backbone(body, name, in_channels, options)
    if len(net.strides) != levels or net.strides[0] != 2 ** (6 - levels):
        raise CardError(
            f"backbone '{name}' has maps at strides {net.strides}, expected {levels} from {2 ** (6 - levels)}",
            "a pyramid such as resnet50, convnext_tiny or swin_tiny_patch4_window7_224 has them",
        )
    return net


class Backbone(nn.Module):
    """See :func:`create_backbone`.

    ``channels`` and ``strides``: of the maps, finest first. ``forward`` takes [B, C, H, W] with sides that are
    multiples of the last stride and returns a list of maps [B, channels[i], H / strides[i], W / strides[i]].
    """

    def __init__(self, body: nn.Module, name: str, in_channels: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = body
        self.name, self.in_channels, self.options = name, in_channels, dict(options)
        self.channels: tuple[int, ...] = tuple(body.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(body.feature_info.reduction())
        for block in body.modules():
            if pairs := foldable(block):
                block.FOLDABLE = pairs  # for motes.models.folding
        self.channels_last = str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.body(images)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else list(maps)


def foldable(block: nn.Module) -> list[tuple[str, str]]:
    """Convolutions of a ResNet's block or stem, each with the batch norm that always follows it."""
    if type(block).__module__ not in ("timm.models.resnet", "timm.models.res2net", "timm.models._features"):
        return []
    parts = dict(block.named_children())
    order = list(parts)
    pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3) if f"conv{i}" in parts]
    return [
        (conv, norm)
        for conv, norm in pairs
        if isinstance(parts[conv], nn.Conv2d)
        and type(parts.get(norm)) is nn.BatchNorm2d
        and order.index(norm) == order.index(conv) + 1
    ]


@dataclass(frozen=True)
class BackboneWeights:
    """What :func:`load_backbone_weights` did.

    ``used``: tensors copied into the backbone. ``left_over``: names that are the classifier's. ``adapted``: kernels
    whose bands were summed or repeated for an input of other than three.
    """

    source: str
    used: int
    left_over: tuple[str, ...]
    adapted: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.source}: {self.used} tensors used"
        if self.left_over:
            text += f", {len(self.left_over)} of the classifier left out ({abbreviated(self.left_over)})"
        return text + (f", fitted to the bands of the input: {abbreviated(self.adapted)}" if self.adapted else "")


def load_backbone_weights(
    net: nn.Module, source: str | Mapping[str, Any] = "imagenet", where: str = "these weights"
) -> BackboneWeights:
    """Copies a classifier's weights into the backbone of ``net``, strictly, and says what it did.

    Args:
        net: a backbone, or a network that has one as ``net.backbone``.
        source: ``imagenet``: timm downloads the weights that the backbone's tag names, torchvision's where the name has
            no tag (timm's default where torchvision has none). Or name -> array of a file of the same classifier.
        where: the file, for messages.

    Raises:
        CheckpointError: tensors left over that the classifier does not have, missing ones, or shapes that differ; or
            the download failed.
        MotesError: ``net`` has no backbone of timm's.
    """
    backbone = net if isinstance(net, Backbone) else getattr(net, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise MotesError(f"{type(net).__name__} has no backbone that takes ImageNet weights")
    if isinstance(source, str):
        look_up("source of backbone weights", source, ("imagenet",))
        where, source = downloaded(backbone)
    own = backbone.body.state_dict()
    inner = prefix_of(backbone.body)
    # timm writes the first dot of a flattened stage as an underscore: stages.0.conv is stages_0.conv there.
    places = {plain(n.removeprefix(inner)): n for n in own}
    given: dict[str, Tensor] = {}
    spare: list[str] = []
    for name, value in source.items():
        place = places.get(plain(name))
        if place is None:
            spare.append(name)
        else:
            given[place] = torch.as_tensor(np.array(value) if not isinstance(value, Tensor) else value)
    unknown = [n for n in spare if plain(n) not in classifier_names(backbone)]
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    adapted = [n for n, v in given.items() if is_stem(v, own[n])]
    wrong = [n for n, v in given.items() if n not in adapted and v.shape != own[n].shape]
    if unknown or missing or wrong:
        found = [
            f"{len(names)} {what} ({abbreviated(names)})"
            for names, what in ((unknown, "have no place"), (missing, "are missing"), (wrong, "differ in shape"))
            if names
        ]
        raise CheckpointError(f"{where}: not weights of backbone '{backbone.name}': {', '.join(found)}")
    for n in adapted:
        given[n] = with_bands(given[n], own[n].shape[1])
    backbone.body.load_state_dict({n: given[n].to(t.dtype) if n in given else t * 0 for n, t in own.items()})
    return BackboneWeights(where, len(given), tuple(spare), tuple(adapted))


def downloaded(backbone: Backbone) -> tuple[str, dict[str, Tensor]]:
    """Where from, and the classifier's weights as timm publishes them, for three bands."""
    timm = import_timm()
    name = backbone.name
    if "." not in name and f"{name}.{TORCHVISION}" in timm.list_models(f"{name}.*", pretrained=True):
        name = f"{name}.{TORCHVISION}"
    try:
        state = timm.create_model(name, pretrained=True, **backbone.options).state_dict()
    except Exception as e:  # timm, the hub and the network each have their own
        raise CheckpointError(
            f"ImageNet weights of '{name}' cannot be had: {str(e).splitlines()[0] if str(e) else type(e).__name__}",
            "give the path of a downloaded file, or train from scratch with no weights",
        ) from None
    return f"timm {name}", state


def classifier_names(backbone: Backbone) -> set[str]:
    """Names of the whole classifier and of a torchvision one, dots as underscores."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is initialised
        whole = import_timm().create_model(backbone.name, pretrained=False, **backbone.options)
    return {plain(n) for n in whole.state_dict()} | {"fc_weight", "fc_bias"}


def is_stem(given: Tensor, own: Tensor) -> bool:
    """A kernel of three bands that is to become one of more or fewer."""
    return (
        given.ndim == 4
        and given.shape[1] == 3 != own.shape[1]
        and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])
    )


def with_bands(kernel: Tensor, bands: int) -> Tensor:
    """A kernel [O, 3, h, w] for n bands, as timm does: their sum for one, else repeated and scaled by 3 / n."""
    if bands == 1:
        return kernel.sum(1, keepdim=True)
    return kernel[:, torch.arange(bands) % 3] * (3 / bands)


def prefix_of(body: nn.Module) -> str:
    """What timm puts before the names where it wraps the network instead of taking it apart."""
    return "model." if all(n.startswith("model.") for n in body.state_dict()) else ""


def plain(name: str) -> str:
    return name.replace(".", "_")


def abbreviated(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def import_timm() -> Any:
    try:
        import timm  # takes a second, and only these networks need it
    except ImportError:
        raise MissingExtraError("a backbone of timm", "train") from None
    return timm
