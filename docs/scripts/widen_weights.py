"""motes_seg at a multiple of its width, with the same output: widen_weights.py OUT.safetensors FILE [TIMES]

Every channel stands TIMES times; what reads it gives each copy a random share of its weight, so that the copies learn
different things (Net2Net, Chen et al., ICLR 2016). A large network then goes on from where a small one stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from motes.checkpoints import load_network, write_safetensors
from motes.models.motes_seg import MotesSeg


def main() -> None:
    out, file, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2
    small, card = load_network(file)
    large = MotesSeg(**{**small.options, "width": times * small.options["width"]})
    state = widened(small.state_dict(), large.state_dict(), torch.Generator().manual_seed(1))
    large.load_state_dict(state)
    x = torch.rand(1, small.options["in_channels"], 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(large.eval()(x), small.eval()(x), rtol=0, atol=1e-3)
    write_safetensors(out, {k: v.numpy() for k, v in state.items()}, card.replace(variant=None))


def widened(small: dict[str, Tensor], like: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """The tensors of ``small`` in the shapes of ``like``."""
    state = {}
    for name, value in small.items():
        shape = like[name].shape
        if value.dim():
            value = value.repeat(shape[0] // value.shape[0], *[1] * (value.dim() - 1))
        if value.dim() > 1 and value.shape[1] != shape[1]:
            copies = shape[1] // value.shape[1]
            share = 0.5 + torch.rand(value.shape[0], copies, value.shape[1], 1, 1, generator=rng)
            value = (value[:, None] * (share / share.sum(1, keepdim=True))).flatten(1, 2)
        state[name] = value
    return state


if __name__ == "__main__":
    main()
