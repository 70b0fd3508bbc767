"""Writes the network of the inference benchmark in both formats, and the frames on which pixels are compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from motes.cards import Card
from motes.checkpoints import load_network, write_safetensors
from motes.data import open_dataset
from motes.data.synthesize import scene
from motes.export.forms import change_form, deployable
from motes.export.onnx_file import onnx_bytes
from motes.imaging import network_input, read_image, resize
from motes.models import create_model


def main(folder: Path, weights: str, data: Path, count: int) -> None:
    if weights:
        net = load_network(weights)[0]
    else:
        net = create_model("repisdnet").eval()
    net = change_form(net, "deploy").eval()
    card: Card = net.card
    write_safetensors(folder / "network.safetensors", {k: v.numpy() for k, v in net.state_dict().items()}, card)
    (folder / "network.onnx").write_bytes(onnx_bytes(deployable(net), card))
    if data.is_dir():
        samples = open_dataset(data).split("test_v1")[:count]
        frames = {s.name: read_image(s.image).pixels for s in samples}
        name = "SIRST test_v1"
    else:
        frames = {f"scene {i}": scene(237 + i, 311, seed=i, bits=8).pixels for i in range(min(count, 12))}
        name = "synthetic scenes"
    native = {key: network_input(p, card.input) for key, p in frames.items()}
    square = {key: network_input(resize(p, (256, 256)), card.input) for key, p in frames.items()}
    np.savez(folder / "native.npz", **native)
    np.savez(folder / "256x256.npz", **square)
    print(json.dumps({"frames": name, "count": len(frames), "weights": Path(weights).name if weights else "random"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
