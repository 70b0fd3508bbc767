"""motes_seg with the local contrast as second input: contrast_weights.py OUT.safetensors FILE

It begins by doing what FILE does to the image plus SHARE times its local contrast, and learns the rest by training.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from motes.checkpoints import load_network, write_safetensors
from motes.models.motes_seg import MotesSeg, local_contrast

SHARE = 0.32
"""Noise then has a standard deviation of about 0.1, five of 255 grey levels as ``input`` scales them."""


def main() -> None:
    out, file = Path(sys.argv[1]), Path(sys.argv[2])
    plain, card = load_network(file)
    if plain.options["contrast"]:
        raise SystemExit(f"{file} sees the local contrast already")
    plain.peak = None  # calibrated to what the network was
    options = {**plain.options, "contrast": True, "peak": None}
    net = MotesSeg(**options)
    state = plain.state_dict()
    state["stem.conv.weight"] = torch.cat((state["stem.conv.weight"], SHARE * state["stem.conv.weight"]), 1)
    net.load_state_dict(state)
    x = torch.rand(1, options["in_channels"], 64, 64)
    with torch.inference_mode():
        same = plain.eval()(x + SHARE * local_contrast(x))
        torch.testing.assert_close(net.eval()(x), same, rtol=0, atol=1e-3)
    kept = {k: v for k, v in card.options.items() if k != "peak"}
    card = card.replace(options={**kept, "contrast": True})
    write_safetensors(out, {k: v.numpy() for k, v in net.state_dict().items()}, card)


if __name__ == "__main__":
    main()
