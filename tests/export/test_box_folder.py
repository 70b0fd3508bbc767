"""A detector's deployment folder is enough to infer from: with its description, numpy and ONNX Runtime alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

import motes
from motes.checkpoints import write_state
from motes.export import synthetic_tiles, write_deployment
from motes.export.deployment import description
from motes.imaging import network_input

FACTS = {"sha256": "", "bytes": 0}


def lively(name: str) -> torch.nn.Module:
    """A small network that says something everywhere: scores of random weights would all be 0.01."""
    torch.manual_seed(0)
    net = motes.create_model(name, backbone="test_resnet").eval()
    with torch.no_grad():
        for key, parameter in net.bbox_head.named_parameters():
            if key.endswith(("_cls.weight", "centerness.weight")):
                parameter.normal_(0, 0.05)
            if key.endswith("_cls.bias"):
                parameter.zero_()
    return net


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def inferred(folder: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What someone writes who has read model.yml, for one class: boxes [N, 4], scores [N], sky [H, W] or None."""
    said = yaml.safe_load((folder / "model.yml").read_text(encoding="utf-8"))
    steps: dict[str, Any] = {k: v for step in said["preprocessing"] for k, v in step.items()}
    x = (image.astype(np.float32) / 255 - np.float32(steps["mean"])) / np.float32(steps["std"])
    h, w = x.shape[:2]
    stride = said["input"]["multiple of"]
    assert steps["pad"].startswith("zeros")
    x = np.pad(x, ((0, -h % stride), (0, -w % stride), (0, 0))).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(folder / said["graph"]["file"], providers=["CPUExecutionProvider"])
    names = [output["name"] for output in said["outputs"]]
    given = dict(zip(names, session.run(names, {said["input"]["name"]: x}), strict=True))
    after: dict[str, Any] = {k: v for step in said["postprocessing"] for k, v in step.items()}

    boxes = np.clip(given["boxes"][0], 0, [w, h, w, h])
    chosen, start = [], 0
    for count in given["levels"]:
        level = given["scores"][0, start : start + count, 0]
        order = np.argsort(-level)[: after["per level"]]
        chosen += [start + i for i in order if level[i] > after["least score"]]
        start += count
    boxes, scores = boxes[chosen], given["scores"][0, chosen, 0]
    if "multiply" in after:
        scores = scores * given["factors"][0, chosen]
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores = boxes[real], scores[real]
    everything = boxes, scores
    order = list(np.argsort(-scores))
    kept: list[int] = []
    while order and len(kept) < after["at most"]:
        kept.append(order.pop(0))
        order = [i for i in order if overlaps(boxes[kept[-1]], boxes[[i]])[0] <= after["overlap"]]
    boxes, scores = boxes[kept], scores[kept]
    if "vote" in after:
        assert "more than 0.01" in after["vote"] and "/ 0.025" in after["vote"]
        for i, box in enumerate(boxes.copy()):
            near = overlaps(box, everything[0])
            weight = np.exp(-((1 - near) ** 2) / 0.025) * everything[1] * (near > 0.01)
            boxes[i] = (weight * (everything[1] > after["least score"])) @ everything[0] / weight.sum()
    sky = 1 / (1 + np.exp(-given["sky"][0, 0, :h, :w])) if "sky" in after else None
    return boxes, scores, sky


@pytest.mark.parametrize("name", ["bafenet", "paa"])
def test_the_description_is_enough(name: str, tmp_path: Path) -> None:
    net = lively(name)
    assert write_deployment(net, net.card, tmp_path / "deploy", synthetic_tiles(net.card, ((64, 96),))).passed
    image = np.random.default_rng(0).integers(0, 255, (45, 61, 3), dtype=np.uint8)
    with torch.inference_mode():
        (expected,) = net(torch.from_numpy(network_input(image, net.card.input))[None])
    boxes, scores, sky = inferred(tmp_path / "deploy", image)
    assert len(scores) == len(expected["scores"]) > 5
    np.testing.assert_allclose(scores, expected["scores"], atol=1e-4)
    order, wanted = np.lexsort(boxes.round(1).T), np.lexsort(expected["boxes"].numpy().round(1).T)
    np.testing.assert_allclose(boxes[order], expected["boxes"].numpy()[wanted], atol=0.15)
    assert (sky is None) == (name == "paa")
    if sky is not None:
        np.testing.assert_allclose(sky, expected["sky"], atol=1e-4)


def test_settings_of_boxes_are_said() -> None:
    card = motes.model_card("detr")
    said = description(card, FACTS, ["boxes", "scores", "levels"])
    assert [output["name"] for output in said["outputs"]] == ["boxes", "scores", "levels"]
    assert "output" not in said
    steps = [key for step in said["postprocessing"] for key in step]
    assert not {"overlap", "multiply", "vote", "sky"} & set(steps)
    assert {"least score": 0.0, "keep": "each level's pairs of candidate and class whose score is larger"} in said[
        "postprocessing"
    ]
    assert said["postprocessing"][-1]["threshold"] == card.threshold


def test_the_command_prints_what_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from motes.cli.app import main

    monkeypatch.setattr("motes.export.boxes.SIZES", ((64, 64),))
    net = lively("fcos")
    write_state(tmp_path / "w.safetensors", {k: v.numpy() for k, v in net.state_dict().items()}, card=net.card)
    given, made = tmp_path / "w.safetensors", tmp_path / "x.onnx"
    monkeypatch.setattr(sys, "argv", ["motes", "export", str(given), "-o", str(made)])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code or 0, err) == (0, "")
    title, _, row, *_ = out.splitlines()
    assert title.split()[:4] == ["tile", "shape", "candidates", "score"]
    assert row.split()[:4] == ["synthetic", "0", "1x3x64x64", str(64 + 16 + 4 + 1 + 1)]
    assert "0 of 86 candidates differ" in out
    assert json.loads((tmp_path / "x.parity.json").read_text())["rows"][0]["candidates"] == 86
