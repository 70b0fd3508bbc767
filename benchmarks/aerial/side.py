"""One side of the whole-image benchmark: a network and how its windows become one map, in a process of its own."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory import peak_bytes, resident_bytes
from sides import answer

Maps = Callable[[np.ndarray], np.ndarray]
"""[H, W, 3] uint8 -> [H, W] uint8 ids."""
Margins = Callable[[], np.ndarray | None]
"""How far the two most probable classes of the last image were apart, [H, W] float32; None where that is not known."""


def published(folder: Path, threads: int, window: int, stride: int) -> tuple[Maps, Margins]:
    """The published way: torch eager, float32, one window at a time; the probabilities of all classes are summed over
    the whole image, divided by the number of windows over each pixel, and compared."""
    import torch

    from motes.checkpoints import load_network

    if threads:
        torch.set_num_threads(threads)
    net, card = load_network(folder / "network.safetensors")
    net.eval()
    mean = 255 * torch.tensor(card.input.mean)[:, None, None]
    std = 255 * torch.tensor(card.input.std)[:, None, None]
    last: list[torch.Tensor] = []

    def places(length: int) -> list[int]:
        count = math.ceil(max(0, length - window) / stride) + 1
        return [max(0, min(i * stride, length - window)) for i in range(count)]

    def labels(pixels: np.ndarray) -> np.ndarray:
        last.clear()
        height, width = pixels.shape[:2]
        total = torch.zeros(len(card.classes), height, width)
        times = torch.zeros(height, width)
        with torch.no_grad():
            for top in places(height):
                for left in places(width):
                    cut = pixels[top : top + window, left : left + window]
                    h, w = cut.shape[:2]
                    image = (torch.from_numpy(cut.astype(np.float32)).permute(2, 0, 1) - mean) / std
                    image = torch.nn.functional.pad(image, (0, -w % 32, 0, -h % 32))
                    maps = net.published_outputs(image[None])["out0"][0]
                    total[:, top : top + h, left : left + w] += maps[:, :h, :w]
                    times[top : top + h, left : left + w] += 1
        total /= times  # in place: one array of all classes, not two
        last.append(total)
        return total.argmax(dim=0).to(torch.uint8).numpy()

    def margins() -> np.ndarray:
        rows = [band.topk(2, dim=0).values for band in last[0].split(256, dim=1)]
        return np.concatenate([(best - second).numpy() for best, second in rows])

    return labels, margins


def motes(folder: Path, threads: int, window: int, stride: int, backend: str, batch: int) -> tuple[Maps, Margins]:
    """What ``motes predict --model network.onnx --protocol window --backend B --batch N`` does between reading and
    writing."""
    from motes.inference import Segmenter

    segmenter = Segmenter(
        folder / "network.onnx", backend, protocol="window", window=window, stride=stride, batch=batch,
        threads=threads or None,
    )  # fmt: skip
    return segmenter.labels, lambda: None


def main(name: str, folder: Path, threads: int, window: int, stride: int) -> None:
    way, *how = name.split("_")
    if way == "published":
        labels, margins = published(folder, threads, window, stride)
    else:
        labels, margins = motes(folder, threads, window, stride, how[0], int(how[1]))
    pixels = np.load(folder / "image.npy")
    found: dict[str, np.ndarray] = {}
    memory = {"start": resident_bytes()}

    def warm() -> None:
        """One window alone: what is made once, on the first run, is not timed."""
        labels(pixels[:window, :window])

    def timed() -> float:
        """Seconds of the whole image, from pixels in memory to ids in memory."""
        found.clear()
        start = time.perf_counter()
        found["labels"] = labels(pixels)
        seconds = time.perf_counter() - start
        memory.setdefault("peak", peak_bytes())  # of the first image: later ones only fragment the heap
        return seconds

    def peak() -> dict[str, int]:
        """Resident bytes: before the first window, and the most while the first image ran."""
        return memory

    def written() -> str:
        """Writes the labels of the last run, and how sure they were, and returns the file's name."""
        file = folder / f"{name}.npz"
        sure = margins()
        np.savez(file, labels=found["labels"], **({} if sure is None else {"margins": sure}))
        return file.name

    answer({"warm": warm, "timed": timed, "peak": peak, "written": written})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
