"""A deployment folder is enough to infer from: with its description, numpy and ONNX Runtime, and nothing of motes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from motes.cards import Card
from motes.errors import MotesError
from motes.export import synthetic_tiles, with_side, write_deployment
from motes.imaging import network_input
from motes.inference.backend import load_backend
from motes.models import any_size, create_model

SIZES = ((64, 64), (37, 70), (37, 70))


def network(name: str, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model(name, **options).eval()


NETWORKS = {
    "repisdnet": lambda: network("repisdnet"),
    "semantic_fpn": lambda: network("semantic_fpn", num_classes=5, backbone="test_resnet"),
}


def inferred(folder: Path, image: np.ndarray) -> np.ndarray:
    """What someone writes who has read model.yml: [H, W] uint8 ids, or a mask of 0 and 1."""
    said = yaml.safe_load((folder / "model.yml").read_text(encoding="utf-8"))
    steps = {k: v for step in said["preprocessing"] for k, v in step.items()}
    assert said["input"]["channels"] == 3
    assert steps["scale"] == "(counts - low) / (high - low)" and steps["8 bits"]["method"] == "range"
    x = (image.astype(np.float32) / 255 - np.float32(steps["mean"])) / np.float32(steps["std"])
    h, w = x.shape[:2]
    bottom, right = (
        -(-max(n, said["input"]["smallest side"]) // said["input"]["multiple of"]) * said["input"]["multiple of"] - n
        for n in (h, w)
    )
    x = np.pad(x, ((0, bottom), (0, right), (0, 0)), mode="reflect").transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(folder / said["graph"]["file"], providers=["CPUExecutionProvider"])
    (logits,) = session.run([said["output"]["name"]], {said["input"]["name"]: x})
    logits = logits[0, :, :h, :w]
    after = {k: v for step in said["postprocessing"] for k, v in step.items()}
    if "argmax" in after:
        assert len(logits) == len(said["classes"])
        return logits.argmax(0).astype(np.uint8)
    return (1 / (1 + np.exp(-logits[0])) > after["threshold"]).astype(np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_description_is_enough(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name]()
    card: Card = net.card
    report = write_deployment(net, card, tmp_path / "deploy", synthetic_tiles(card, SIZES))
    assert report.passed
    assert sorted(p.name for p in (tmp_path / "deploy").iterdir()) == ["model.onnx", "model.parity.json", "model.yml"]
    image = np.random.default_rng(0).integers(0, 255, (45, 61, 3), dtype=np.uint8)
    with torch.inference_mode():
        logits = any_size(net)(torch.from_numpy(network_input(image, card.input))[None])[0].numpy()
    expected = logits.argmax(0) if len(logits) > 1 else logits[0] > 0
    found = inferred(tmp_path / "deploy", image)
    assert found.shape == (45, 61)
    assert np.mean(found == expected) > 0.999


def test_the_folder_is_a_model(tmp_path: Path) -> None:
    net = NETWORKS["semantic_fpn"]()
    write_deployment(net, net.card, tmp_path, synthetic_tiles(net.card, SIZES[:1]))
    assert load_backend(tmp_path).card.classes == net.card.classes


def test_a_fixed_side(tmp_path: Path) -> None:
    net = NETWORKS["semantic_fpn"]()
    write_deployment(net, net.card, tmp_path / "deploy", side=96)
    said = yaml.safe_load((tmp_path / "deploy" / "model.yml").read_text(encoding="utf-8"))
    assert (said["input"]["height"], said["input"]["width"], said["input"]["batch"]) == (96, 96, "free")
    session = onnxruntime.InferenceSession(tmp_path / "deploy" / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 96, 96]
    assert len(session.run(None, {"image": np.zeros((2, 3, 96, 96), np.float32)})[0]) == 2


@pytest.mark.parametrize("side", [100, 0, 16])
def test_a_side_that_the_network_does_not_take(side: int, tmp_path: Path) -> None:
    card = Card("x", "aerial").replace(input=create_model("semantic_fpn", backbone="test_resnet").card.input)
    with pytest.raises(MotesError, match=f"takes no side of {side} px, expected a multiple of 32, at least 32 px"):
        with_side(card, side)


def test_nothing_is_left_where_the_export_fails(tmp_path: Path) -> None:
    net = NETWORKS["repisdnet"]()
    net.not_exported = "a reason"
    with pytest.raises(MotesError, match="a reason"):
        write_deployment(net, net.card, tmp_path / "deploy")
    assert not (tmp_path / "deploy").exists()
