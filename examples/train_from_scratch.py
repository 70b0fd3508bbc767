"""Trains a network on infrared frames without any framework: the whole of it, to be read in one sitting.

    python examples/train_from_scratch.py            # makes its own frames, about two minutes on two cores
    python examples/train_from_scratch.py ~/data/sirst trainval_v1

`motes train` does the same with everything a long training needs: exact resuming, several devices, averages, reports.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from motes.checkpoints import write_safetensors
from motes.data import Sample, open_dataset
from motes.data.synthesize import SIRST_LIKE, write_dataset
from motes.evaluation import score_samples
from motes.imaging import network_input, read_image, read_mask
from motes.losses import create_loss
from motes.models import create_model
from motes.models.allocator import keep_freed_memory
from motes.models.backend import TorchBackend

CROP, BATCH, EPOCHS, RATE = 64, 8, 40, 2e-3


def main() -> None:
    # 1. Frames with masks. Everything that happens to pixels before the network is `network_input`: detection does the
    #    same, so a number that differs between training and detection would be a bug.
    samples = find_samples()
    held, kept = samples[::5], [s for i, s in enumerate(samples) if i % 5]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = create_model("repisdnet")
    frames = [(network_input(read_image(s.image), net.card.input), read_mask(s.mask)) for s in kept]

    # 2. Targets cover a ten-thousandth of a frame: a pixel-wise loss alone learns to say no. Soft IoU looks at the
    #    overlap, binary cross entropy keeps empty crops empty.
    overlap, entropy = create_loss("soft_iou"), create_loss("bce")
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    steps = EPOCHS * max(len(frames) // BATCH, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)

    # 3. The loop. Crops are drawn around a target most of the time, or nothing would ever be seen of it.
    keep_freed_memory()  # half of an eager step on a CPU is page faults
    net.train()
    for step in range(steps):
        crops = [crop(*frames[i], rng) for i in rng.integers(len(frames), size=BATCH)]
        images = torch.from_numpy(np.stack([c[0] for c in crops]))
        masks = torch.from_numpy(np.stack([c[1] for c in crops]))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(images)
        loss = overlap(outputs, masks) + entropy(outputs, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:4d} of {steps}  loss {loss.item():.3f}", flush=True)

    # 4. The score on frames that were not trained on, with what it was counted from.
    values = score_samples(TorchBackend(net, net.card), held).compute()
    for key in ("iou", "niou", "pd", "fa"):
        v = values[key]
        low, high = v.interval or (float("nan"), float("nan"))
        print(f"{key:5} {v.value:.6f}   {v.numerator:g} / {v.denominator:g}   95 % {low:.6f} .. {high:.6f}")

    # 5. Weights that carry their card: `motes export scratch.safetensors -o scratch.onnx` merges and ships them.
    write_safetensors(Path("scratch.safetensors"), {k: v.numpy() for k, v in net.state_dict().items()}, net.card)


def find_samples() -> list[Sample]:
    """The frames of a data set named on the command line, or synthetic ones."""
    if len(sys.argv) > 1:
        return open_dataset(sys.argv[1]).split(sys.argv[2] if len(sys.argv) > 2 else None)
    root = Path("scratch-data")
    write_dataset(root, "plain", 80, seed=0, height=128, width=160, **SIRST_LIKE)
    return open_dataset(root).split(None)


def crop(pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A CROP x CROP window of [C, H, W] and [H, W], around a target in four cases of five; mirrored by chance."""
    rows, columns = np.nonzero(mask)
    centre = [rng.integers(n) for n in mask.shape]
    if len(rows) and rng.random() < 0.8:
        k = rng.integers(len(rows))
        centre = [p[k] + rng.integers(-CROP // 3, CROP // 3) for p in (rows, columns)]
    index = []
    for c, n in zip(centre, mask.shape, strict=True):
        at = np.abs(np.arange(c - CROP // 2, c - CROP // 2 + CROP)) % (2 * n - 2)  # the frame, mirrored at its borders
        index.append(np.minimum(at, 2 * n - 2 - at))
    window = np.ix_(*index)
    image, label = pixels[(slice(None), *window)], mask[window][None].astype(np.float32)
    return (image[..., ::-1].copy(), label[..., ::-1].copy()) if rng.random() < 0.5 else (image, label)


if __name__ == "__main__":
    main()
