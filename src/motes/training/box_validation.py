"""Boxes of a network in memory, and their score on validation frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from motes.cards import InputSpec
from motes.data import Sample
from motes.data.annotations import read_boxes
from motes.imaging import network_input, read_image, resize
from motes.metrics import BoxScore, box_protocol

Found = dict[str, np.ndarray]


@torch.no_grad()
def find_boxes(
    net: nn.Module, pixels: np.ndarray, spec: InputSpec, size: tuple[int, int] | None = None, device: str = "cpu"
) -> Found:
    """``{"boxes" [N, 4] px of the frame, "scores" [N], "labels" [N], "sky"? [h, w] probabilities}`` of a frame.

    Args:
        net: a detector in eval mode.
        pixels: [H, W, C] counts.
        spec: how they become the network's input.
        size: (h, w) that the frame is squeezed to before; ``sky`` is of that size then.
        device: where the network is.
    """
    given = pixels if size is None else resize(pixels, size, "bilinear")
    images = torch.from_numpy(network_input(given, spec))[None].to(device)
    found = {k: v.float().cpu().numpy() for k, v in net(images)[0].items()}
    ratio = np.array([pixels.shape[1] / given.shape[1], pixels.shape[0] / given.shape[0]] * 2, np.float32)
    return {**found, "boxes": found["boxes"] * ratio, "labels": found["labels"].astype(np.int64)}


def score_boxes(
    net: nn.Module,
    samples: Iterable[Sample],
    spec: InputSpec,
    names: tuple[str, ...],
    protocol: str,
    size: tuple[int, int] | None,
    device: str = "cpu",
) -> BoxScore:
    """The score of the samples, each at the protocol's resolution, or at ``size``, or as it is."""
    rules, score = box_protocol(protocol), BoxScore(protocol, names)
    for sample in samples:
        pixels, truth = read_image(sample.image).pixels, read_boxes(sample, names, rules.reader)
        found = find_boxes(net, pixels, spec, rules.resolution or size, device)
        score.update(
            found["boxes"], found["scores"], found["labels"], truth.boxes, truth.labels, truth.ignored,
            size=(int(pixels.shape[0]), int(pixels.shape[1])), name=sample.name,
        )  # fmt: skip
    return score
