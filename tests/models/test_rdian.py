"""RDIAN: its fixed direction kernels, the authors' trained weight, training, free sizes, the exported file."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import motes
from fill import fill_input, fill_state
from motes.checkpoints import load_network, load_published, read_card
from motes.export import export_onnx, synthetic_tiles
from motes.models.rdian import OFFSETS

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "rdian"
KEYS = json.loads((REFERENCE / "keys.json").read_text())


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return load_published(motes.create_model("rdian"), fill_state(KEYS)).eval()


@pytest.fixture(scope="module")
def scene() -> dict[str, np.ndarray]:
    """The authors' answer, with their weight, to a synthetic scene of two targets."""
    return dict(np.load(REFERENCE / "case-trained-scene.npz"))


@pytest.fixture
def weights(reference_root: Path) -> Path:
    file = reference_root / "rdian" / "best.pth"
    if not file.exists():
        pytest.skip(f"no {file}")
    return file


def test_stores_names_and_numbers_of_the_authors(net: nn.Module) -> None:
    assert list(net.state_dict()) == list(KEYS)
    assert sum(p.numel() for p in net.parameters()) == 216_558
    assert sum(net.get_buffer(f"{name}.weight").numel() for name in OFFSETS) == 200


def test_case_with_its_own_directions() -> None:
    stored = np.load(REFERENCE / "case-fixed-64x64.npz")
    net = motes.create_model("rdian").eval()
    kept = {name: net.state_dict()[name] for name in stored["kept"].tolist()}
    load_published(net, fill_state(KEYS) | kept)
    with torch.inference_mode():
        found = net(torch.from_numpy(fill_input(tuple(stored["shape"])))).numpy()
    assert np.abs(found - stored["out0"]).max() < 2e-5 * np.abs(stored["out0"]).max()


def test_a_point_passes_the_mask_and_an_edge_does_not() -> None:
    net = motes.create_model("rdian")
    point, edge = torch.zeros(1, 1, 17, 17), torch.zeros(1, 1, 17, 17)
    point[..., 8, 8], edge[..., 8:] = 1, 1
    four_products_of_one = 1 / (1 + np.exp(-4))
    assert net.point_mask(point)[0, 0, 8, 8].item() == pytest.approx(four_products_of_one)
    assert torch.equal(net.point_mask(edge)[..., 2:-2, 2:-2], torch.full((1, 1, 13, 13), 0.5))
    # Bands of an array that are all the same frame have the frame's directions.
    three = motes.create_model("rdian", in_channels=3)
    assert torch.allclose(three.point_mask(point.repeat(1, 3, 1, 1)), net.point_mask(point))


def test_trained_weight_gives_the_authors_logits(weights: Path, scene: dict[str, np.ndarray]) -> None:
    net, card = load_network(weights)
    assert (card.name, card.variant) == ("rdian", None)
    x = ((scene["image"] / 255 - scene["mean"]) / scene["std"]).astype(np.float32)[None, None]
    with torch.inference_mode():
        found = net(torch.from_numpy(x)).numpy()
    assert np.abs(found - scene["out0"]).max() < 2e-5 * np.abs(scene["out0"]).max()
    expected = np.zeros((96, 96), bool)
    expected[29:32, 39:42] = expected[69:72, 65:68] = True
    assert np.array_equal(found[0, 0] > 0, expected)


def test_trained_weight_through_the_commands(
    weights: Path, scene: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motes.cli.app import main

    def call(*args: object) -> None:
        monkeypatch.setattr(sys, "argv", ["motes", *map(str, args)])
        try:
            main()
        except SystemExit as e:
            assert not e.code

    cv2.imwrite(str(tmp_path / "scene.png"), scene["image"])
    call("convert", weights, "-o", tmp_path / "rdian.safetensors")
    assert read_card(tmp_path / "rdian.safetensors").name == "rdian"
    for model in (weights, tmp_path / "rdian.safetensors"):
        out = tmp_path / f"with-{model.stem}"
        call("detect", tmp_path / "scene.png", "--model", model, "--backend", "torch", "-o", out)
        with (out / "targets.csv").open() as file:
            rows = list(csv.DictReader(file))
        boxes = sorted([float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in rows)
        assert boxes == [[39, 29, 42, 32], [65, 69, 68, 72]]


def test_wrapped_and_prefixed_file(net: nn.Module, tmp_path: Path) -> None:
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "wrapped.pth.tar")
    loaded, card = load_network(tmp_path / "wrapped.pth.tar")
    assert card.name == "rdian"
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_trains_all_but_the_directions() -> None:
    from motes.losses import create_loss

    torch.manual_seed(0)
    net = motes.create_model("rdian").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    target = torch.zeros(2, 1, 32, 40)
    target[0, :, 10:13, 20:23] = 1  # the second frame has none
    optimizer = torch.optim.Adagrad(net.parameters(), lr=0.005, weight_decay=1e-4)
    create_loss("repisdnet.dice")(net(torch.from_numpy(fill_input((2, 1, 32, 40)))), target).backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())
    optimizer.step()
    same = {k for k, v in net.state_dict().items() if torch.equal(v, before[k])}
    assert same == {f"{name}.weight" for name in OFFSETS}


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (37, 41)])
def test_any_size(net: nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, *size)).shape == (1, 1, *size)


def test_a_frame_does_not_depend_on_its_neighbours(net: nn.Module) -> None:
    x = torch.from_numpy(fill_input((2, 1, 33, 47)))
    with torch.inference_mode():
        assert torch.allclose(net(x)[1:], net(x[1:]), atol=1e-5)


def test_export_of_every_size(net: nn.Module, tmp_path: Path) -> None:
    tiles = synthetic_tiles(net.card, ((33, 47), (64, 40), (64, 40)))
    report = export_onnx(net, net.card, tmp_path / "net.onnx", tiles)
    assert report.passed
    assert [r.shape for r in report.rows] == [(1, 1, 33, 47), (2, 1, 64, 40)]
