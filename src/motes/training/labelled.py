"""Training images with labels of several classes, whole or in windows cut on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from motes.cards import InputSpec
from motes.data import Sample
from motes.errors import DataError
from motes.imaging import fix_scaling, network_input, read_image
from motes.training.aerial_transforms import IGNORE, augment_labelled
from motes.training.recipe import TransformPart
from motes.training.samples import Item, Key

if TYPE_CHECKING:
    from motes.data.classes import ClassTable
    from motes.data.windows import Window

KEPT = 512 * 2**20
"""Bytes of decoded images and labels that a process keeps."""


class LabelledSet(Dataset[Item]):
    """Augmented images [C, crop, crop] float32 with labels [crop, crop] int64; 255 is ignored.

    Item (epoch, index) is the same whoever asks, whenever, as of ``TrainingSet``.

    Args:
        pieces: what is trained on: samples are taken whole, windows are cut out of theirs.
        table: the classes.
        spec: how pixels become the network's input.
        transform: the augmentation.
        seed: with (epoch, index), all that decides an item.
    """

    def __init__(
        self,
        pieces: Sequence[Sample | Window],
        table: ClassTable,
        spec: InputSpec,
        transform: TransformPart,
        seed: int,
    ) -> None:
        self.pieces, self.table, self.spec, self.transform, self.seed = list(pieces), table, spec, transform, seed
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        pixels, labels = self._load(index)
        spec = fix_scaling(pixels, self.spec)
        rng = np.random.default_rng((self.seed, epoch, index))
        pixels, labels = augment_labelled(pixels, labels, self.transform, rng)
        return network_input(pixels, spec), labels.astype(np.int64), piece_name(self.pieces[index])

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._kept:
            return self._kept[index]
        pair = self._read(self.pieces[index])
        size = sum(a.nbytes for a in pair)
        if self._bytes + size <= KEPT:
            self._kept[index] = pair
            self._bytes += size
        return pair

    def _read(self, piece: Sample | Window) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(piece, Sample):
            pixels, labels = read_labelled(piece, self.table)
        else:
            from motes.data.windows import read_window

            pixels, labels = read_window(piece, self.table)
        known = np.bincount(labels.reshape(-1), minlength=256)
        foreign = [i for i in np.flatnonzero(known) if i >= len(self.table.names) and i != IGNORE]
        if foreign:
            raise DataError(
                f"{piece_name(piece)}: its labels hold {known[foreign].sum()} pixels of id {foreign[0]}, but "
                f"{self.table.name} has the ids 0 to {len(self.table.names) - 1}",
                "`motes data check` counts them, or choose other data.classes",
            )
        return np.ascontiguousarray(pixels), np.ascontiguousarray(labels)

    def __getstate__(self) -> dict[str, Any]:  # worker processes begin with nothing kept
        return {**self.__dict__, "_kept": {}, "_bytes": 0}


def read_labelled(sample: Sample, table: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """A whole image [H, W, C] and its labels [H, W] uint8; DataError where they do not belong together."""
    from motes.data.labels import read_labels

    if sample.mask is None:
        raise DataError(f"{sample.image} has no mask, so it cannot be trained on")
    pixels, labels = read_image(sample.image).pixels, read_labels(sample.mask, table)
    if pixels.shape[:2] != labels.shape:
        found = " and ".join(f"{a.shape[0]}x{a.shape[1]}" for a in (labels, pixels))
        raise DataError(f"{sample.mask} and its image differ in size: {found}", "`motes data check` lists such pairs")
    return pixels, labels


def piece_name(piece: Sample | Window) -> str:
    if isinstance(piece, Sample):
        return piece.name
    return f"{piece.sample.name} at {piece.box[0]},{piece.box[1]}"
