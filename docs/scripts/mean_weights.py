"""The mean of the best and the last averaged weights of a run: mean_weights.py RUN OUT.safetensors"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from motes.checkpoints import load_network, write_safetensors


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    net, card = load_network(run / "best.safetensors")
    last = torch.load(run / "last.ckpt", weights_only=True)["average"]["state"]
    mean = {k: (v + last[k]) / 2 if v.is_floating_point() else v for k, v in net.state_dict().items()}
    write_safetensors(out, {k: v.numpy() for k, v in mean.items()}, card)


if __name__ == "__main__":
    main()
