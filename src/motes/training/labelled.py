"""Training images with labels of several classes, whole or in windows cut on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from motes.cards import InputSpec
from motes.data import Sample
from motes.data.classes import ClassTable
from motes.data.windows import Decoded, Window, read_window
from motes.errors import DataError
from motes.imaging import fix_scaling, network_input
from motes.training.aerial_transforms import IGNORE, augment_labelled
from motes.training.recipe import TransformPart
from motes.training.samples import Item, Key

KEPT = 512 * 2**20
"""Bytes of decoded images and labels that a process keeps; beyond them an image is decoded for every window of it."""


class LabelledSet(Dataset[Item]):
    """Augmented images [C, crop, crop] float32 with labels [crop, crop] int64; 255 is ignored.

    An item is the same for its key whoever asks, whenever, as of ``TrainingSet``.

    Args:
        pieces: what is trained on: samples are taken whole, windows are cut out of theirs.
        table: the classes.
        spec: how pixels become the network's input.
        transform: the augmentation.
        seed: with the key, all that decides an item.
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
        for sample in {sample_of(p) for p in self.pieces}:
            if sample.mask is None:
                raise DataError(f"{sample.image} has no mask, so it cannot be trained on")
        self._decoded = Decoded(KEPT)

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, key: Key) -> Item:
        index = key[1]
        pixels, labels = self._read(self.pieces[index])
        spec = fix_scaling(pixels, self.spec)
        rng = np.random.default_rng((self.seed, *key))
        pixels, labels = augment_labelled(pixels, labels, self.transform, rng)
        return network_input(pixels, spec), labels.astype(np.int64), piece_name(self.pieces[index])

    def _read(self, piece: Sample | Window) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(piece, Sample):
            pixels, labels = self._decoded.read(piece, self.table)
        else:
            pixels, labels = read_window(piece, self.table, self._decoded)
        known = np.bincount(labels.reshape(-1), minlength=256)
        foreign = [i for i in np.flatnonzero(known) if i >= len(self.table.names) and i != IGNORE]
        if foreign:
            raise DataError(
                f"{piece_name(piece)}: its labels hold {known[foreign].sum()} pixels of id {foreign[0]}, but "
                f"{self.table.name} has the ids 0 to {len(self.table.names) - 1}",
                "`motes data check` counts them, or choose other data.classes",
            )
        return pixels, labels

    def __getstate__(self) -> dict[str, Any]:  # worker processes begin with nothing decoded
        return {k: v for k, v in self.__dict__.items() if k != "_decoded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._decoded = Decoded(KEPT)


def piece_name(piece: Sample | Window) -> str:
    if isinstance(piece, Sample):
        return piece.name
    return f"{piece.sample.name} at {piece.box[0]},{piece.box[1]}"


def sample_of(piece: Sample | Window) -> Sample:
    return piece if isinstance(piece, Sample) else piece.sample
