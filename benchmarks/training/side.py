"""One side of the training benchmark: a training step in one way, in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sides import answer
from torch import Tensor

BATCH, SIDE = 8, 256
Step = Callable[[], float]
"""One step on the same batch; returns the loss."""


def authors() -> tuple[torch.nn.Module, Step]:
    """Eager float32, contiguous; the central difference as two convolutions, as the authors' code computes it."""
    from motes.models import create_model
    from motes.models.repisdnet import CentralDifference

    CentralDifference.forward = two_convolutions
    torch.manual_seed(0)
    net = create_model("repisdnet").train()
    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05, weight_decay=1e-4)
    images, masks = batch()

    def step() -> float:
        p = torch.sigmoid(net(images)[0]).flatten(1)
        t = masks.flatten(1)
        loss = 1 - (2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + 2e-3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return net, step


def two_convolutions(self: torch.nn.Module, x: Tensor) -> Tensor:
    """The published order of operations: a 3x3 convolution, less a 1x1 convolution with the kernel's sum."""
    weight = self.conv1.weight
    difference = F.conv2d(x, weight, padding=1) - F.conv2d(x, weight.sum((2, 3), keepdim=True))
    return self.bn1(difference) + self.bn2(self.conv2(x))


def motes_float32(folder: Path) -> tuple[torch.nn.Module, Step]:
    """``motes train`` with loop.precision=32-true."""
    return motes(folder, "32-true")


def motes_bf16(folder: Path) -> tuple[torch.nn.Module, Step]:
    """``motes train`` with loop.precision=bf16-mixed."""
    return motes(folder, "bf16-mixed")


def motes(folder: Path, precision: str) -> tuple[torch.nn.Module, Step]:
    """The trainer of ``motes train``: its network, loss, optimiser and step, on a batch that is already in memory."""
    from motes.models.allocator import keep_freed_memory
    from motes.training.loop import Trainer, make_fabric
    from motes.training.recipe import load_recipe
    from motes.training.run import Run
    from motes.training.samples import Batch
    from motes.training.selection import select_frames

    keep_freed_memory()
    changes = [
        f"data.root={folder}",
        "data.train=null",
        "loop.batch_size=8",
        f"loop.precision={precision}",
        "loop.seed=0",
    ]
    recipe = load_recipe("repisdnet_sirst", changes)
    trainer = Trainer(make_fabric(recipe), recipe, select_frames(recipe), Run(folder / "run", quiet=True))
    images, masks = batch()
    ready = Batch(images=images, masks=masks, names=[str(i) for i in range(BATCH)])
    return trainer.net, lambda: trainer.optimizer_step([ready])[0]


def batch() -> tuple[Tensor, Tensor]:
    """Noise with a bright 3x3 target in every frame: [8, 3, 256, 256] and [8, 1, 256, 256]."""
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCH, 1, SIDE, SIDE), np.float32)
    masks = np.zeros_like(images)
    for k, (y, x) in enumerate(random.integers(8, SIDE - 8, (BATCH, 2))):
        masks[k, 0, y : y + 3, x : x + 3] = 1
    return torch.from_numpy(np.repeat(images + 4 * masks, 3, axis=1)), torch.from_numpy(masks)


def main(name: str, folder: Path) -> None:
    ways = {
        "authors": authors,
        "motes_float32": lambda: motes_float32(folder),
        "motes_bf16": lambda: motes_bf16(folder),
    }
    net, step = ways[name]()
    dropouts = [m for m in net.modules() if isinstance(m, torch.nn.Dropout2d)]

    def losses(steps: int) -> list[float]:
        """The loss of the first steps without dropout, whose draws differ between precisions; this also warms up."""
        before = [m.p for m in dropouts]
        for m in dropouts:
            m.p = 0.0
        values = [step() for _ in range(steps)]
        for m, p in zip(dropouts, before, strict=True):
            m.p = p
        return values

    def timed() -> float:
        """Seconds of one step."""
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    def peak() -> float | None:
        """The most memory this process ever held, GB."""
        try:
            import resource
        except ModuleNotFoundError:  # Windows
            return None
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1e9 if sys.platform == "darwin" else 1e6)

    answer({"losses": losses, "timed": timed, "peak": peak})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
