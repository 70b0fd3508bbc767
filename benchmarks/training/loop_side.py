"""One side of the loop benchmark: epochs of a training, in a process of its own.

``authors``: a plain loop as the networks' own repositories have it: every epoch decodes every frame with Pillow,
augments it with Pillow, trains in eager float32 with contiguous tensors, and scores every image on the CPU.
``motes``: the loader, the step and the validation-free epoch of ``motes train``, bf16-mixed where it pays.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from sides import answer
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = {"acm": {"base": 512, "crop": 480, "batch": 8}, "dnanet": {"base": 256, "crop": 256, "batch": 4}}
"""Of the authors' commands."""


def authors(network: str, folder: Path) -> Callable[[], float]:
    """The plain loop; returns what trains one epoch and gives its mean loss."""
    from motes.layers import fast_gradients
    from motes.models import create_model

    fast_gradients.worthwhile = lambda x: False  # PyTorch's own gradients, as the authors' code has them
    setting = SETTINGS[network]
    torch.manual_seed(0)
    random.seed(0)
    net = create_model(network).train()
    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05)
    names = sorted(p.name for p in (folder / "images").iterdir())

    def epoch() -> float:
        random.shuffle(names)
        losses, intersections, unions = [], [], []
        for k in range(0, len(names) - setting["batch"] + 1, setting["batch"]):
            pairs = [augmented(folder, name, setting) for name in names[k : k + setting["batch"]]]
            images, masks = (torch.stack(parts) for parts in zip(*pairs, strict=True))
            outputs = net(images)
            loss = torch.stack([soft_iou(torch.sigmoid(output), masks) for output in outputs]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            for logits, mask in zip(outputs[0].detach(), masks, strict=True):
                found, truth = logits.numpy() > 0, mask.numpy() > 0
                intersections.append((found & truth).sum())
                unions.append((found | truth).sum())
        return sum(losses) / len(losses)

    return epoch


def augmented(folder: Path, name: str, setting: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Flip, long side of half to twice the base size, zero padding, random crop, blur."""
    image = Image.open(folder / "images" / name).convert("RGB")
    mask = Image.open(folder / "masks" / name).convert("L")
    if random.random() < 0.5:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    crop, long_side = setting["crop"], random.randint(setting["base"] // 2, setting["base"] * 2)
    size = tuple(int(n * long_side / max(image.size) + 0.5) for n in image.size)
    image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
    right, bottom = (max(crop - n, 0) for n in size)
    image, mask = (ImageOps.expand(part, (0, 0, right, bottom)) for part in (image, mask))
    x, y = (random.randint(0, n - crop) for n in image.size)
    image, mask = (part.crop((x, y, x + crop, y + crop)) for part in (image, mask))
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(radius=random.random()))
    pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)), torch.from_numpy(
        np.asarray(mask, np.float32)[None] / 255
    )


def soft_iou(p: Tensor, t: Tensor) -> Tensor:
    both = (p * t).sum()
    return 1 - (both + 1) / (p.sum() + t.sum() - both + 1)


def motes(network: str, folder: Path, precision: str) -> Callable[[], float]:
    """The trainer behind ``motes train NETWORK_sirst``; frames are loaded in this process."""
    from motes.models.allocator import keep_freed_memory
    from motes.training.loop import Trainer, make_fabric
    from motes.training.recipe import load_recipe
    from motes.training.run import Run
    from motes.training.samples import Order, loader
    from motes.training.selection import select_frames

    keep_freed_memory()
    changes = [
        f"data.root={folder}", "data.train=null", "data.val_fraction=0", f"loop.precision={precision}",
        f"loop.batch_size={SETTINGS[network]['batch']}", "loop.workers=0",
    ]  # fmt: skip
    recipe = load_recipe(f"{network}_sirst", changes)
    frames = select_frames(recipe)
    trainer = Trainer(make_fabric(recipe), recipe, frames, Run(folder / "run", quiet=True))
    order = Order(frames.repeats, recipe.loop.batch_size, trainer.steps_per_epoch, 0, 0, 1)
    batches = iter(loader(trainer.data, order, 0))

    def epoch() -> float:
        losses = []
        for _ in range(trainer.steps_per_epoch):
            losses.append(trainer.optimizer_step([next(batches)])[0])
            trainer.step += 1
        return sum(losses) / len(losses)

    return epoch


def main(name: str, network: str, folder: Path) -> None:
    ways = {
        "authors": lambda: authors(network, folder),
        "motes_float32": lambda: motes(network, folder, "32-true"),
        "motes_bf16": lambda: motes(network, folder, "bf16-mixed"),
    }
    epoch = ways[name]()

    def timed() -> float:
        start = time.perf_counter()
        epoch()
        return time.perf_counter() - start

    answer({"warm": epoch, "timed": timed})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
