"""A deployment folder: the graph with its weights, and in words and numbers what is done before and after it.

``model.onnx`` alone is enough for motes, since it carries its card. ``model.yml`` says the same to whoever writes the
inference in another language, and is meant to be read: no field of it is read back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import yaml
from torch import nn

from motes.cards import BoxSpec, Card, Scaling
from motes.errors import MotesError
from motes.export.boxes import BoxParity
from motes.export.onnx_file import OPSET, export_onnx
from motes.export.parity import ParityReport, Tile, synthetic_tiles
from motes.imaging import atomic_path
from motes.inference.box_detector import EDGE, SKY
from motes.inference.box_selection import VOTE_OVERLAP, VOTE_SPREAD

GRAPH, DESCRIPTION, PARITY = "model.onnx", "model.yml", "model.parity.json"
IGNORE = 255


def write_deployment(
    net: nn.Module, card: Card, folder: str | Path, tiles: Iterable[Tile] | None = None, side: int | None = None
) -> ParityReport | BoxParity:
    """Writes ``folder``/model.onnx, model.yml and model.parity.json.

    Args:
        net, card: as for ``export_onnx``.
        folder: made where it is missing; files of these names in it are replaced.
        tiles: what the graph and the network are compared on.
        side: height and width of the graph's input in px; None: free.

    Raises:
        MotesError: the two disagree, the network is not exported, or it does not take this side.
    """
    folder = Path(folder)
    if side is not None:
        card = with_side(card, side)
        tiles = synthetic_tiles(card, ((side, side),)) if tiles is None else tiles
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = export_onnx(net, card, folder / GRAPH, tiles)
    except Exception:
        if new and not any(folder.iterdir()):
            folder.rmdir()
        raise
    with atomic_path(folder / PARITY) as temporary:
        temporary.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    with atomic_path(folder / DESCRIPTION) as temporary:
        text = yaml.safe_dump(
            description(card, report.facts, outputs_of(folder / GRAPH)), sort_keys=False, allow_unicode=True, width=110
        )
        temporary.write_text(text, encoding="utf-8")
    return report


def with_side(card: Card, side: int) -> Card:
    """``card`` for a graph that takes frames of ``side`` x ``side`` px alone; larger ones go through it in tiles."""
    spec = card.input
    if side % spec.stride or side < spec.min_size or side > (spec.max_size or side):
        limits = f"at least {spec.min_size} px" + (f", at most {spec.max_size} px" if spec.max_size else "")
        raise MotesError(f"{card.name} takes no side of {side} px, expected a multiple of {spec.stride}, {limits}")
    return card.replace(input=dataclasses.replace(spec, min_size=side, max_size=side, tile=side))


def description(card: Card, facts: dict[str, Any], outputs: Sequence[str] = ("logits",)) -> dict[str, Any]:
    """What ``model.yml`` holds: plain values only. ``outputs``: the graph's, by name."""
    spec = card.input
    if card.task == "detection":
        after_graph = {
            "outputs": outputs_of_boxes(outputs),
            "postprocessing": selection(card.boxes, card.threshold, outputs),
        }
    else:
        after_graph = {
            "output": {
                "name": "logits",
                "type": "float32",
                "layout": "batch, classes, height, width: the size of the input",
                "channels": len(card.classes),
            },
            "postprocessing": postprocessing(card, len(card.classes) > 1),
        }
    return {
        "network": card.name,
        "title": card.title,
        "task": card.task,
        "variant": card.variant,
        "form": card.form,
        "options": dict(card.options),
        "graph": {"file": GRAPH, "format": f"ONNX, opset {OPSET}", "sha256": facts["sha256"], "bytes": facts["bytes"]},
        "classes": dict(enumerate(card.classes)),
        "input": {
            "name": "image",
            "type": "float32",
            "layout": "batch, channels, height, width",
            "channels": spec.channels,
            "order": "red, green, blue" if spec.channels == 3 else "as in the file",
            **size_policy(card),
        },
        "preprocessing": preprocessing(card),
        **after_graph,
        "training": {k: v for k, v in card.training.items() if k != "frames"},
        "written by": f"motes {metadata.version('motes')}",
    }


def outputs_of(file: Path) -> list[str]:
    """Names of what a graph gives, in order."""
    return [output.name for output in onnx.load(file).graph.output]


def size_policy(card: Card) -> dict[str, Any]:
    spec = card.input
    parts = "their probabilities blended"
    if card.task == "detection":
        parts = f"boxes that a border between windows cuts (within {EDGE:g} px of it) taken from the neighbour"
    fixed = spec.max_size is not None and spec.min_size == spec.max_size
    return {
        "batch": "free",
        "height": spec.min_size if fixed else "free",
        "width": spec.min_size if fixed else "free",
        "multiple of": spec.stride,
        "smallest side": spec.min_size,
        "largest side": spec.max_size,
        "larger images": f"in overlapping windows of {spec.tile} x {spec.tile} px, {parts}",
    }


