"""The mean of several weights of one network: mean_weights.py OUT.safetensors FILE FILE ...

A FILE is a .safetensors file, or the last.ckpt of a run, of which the moving average is taken. The card is the first's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from motes.cards import Card
from motes.checkpoints import load_network, write_safetensors


def main() -> None:
    out, files = Path(sys.argv[1]), [Path(a) for a in sys.argv[2:]]
    loaded = [weights(f) for f in files]
    card, first = loaded[0]
    mean = {
        k: torch.stack([state[k].double() for _, state in loaded]).mean(0).to(v.dtype) if v.is_floating_point() else v
        for k, v in first.items()
    }
    write_safetensors(out, {k: v.numpy() for k, v in mean.items()}, card)


def weights(file: Path) -> tuple[Card, dict[str, torch.Tensor]]:
    net, card = load_network(file)  # of a last.ckpt this is the moving average
    if file.suffix == ".ckpt":
        _, card = load_network(file.with_name("best.safetensors"))
    return card, net.state_dict()


if __name__ == "__main__":
    main()
