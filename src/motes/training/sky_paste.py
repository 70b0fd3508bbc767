"""BAG-CP and its siblings as transforms in the manner of ``torchvision.transforms.v2``.

They are called as ``image, target = transform(image, target)``, take tensors or ``tv_tensors`` and give the kind they
got, and stand in a ``v2.Compose`` with other transforms. The loop pastes by the same functions
(``motes.data.copy_paste``) out of generators seeded by (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from motes.data.annotations import mask_of_boxes
from motes.data.copy_paste import MODES, MOST, Patch, choose_patches, cut_patches, paste
from motes.errors import DataError
from motes.naming import look_up

Sampled = tuple[Tensor, Mapping[str, Any]]
Donors = Sequence[Sampled] | Callable[[], Sampled]


class CopyPaste(nn.Module):
    """Targets of a random other frame pasted into a frame; see ``motes.data.copy_paste``.

    ``image`` [C, H, W] (any dtype; floats near [0, 1]), ``target`` a dict with ``boxes`` [N, 4] xyxy px, half-open,
    ``labels`` [N] int64, perhaps ``mask`` [H, W] (targets' pixels; else the boxes') and ``sky`` [H, W] (1 is sky).
    Other keys stay as they are. Where nothing is pasted, image and target are returned as they came.

    Args:
        donors: (image, target) of the other frames, one of which is drawn each time, or a function that draws one.
            They were resized and flipped on their own before.
        mode: one of ``motes.data.copy_paste.MODES``.
        at_most: targets pasted into a frame; 0 to as many are, each number as likely.
        chance: how often anything is tried.
        generator: decides everything; None: torch's own, as of torchvision's transforms.

    Raises:
        DataError: an unknown mode; when called: no sky map in ``target`` in mode ``sky``.
    """

    def __init__(
        self,
        donors: Donors,
        mode: str = "gaussian_clusters",
        at_most: int = MOST,
        chance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.donors, self.mode = donors, look_up("mode of copy-paste", mode, MODES, DataError)
        self.at_most, self.chance, self.generator = at_most, chance, generator

    def forward(self, image: Tensor, target: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        seed = int(torch.randint(2**62, (), generator=self.generator))
        rng = np.random.default_rng(seed)
        if rng.random() >= self.chance:
            return image, dict(target)
        patches = choose_patches(self.draw(rng), rng, self.at_most)
        sky = target.get("sky")
        if MODES[self.mode].sky and sky is None:
            raise DataError(f"mode '{self.mode}' pastes into the sky, but the target has no 'sky'", "mode gaussian")
        pixels, boxes, labels, mask = as_arrays(image, target)
        allowed = None if sky is None else sky.reshape(mask.shape).cpu().numpy() == 1
        done = paste(pixels, boxes, labels, mask, patches, rng, self.mode, allowed)
        if not done.places:
            return image, dict(target)
        changed = {"boxes": torch.from_numpy(done.boxes), "labels": torch.from_numpy(done.labels)}
        if "mask" in target:
            changed["mask"] = torch.from_numpy(done.mask).to(target["mask"].dtype).reshape(target["mask"].shape)
        pasted = torch.from_numpy(np.ascontiguousarray(done.pixels.transpose(2, 0, 1)))
        return like(image, pasted), {**target, **{k: like(target[k], v) for k, v in changed.items()}}

    def draw(self, rng: np.random.Generator) -> list[Patch]:
        """The targets of one of the donors."""
        if callable(self.donors):
            image, target = self.donors()
        elif len(self.donors):
            image, target = self.donors[int(rng.integers(len(self.donors)))]
        else:
            return []
        return cut_patches(*as_arrays(image, target))

    def extra_repr(self) -> str:
        return f"mode={self.mode}, at_most={self.at_most}, chance={self.chance}"


class SkyCopyPaste(CopyPaste):
    """BAG-CP: into the sky, faded out by a turned Gaussian, in groups of five."""

    def __init__(
        self, donors: Donors, at_most: int = MOST, chance: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(donors, "sky", at_most, chance, generator)


def as_arrays(image: Tensor, target: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [H, W, C], boxes [N, 4], labels [N], mask [H, W] bool."""
    pixels = image.detach().cpu().numpy().transpose(1, 2, 0)
    boxes = target["boxes"].detach().cpu().numpy().astype(np.float32).reshape(-1, 4)
    labels = target["labels"].cpu().numpy()
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    mask = target["mask"].reshape(size).cpu().numpy() > 0 if "mask" in target else mask_of_boxes(boxes, size)
    return pixels, boxes, labels, mask


def like(old: Tensor, new: Tensor) -> Tensor:
    """``new`` on the device of ``old`` and as the ``tv_tensor`` that it is."""
    new = new.to(old.device)
    if isinstance(old, tv_tensors.TVTensor):
        wrapped: Tensor = tv_tensors.wrap(new, like=old)
        return wrapped
    return new