def preprocessing(card: Card) -> list[dict[str, Any]]:
    """The steps from a file to the graph's input, in order."""
    spec = card.input
    pad = (
        "mirror to the right and below, to a multiple of {} and at least {} px; repeat the edge where the image is too "
    )
    pad += "small to mirror"
    if card.task == "detection":
        pad = "zeros to the right and below, to a multiple of {} and at least {} px"
    return [
        {"read": "counts as stored, 8 or 16 bits, no tone mapping; one band is repeated to all channels"},
        {"scale": "(counts - low) / (high - low)", "8 bits": limits(spec.scaling), "deeper": limits(spec.scaling_deep)},
        {
            "normalise": "(x - mean) / std, per channel",
            "mean": list(spec.mean) * (spec.channels if len(spec.mean) == 1 else 1),
            "std": list(spec.std) * (spec.channels if len(spec.std) == 1 else 1),
        },
        {"pad": pad.format(spec.stride, spec.min_size)},
    ]


def limits(scaling: Scaling) -> dict[str, Any]:
    """What ``low`` and ``high`` are, see ``motes.cards.Scaling``."""
    low, high = scaling.low, scaling.high
    meaning = {
        "range": "low and high: 0 and the largest count of the type (0 and 1 for floats)",
        "bits": f"low and high: 0 and 2^{scaling.bits} - 1",
        "fixed": f"low and high: {low} and {high} counts",
        "minmax": "low and high: the image's smallest and largest count",
        "maximum": "low and high: 0 and the image's largest count",
        "percentile": f"low and high: the {low}th and {high}th percentile of the image",
        "robust": f"low: median - {low} s, high: median + {high} s, with s = (84th - 16th percentile) / 2 of the image",
    }[scaling.method]
    return {"method": scaling.method, "meaning": meaning, "limited to 0 and 1": scaling.clip}


def postprocessing(card: Card, several: bool) -> list[dict[str, Any]]:
    """The steps from the graph's output to what is written, in order."""
    steps: list[dict[str, Any]] = [{"crop": "to the size before padding"}]
    if several:
        steps += [
            {"softmax": "over classes: probabilities (for a class map alone it may be left out)"},
            {"argmax": "over classes, the lowest id where several are equal: a class map of 8 bits, the image's size"},
            {"ids": "as under classes; written unchanged", "never predicted": IGNORE},
        ]
    else:
        steps += [
            {"sigmoid": "probability of a target"},
            {"threshold": card.threshold, "mask": "probability > threshold"},
        ]
    return steps


CANDIDATES = {
    "boxes": (
        "float32",
        "batch, candidates, 4: left, top, right, bottom in px of the input, right and bottom exclusive",
    ),
    "scores": ("float32", "batch, candidates, classes: between 0 and 1"),
    "factors": ("float32", "batch, candidates: multiplies a score that is above the least score"),
    "levels": ("int64", "levels: how many candidates each has, in order"),
    "sky": ("float32", "batch, 1, height, width of the input: logits"),
}
"""Name -> type and layout of what a detector's graph gives."""


def outputs_of_boxes(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": name, "type": CANDIDATES[name][0], "layout": CANDIDATES[name][1]} for name in names]


def selection(spec: BoxSpec, threshold: float, outputs: Sequence[str]) -> list[dict[str, Any]]:
    """The steps from candidates to targets, in order."""
    steps: list[dict[str, Any]] = [
        {"clip": "boxes to the size before padding"},
        {"least score": spec.score, "keep": "each level's pairs of candidate and class whose score is larger"},
        {"per level": spec.per_level, "keep best": "of each level at most so many pairs, by score"},
    ]
    if "factors" in outputs:
        steps.append({"multiply": "scores by factors"})
    steps.append({"drop": "boxes without width or height"})
    if spec.nms is not None:
        steps.append(
            {"overlap": spec.nms, "suppress": "of two boxes of a class whose IoU is larger the lower score goes"}
        )
    steps.append({"at most": spec.keep, "of an image": "the best by score"})
    if spec.vote:
        steps.append(
            {
                "vote": "each box becomes the mean of the candidates of its class above the least score whose IoU with "
                f"it is more than {VOTE_OVERLAP:g}, weighted by score x exp(-(1 - IoU)^2 / {VOTE_SPREAD:g})"
            }
        )
    steps.append({"threshold": threshold, "targets": "score > threshold"})
    if "sky" in outputs:
        steps.append(
            {"sky": f"sigmoid of its logits, cropped to the size before padding; sky where it is above {SKY:g}"}
        )
    return steps
