"""What all detectors share: the calls of training and use, padding, channel order; and how maps become candidates.

A dense detector has ``backbone``, ``neck`` and ``bbox_head`` and says what its maps mean: :class:`DenseDetector`.
One of another build (two stages, queries) takes :class:`BoxDetectorMixin` and gives ``candidates_from`` and ``losses``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motes.cards import BoxSpec
from motes.errors import MotesError
from motes.layers.box_selection import select

Targets = Sequence[Mapping[str, Tensor]]
Raw = Any
"""What a head gives: groups of maps, each a list with one map a level; finest level first."""


class BoxDetectorMixin:
    """The calls of every detector, before ``nn.Module`` in the list of bases.

    ``net(images)`` in eval mode: a list with one ``{"boxes" [N, 4] float32 xyxy px, "scores" [N], "labels" [N]}`` an
    image, and ``"sky"`` [H, W] probabilities where the network has a sky branch.
    ``net(images, targets)`` in any mode: ``{name: scalar}``, weighted; their sum is trained. ``targets``: one
    ``{"boxes" [N, 4], "labels" [N] int64, "sky" [H, W] uint8 0, 1, 255}`` an image (N may be 0, sky only for networks
    with a sky branch).
    Images are [B, C, H, W] of any size, normalised as the card says.

    A network gives ``candidates_from(images, size)`` and ``losses(images, targets, size)``; both get what the published
    network gets: padded at the right and below with zeros to multiples of ``pad_stride``, channels in its order.
    ``size``: (H, W) without the padding.
    """

    pad_stride = 32
    pad_least = 32
    """px; shorter sides are padded to it (a multiple of ``pad_stride``)."""
    bgr = False
    """Whether the published network takes blue, green, red; images come as the card says, red first."""

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        if targets is not None:
            return self.loss(images, targets)
        if self.training:
            raise MotesError(f"{type(self).__name__} in training mode needs targets, found none", "call net.eval()")
        return self.detect(images)

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Detections of each image; see the class."""
        h, w = images.shape[-2:]
        candidates = self.candidates(pad_to(images, self.pad_stride, self.pad_least), (h, w))
        found = select(candidates, self.box_spec)
        if "sky" in candidates:
            for one, sky in zip(found, candidates["sky"], strict=True):
                one["sky"] = sky[0, :h, :w].float().sigmoid()
        return found

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """``{name: scalar}``; see the class. Computed in float32 under autocast too."""
        check_targets(images, targets)
        padded = self.as_published(pad_to(images, self.pad_stride, self.pad_least))
        return self.losses(padded, targets, tuple(images.shape[-2:]))

    def candidates(self, images: Tensor, size: tuple[Any, Any] | None = None) -> dict[str, Tensor]:
        """All that is said about images whose sides are multiples of ``pad_stride``, before any suppression.

        ``boxes`` [B, P, 4] px, clipped to ``size`` (h, w; default: the images'); ``scores`` [B, P, K]; perhaps
        ``factors`` [B, P], which multiply scores after the threshold; ``levels`` [L]: candidates of each level, in
        order; ``sky`` [B, 1, H, W] logits where there is a sky branch.
        """
        return self.candidates_from(self.as_published(images), tuple(images.shape[-2:]) if size is None else size)

    @property
    def box_spec(self) -> BoxSpec:
        card = getattr(self, "card", None)
        return BoxSpec() if card is None else card.boxes

    def as_published(self, images: Tensor) -> Tensor:
        """Images with the channels in the published order."""
        return images.flip(1) if self.bgr else images

    def candidates_from(self, images: Tensor, size: tuple[Any, Any]) -> dict[str, Tensor]:
        raise NotImplementedError

    def losses(self, images: Tensor, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        raise NotImplementedError


class DenseDetector(BoxDetectorMixin, nn.Module):
    """A detector whose head says something about every cell of every level.

    A network sets ``backbone``, ``neck`` and ``bbox_head`` (``raw`` runs them in a row) and gives
    ``candidates_of(raw, size)`` and ``losses_of(raw, targets, size)``; raw maps come in float32.
    """

    def raw(self, images: Tensor) -> Raw:
        """The head's groups of maps for images as published (padded, channels in the published order)."""
        return self.bbox_head(self.neck(self.backbone(images)))

    def candidates_of(self, raw: Raw, size: tuple[Any, Any]) -> dict[str, Tensor]:
        raise NotImplementedError

    def losses_of(self, raw: Raw, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        raise NotImplementedError

    def candidates_from(self, images: Tensor, size: tuple[Any, Any]) -> dict[str, Tensor]:
        return self.candidates_of(as_float(self.raw(images)), size)

    def losses(self, images: Tensor, targets: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
        raw = as_float(self.raw(images))
        with torch.autocast(images.device.type, enabled=False):
            return self.losses_of(raw, targets, size)

    def published_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """``out0``, ``out1``, ... : all maps, group by group, level by level, for images as published."""
        return {f"out{i}": m for i, m in enumerate(m for group in self.raw(images) for m in group)}


def pad_to(images: Tensor, stride: int, least: int = 1) -> Tensor:
    """Images with zeros at the right and below, so that both sides are multiples of ``stride``, none below ``least``.

    ``least``: a multiple of ``stride``, or 1.
    """
    h, w = images.shape[-2:]
    right, bottom = (max(-n % stride, least - n) for n in (w, h))
    return F.pad(images, (0, right, 0, bottom)) if right or bottom else images


def check_targets(images: Tensor, targets: Targets) -> None:
    """Raises MotesError where targets do not fit the images."""
    if len(targets) != len(images):
        raise MotesError(f"{len(images)} images with targets for {len(targets)}")
    for i, target in enumerate(targets):
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(labels):
            raise MotesError(
                f"target {i} has boxes {list(boxes.shape)} and labels {list(labels.shape)}, expected [N, 4] and [N]"
            )


def as_float(raw: Raw) -> Raw:
    """The same nested lists, tuples and dictionaries with float32 tensors."""
    if isinstance(raw, Tensor):
        return raw.float() if raw.is_floating_point() else raw
    if isinstance(raw, Mapping):
        return {k: as_float(v) for k, v in raw.items()}
    return [as_float(r) for r in raw]


def map_sizes(maps: Sequence[Tensor]) -> list[tuple[Any, Any]]:
    """(h, w) of each map."""
    return [(m.shape[-2], m.shape[-1]) for m in maps]


def flattened(maps: Sequence[Tensor], width: int) -> list[Tensor]:
    """Maps [B, A * width, h, w] as [B, h * w * A, width]: row, column, anchor, as priors are ordered."""
    return [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps]


def level_counts(parts: Sequence[Tensor]) -> Tensor:
    """[L] int64: the length of axis 1 of each part; while a graph is traced, part of it."""
    if torch.jit.is_tracing():
        return torch.stack([torch.as_tensor(p.shape[1], dtype=torch.int64) for p in parts])
    return torch.tensor([p.shape[1] for p in parts])
