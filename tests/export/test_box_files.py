"""Detectors as files: the exported graph answers as the network does, through the command that users type."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from motes.data.synthesize import scene
from motes.errors import MotesError
from motes.export import BoxBounds, export_boxes, export_onnx
from motes.export.parity import synthetic_tiles
from motes.imaging import network_input, write_image


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    """BAFE-Net that says something everywhere: scores of random weights would all be 0.01."""
    torch.manual_seed(0)
    net = motes.create_model("bafenet", variant="small", backbone="resnet18").eval()
    with torch.no_grad():
        for head in (net.bbox_head.conv_cls, net.bbox_head.conv_centerness):
            head.weight.normal_(0, 0.05)
            head.bias.zero_()
    return net


@pytest.fixture(scope="module")
def file(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "bafenet.onnx"
    report = export_onnx(net, net.card, path, synthetic_tiles(net.card, ((96, 128), (64, 64), (64, 64))))
    assert report.passed and sum(row.detections for row in report.rows) > 10
    assert [row.detections for row in report.rows] == [row.detections_of_file for row in report.rows]
    return path


def test_an_export_that_differs_leaves_no_file(net: torch.nn.Module, tmp_path: Path) -> None:
    tiles = synthetic_tiles(net.card, ((64, 64),))
    with pytest.raises(MotesError, match="disagrees with the network: tile 'synthetic 0'"):
        export_boxes(net, net.card, tmp_path / "x.onnx", tiles, BoxBounds(score=-1.0))
    assert not list(tmp_path.iterdir())


def test_detect_with_the_file(net: torch.nn.Module, file: Path, tmp_path: Path, motes: Callable) -> None:
    pixels = scene(75, 110, 3, bits=8).pixels
    write_image(tmp_path / "frame.png", pixels)
    out = tmp_path / "out"
    with torch.inference_mode():
        (expected,) = net(torch.from_numpy(network_input(pixels, net.card.input))[None])
    scores = expected["scores"].numpy()  # best first
    gap = 5 + int(np.argmax(scores[5:20] - scores[6:21]))  # between two that rounding cannot exchange
    limit = float(scores[gap : gap + 2].mean())
    chosen = scores > limit
    code, _, error = motes("detect", tmp_path / "frame.png", "-o", out, "-m", file, "-t", limit, "--no-overlay")
    assert (code, error) == (0, "")
    rows = list(csv.DictReader((out / "targets.csv").open()))
    found = np.array([[float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in rows])
    assert len(found) == chosen.sum() > 0
    order, wanted = np.lexsort(found.T), expected["boxes"].numpy()[chosen]
    np.testing.assert_allclose(found[order], wanted[np.lexsort(wanted.T)], atol=2e-2)
    assert (out / "sky" / "frame.png").is_file() and not (out / "masks").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--save-prob"], "answers with boxes"),
        (["--resize", "512"], "expected height x width"),
        (["--fa", "1"], "no calibration curve"),
    ],
)
def test_bad_input(file: Path, tmp_path: Path, more: list[str], says: str, motes: Callable) -> None:
    write_image(tmp_path / "frame.png", np.zeros((64, 64), np.uint8))
    code, _, error = motes("detect", tmp_path / "frame.png", "-o", tmp_path / "out", "-m", file, *more)
    assert code == 2 and says in error and len(error.strip().splitlines()) == 1
