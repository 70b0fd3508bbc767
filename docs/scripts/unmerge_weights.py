"""A shipped motes_seg in its training form, to go on with: unmerge_weights.py OUT.safetensors NETWORK FRAMES

    python docs/scripts/unmerge_weights.py start.safetensors motes my/frames
    motes train motes_seg_sensors model.variant=null model.init=start.safetensors optimizer.lr=5e-4 loop.epochs=10

NETWORK is an exported file or the name of a shipped network; FRAMES a folder of images like those to come. Merging
(motes_seg.Block.merged) is undone with the statistics that each convolution has on crops of them: its batch norms
normalise by these and restore what they took, so the output is the same in eval mode and nearly so in training. The
heads of deep supervision, which an export has no use for, start anew.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from motes.checkpoints import write_safetensors
from motes.inference.backend import find_weights
from motes.inference.onnx_card import read_onnx_card
from motes.models.motes_seg import Block, MotesSeg
from motes.training.recipe import TransformPart
from motes.training.samples import TrainingSet
from motes.training.selection import empty_frames

CROP, CROPS, BATCH = 256, 96, 16
"""Side of a crop, px; how many the statistics are of; how many run at once."""


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    out, file, frames = Path(sys.argv[1]), find_weights(sys.argv[2]), Path(sys.argv[3]).expanduser()
    card = read_onnx_card(file)
    if card.name != "motes_seg":
        raise SystemExit(f"{file} is {card.name}; only motes_seg has this way back")
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(file).graph.initializer}
    width = len(weights["stem.conv.bias"])
    options = {k: v for k, v in card.options.items() if k != "peak"}
    deployed = MotesSeg(**{"width": width, **options, "form": "deploy"})
    heads = {k: v for k, v in deployed.state_dict().items() if k.startswith("side_heads.")}
    deployed.load_state_dict({k: weights.get(k, heads.get(k)) for k in deployed.state_dict()})
    transform = TransformPart(name="target", crop=CROP, scale=(0.65, 2.2))
    crops = TrainingSet(empty_frames(frames), card.input, transform, seed=1)
    images = torch.from_numpy(np.stack([crops[k, k * len(crops) // CROPS][0] for k in range(CROPS)]))
    net = unmerged(deployed.eval(), images)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(images[:2]), deployed(images[:2]), rtol=0, atol=1e-3)
    card = card.replace(options=options, variant="s" if width == 24 else None, form="train")
    write_safetensors(out, {k: v.numpy() for k, v in net.state_dict().items()}, card)
    return 0


@torch.no_grad()
def unmerged(deployed: MotesSeg, images: Tensor) -> MotesSeg:
    """The training form of a deployed network, its batch norms filled with statistics of ``images`` [N, C, H, W]."""
    net = MotesSeg(**deployed.options)
    blocks = {name: m for name, m in net.named_modules() if isinstance(m, Block)}
    sums: dict[nn.Module, list[Tensor]] = defaultdict(lambda: [torch.zeros(()), torch.zeros(())])

    def watch(block: Block, merged: nn.Conv2d) -> None:
        block.conv.weight.copy_(merged.weight)
        if block.identity is not None:
            nn.init.dirac_(unit := torch.empty_like(merged.weight))
            block.conv.weight.sub_(unit)

        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0]
            y = F.conv2d(x, block.conv.weight, None, merged.stride, merged.padding)
            for norm, values in ((block.norm, y), (block.identity, x)):
                if norm is not None:
                    for k, power in enumerate((values, values.square())):
                        sums[norm][k] = sums[norm][k] + power.mean((0, 2, 3)).double()

        merged.register_forward_pre_hook(see)

    for name, block in blocks.items():
        watch(block, deployed.get_submodule(name).conv)
    batches = images.split(BATCH)
    for batch in batches:
        deployed(batch)
    for name, block in blocks.items():
        for norm in (block.norm, block.identity):
            if norm is not None:
                mean, square = (s / len(batches) for s in sums[norm])
                norm.running_mean.copy_(mean)
                norm.running_var.copy_((square - mean.square()).clamp(min=1e-6))
                norm.weight.copy_((norm.running_var + norm.eps).sqrt())
                norm.bias.copy_(norm.running_mean)
        block.norm.bias.add_(deployed.get_submodule(name).conv.bias)
    own = net.state_dict()
    own |= {k: v for k, v in deployed.state_dict().items() if k.rpartition(".conv.")[0] not in blocks}
    net.load_state_dict(own)
    return net


if __name__ == "__main__":
    sys.exit(main())
