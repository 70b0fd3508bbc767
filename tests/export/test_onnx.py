"""The ONNX file: same numbers as torch at every size, same bytes every time, nothing left when it disagrees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import motes
from fill import fill_input, fill_state
from motes.checkpoints import load_network, load_published, read_card
from motes.errors import MotesError
from motes.export import Bounds, export_onnx, frames_of, synthetic_tiles
from motes.export.parity import Tile, compare, probabilities
from motes.inference import OnnxBackend

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"
SMALL = ((32, 32), (37, 51))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    return load_published(motes.create_model("repisdnet"), state).eval()


@pytest.fixture(scope="module")
def exported(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "filled.onnx"
    export_onnx(net, net.card, file, synthetic_tiles(net.card, SMALL))
    return file


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 50, 70), (2, 61, 83), (1, 4, 5), (3, 32, 9)])
def test_every_size_and_batch(net: nn.Module, exported: Path, shape: tuple[int, int, int]) -> None:
    x = fill_input((shape[0], 3, *shape[1:]))
    with torch.inference_mode():
        expected = net(torch.from_numpy(x)).numpy()
    found = OnnxBackend(exported).run(x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 3e-5


def test_published_case(exported: Path) -> None:
    stored = np.load(REFERENCE / "case-train-50x70.npz")["logits0"]
    assert np.abs(OnnxBackend(exported).run(fill_input((1, 3, 50, 70)))[:, 0] - stored[:, 1]).max() < 3e-5


def test_file_is_small_and_holds_its_card(net: nn.Module, exported: Path) -> None:
    import onnx

    assert exported.stat().st_size < 1.25e6
    card = read_card(exported)
    assert (card.name, card.variant, card.form) == ("repisdnet", "deploy", "deploy")
    assert card.input == net.card.input
    graph = onnx.load(exported).graph
    names = ([i.name for i in graph.input], [o.name for o in graph.output])
    assert names == (["image"], ["logits"])
    dims = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]
    assert {n.op_type for n in graph.node}.isdisjoint({"BatchNormalization", "GatherND", "Loop", "If"})
    assert str(Path.cwd()).encode() not in exported.read_bytes()


def test_network_is_not_changed(tmp_path: Path) -> None:
    net = motes.create_model("repisdnet").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    export_onnx(net, net.card, tmp_path / "a.onnx", synthetic_tiles(net.card, SMALL[:1]))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_same_bytes_every_time(net: nn.Module, exported: Path, tmp_path: Path) -> None:
    export_onnx(net, net.card, tmp_path / "again.onnx", synthetic_tiles(net.card, SMALL[:1]))
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("bounds", [Bounds(logit=0, relative=0), Bounds(probability=0)])
def test_disagreement_leaves_no_file(net: nn.Module, tmp_path: Path, bounds: Bounds) -> None:
    with pytest.raises(MotesError, match=r"bad.onnx: not written, ONNX Runtime disagrees.*tile 'synthetic") as error:
        export_onnx(net, net.card, tmp_path / "bad.onnx", synthetic_tiles(net.card, SMALL), bounds)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


class Fixed:
    """Gives the same logits whatever it is asked."""

    def __init__(self, *logits: float, channels: int = 1) -> None:
        self.logits = np.array(logits, np.float32).reshape(1, channels, 1, -1)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.logits


TILE = [Tile("t", np.zeros((1, 1, 1, 4), np.float32))]


def test_report_counts() -> None:
    report = compare(Fixed(-1, 0.001, 5, 9), Fixed(-1, -0.001, 5, 9.5), TILE, Bounds(), exact=Fixed(-1, 0.001, 5, 9.1))
    (row,) = report.rows
    assert (row.positive, row.changed, row.pixels, row.largest_logit) == (3, 1, 4, 9)
    assert row.logit == pytest.approx(0.5)
    assert row.reference_error == pytest.approx(0.1, abs=1e-6)
    assert row.file_error == pytest.approx(0.4, abs=1e-6)
    assert not report.passed
    assert json.loads(json.dumps(report.to_dict()))["changed"] == 1
    assert "logits differ by up to 0.5 of 9" in report.worst()


@pytest.mark.parametrize(
    ("expected", "found", "passed"),
    [
        ((2.0, 3.0), (2.0, 3.0), True),
        ((2.0, 3.0), (2.00005, 3.0), True),
        ((2.0, 3.0), (2.001, 3.0), False),
        ((2.0, 3.0), (float("nan"), 3.0), False),
        ((2.0, 3.0), (float("inf"), 3.0), False),
        ((900.0, -900.0), (900.02, -900.0), True),
        ((0.00001, 5.0), (-0.00001, 5.0), True),  # one pixel of the mask may cross the threshold
        ((0.00001, 0.00001), (-0.00001, -0.00001), False),
    ],
)
def test_what_passes(expected: tuple[float, ...], found: tuple[float, ...], passed: bool) -> None:
    assert compare(Fixed(*expected), Fixed(*found), TILE, Bounds()).passed is passed


def test_no_tile_is_no_proof() -> None:
    assert not compare(Fixed(1), Fixed(1), [], Bounds()).passed


def test_several_classes_use_softmax() -> None:
    z = np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 3, 1, 1)
    assert probabilities(z).sum() == pytest.approx(1)
    same = compare(Fixed(1, 2, 3, channels=3), Fixed(1, 2, 3, channels=3), TILE, Bounds())
    assert same.passed
    assert same.rows[0].pixels == 1


def test_synthetic_tiles_fit_the_card(net: nn.Module) -> None:
    import dataclasses

    card = net.card.replace(input=dataclasses.replace(net.card.input, stride=32, min_size=64))
    tiles = synthetic_tiles(card, ((50, 70), (96, 96), (96, 96)))
    assert [t.batch.shape for t in tiles] == [(1, 3, 64, 96), (2, 3, 96, 96)]
    assert [t.name for t in tiles] == ["synthetic 0", "synthetic 1-2"]


def test_authors_weights_on_real_frames(reference_root: Path, sirst_root: Path, tmp_path: Path) -> None:
    net, card = load_network(reference_root / "repisdnet" / "weights" / "mIoU__RepISD_NUAA-SIRST_best.pth.tar")
    assert [t.batch.shape[:2] for t in frames_of(card, sirst_root, "test_v1", 3)] == [(1, 3)] * 3
    tiles = frames_of(card, sirst_root, "test_v1", 1)
    report = export_onnx(net, card, tmp_path / "a.onnx", tiles)
    assert report.passed
    assert report.changed == 0
    assert all(r.positive > 0 and r.probability < 1e-4 for r in report.rows)
    assert report.facts["source_sha256"] == card.source_sha256
