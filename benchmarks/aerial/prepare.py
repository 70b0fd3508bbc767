"""Writes the network of the whole-image benchmark in both formats, and the image, as an array of 8-bit RGB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from motes.cards import Card
from motes.checkpoints import load_network, write_safetensors
from motes.data.aerial_scenes import scene
from motes.data.classes import class_table
from motes.export.forms import deployable
from motes.export.onnx_file import onnx_bytes
from motes.imaging import network_input, read_image
from motes.models import create_model


def main(folder: Path, backbone: str, weights: str, image: str, side: int) -> None:
    if image:
        pixels = np.ascontiguousarray(read_image(image).pixels)
    else:
        pixels = scene(0, side, class_table("isaid"))[0]
    if weights:
        net = load_network(weights)[0]
    else:
        torch.manual_seed(0)
        net = create_model("factseg", backbone=backbone)
        net = balanced(net, pixels[:512, :512])
    card: Card = net.card
    net.eval()
    write_safetensors(folder / "network.safetensors", {k: v.numpy() for k, v in net.state_dict().items()}, card)
    (folder / "network.onnx").write_bytes(onnx_bytes(deployable(net), card))
    np.save(folder / "image.npy", pixels)
    facts = {
        "weights": Path(weights).name if weights else "random",
        "image": Path(image).name if image else "synthetic scene",
        "size": list(pixels.shape[:2]),
        "classes": max(2, len(card.classes)),
    }
    print(json.dumps(facts))


def balanced(net: nn.Module, pixels: np.ndarray) -> nn.Module:
    """Random weights under which every class wins somewhere, so that equal labels mean something: norms know the
    statistics of these pixels, and the logits of each class have mean 0 and standard deviation 2."""
    rows, columns = (n // 32 * 32 for n in pixels.shape[:2])
    images = torch.from_numpy(network_input(pixels[:rows, :columns], net.card.input))[None]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    heads: list[nn.Conv2d] = [net.fg_cls, net.bi_cls]
    logits: dict[nn.Module, torch.Tensor] = {}
    hooks = [h.register_forward_hook(lambda module, _, out: logits.update({module: out})) for h in heads]
    with torch.no_grad():
        net.train()(images)
        net.eval()(images)
        for head in heads:
            maps = logits[head][0].flatten(1)
            scale = 2 / maps.std(dim=1).clamp_min(1e-6)
            head.bias.copy_((head.bias - maps.mean(dim=1)) * scale)
            head.weight.mul_(scale[:, None, None, None])
    for hook in hooks:
        hook.remove()
    return net


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
