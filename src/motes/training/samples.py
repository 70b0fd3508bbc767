"""Training frames as tensors, in an order that is a function of the seed."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from motes.cards import InputSpec, Scaling
from motes.data import Sample
from motes.errors import DataError
from motes.imaging import fix_scaling, network_input, read_image, read_mask, scale
from motes.training.pasting import paste_targets
from motes.training.recipe import TransformPart
from motes.training.transforms import augment

Key = tuple[int, ...]
"""(epoch, index of the frame): with the seed, all that decides a training sample. When a frame comes again in the same
epoch, a third number counts how often it was there before: it is augmented anew."""


@dataclass
class Batch:
    """images [B, C, H, W] float32, and the frames' names.

    truth: masks [B, 1, H, W] float32 with values 0 and 1; of the task aerial labels [B, H, W] int64, 255 ignored; of
    the task detection a list of ``{"boxes", "labels", "sky"?}``.
    """

    images: torch.Tensor
    truth: Any
    names: list[str]


Item = tuple[np.ndarray, np.ndarray, str]


class TrainingSet(Dataset[Item]):
    """Augmented training frames; an item is the same for its key whoever asks, whenever."""

    def __init__(self, samples: Sequence[Sample], spec: InputSpec, transform: TransformPart, seed: int) -> None:
        for sample in samples:
            if sample.mask is None and not sample.empty:
                raise DataError(f"{sample.image} has no mask, so it cannot be trained on")
        self.samples, self.spec, self.transform, self.seed = list(samples), spec, transform, seed
        self.scaled_spec = replace(spec, scaling_deep=Scaling("fixed", 0.0, 1.0))
        self._load = lru_cache(maxsize=2048)(self._read)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        index = key[1]
        pixels, mask = self._load(index)
        rng = np.random.default_rng((self.seed, *key))
        scaled = self._scaled(pixels)
        if self.transform.paste and rng.random() < self.transform.paste:
            donor, donor_mask = self._load(int(rng.integers(len(self.samples))))
            scaled, mask = paste_targets(scaled, mask, self._scaled(donor), donor_mask, self.transform, rng)
        scaled, mask = augment(scaled, mask, self.transform, rng)
        return network_input(scaled, self.scaled_spec), mask[None].astype(np.float32), self.samples[index].name

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        return scale(pixels, fix_scaling(pixels, self.spec).scaling)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index]
        pixels = read_image(sample.image).pixels
        mask = np.zeros(pixels.shape[:2], bool) if sample.empty else read_mask(sample.mask)
        if pixels.shape[:2] != mask.shape:
            raise DataError(
                f"{sample.image} is {_size(pixels)} px but its mask is {_size(mask)}",
                "`motes data check` lists all such pairs",
            )
        return pixels, mask

    def __getstate__(self) -> dict[str, Any]:  # worker processes begin with an empty cache
        return {k: v for k, v in self.__dict__.items() if k != "_load"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load = lru_cache(maxsize=2048)(self._read)


class Order(Sampler[list[Key]]):
    """Batches of keys from micro-batch ``start`` on, for one of ``world`` processes; endless.

    An epoch is a permutation of ``repeats`` (how often each frame counts; fractions are drawn anew every epoch). A
    global batch is dealt out to the processes in turn, so what is trained on does not depend on their number.
    """

    def __init__(
        self,
        repeats: Sequence[float],
        batch_size: int,
        per_epoch: int,
        seed: int,
        rank: int,
        world: int,
        start: int = 0,
    ) -> None:
        self.repeats = np.asarray(repeats, np.float64)
        self.batch_size, self.per_epoch, self.seed = batch_size, per_epoch, seed
        self.rank, self.world, self.start = rank, world, start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, position = divmod(self.start, self.per_epoch)
        size = self.batch_size * self.world
        while True:
            order = self.permutation(epoch)
            keys = keys_of(epoch, np.resize(order, max(len(order), self.per_epoch * size)))
            for k in range(position, self.per_epoch):
                yield keys[k * size : (k + 1) * size][self.rank :: self.world]
            epoch, position = epoch + 1, 0

    def permutation(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        counts = np.floor(self.repeats + rng.random(len(self.repeats))).astype(int)
        return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def keys_of(epoch: int, order: np.ndarray) -> list[Key]:
    """The keys of an epoch's frames, all different however often a frame is among them."""
    keys: list[Key] = []
    seen: Counter[int] = Counter()
    for index in order.tolist():
        keys.append((epoch, index, seen[index]) if seen[index] else (epoch, index))
        seen[index] += 1
    return keys


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"


def collate(items: list[Item]) -> Batch:
    """Stacks items; all have the size of the crop."""
    images, masks, names = zip(*items, strict=True)
    return Batch(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), list(names))


def loader(data: Dataset[Any], order: Order, workers: int) -> DataLoader[Batch]:
    """Batches in ``order``; the number of workers changes nothing but the speed. A set may have its own ``collate``."""
    return DataLoader(
        data,
        batch_sampler=order,
        num_workers=workers,
        # A fork would inherit the locks of OpenCV's and OpenMP's threads, and may wait for them for ever; children of a
        # fork server do not notice that the training was killed, and stay.
        multiprocessing_context="spawn" if workers else None,
        collate_fn=getattr(data, "collate", collate),
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # worker seeds must not be drawn from the global generator
        worker_init_fn=_settle_worker,
    )


def start(batches: DataLoader[Batch]) -> Iterator[Batch]:
    """Starts the workers, deaf to Ctrl-C from their first moment on.

    A terminal's Ctrl-C, and a scheduler's SIGTERM, reach every process, and the main one, which decides what they mean,
    still wants its batch.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(batches)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # children inherit it
    try:
        return iter(batches)
    finally:
        signal.signal(signal.SIGINT, before)


def _settle_worker(_: int) -> None:
    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):  # not all that is ignored is inherited
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
