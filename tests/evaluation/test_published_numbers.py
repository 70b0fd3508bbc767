"""The authors' weights give the authors' numbers on the real test split, in every form and on every runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.checkpoints import load_network
from motes.data import open_dataset
from motes.evaluation import Prediction, predict
from motes.export import export_onnx, synthetic_tiles
from motes.inference import Detector
from motes.inference.onnx_backend import OnnxBackend
from motes.metrics import SegmentationScore
from motes.models.allocator import keep_freed_memory
from motes.models.backend import TorchBackend

FILES = {"train": "mIoU__RepISD_NUAA-SIRST_best.pth.tar", "converted": "converted.pth.tar", "deploy": "deploy.pth.tar"}
FIRST_RELEASE = "Misc_111_pixels0.v1-release.png"


@pytest.mark.parametrize("backend", ["torch train", "torch converted", "torch deploy", "onnx train"])
def test_repisdnet_on_sirst(backend: str, reference_root: Path, sirst_root: Path, tmp_path: Path) -> None:
    keep_freed_memory()
    runtime, form = backend.split()
    net, card = load_network(reference_root / "repisdnet" / "weights" / FILES[form])
    assert card.form == form
    if runtime == "onnx":
        export_onnx(net, card, tmp_path / "net.onnx", synthetic_tiles(card))
        detector = Detector(backend=OnnxBackend(tmp_path / "net.onnx"))
    else:
        detector = Detector(backend=TorchBackend(net, card))
    stored = np.load(reference_root / "repisdnet" / "real" / "masks-test_v1.npz")
    bits = {k: np.unpackbits(stored[k], axis=-1).astype(bool) for k in ("pred_at_0_5", "pred_at_0_9")}
    old, new = SegmentationScore("repisdnet"), SegmentationScore("repisdnet")
    for sample in open_dataset(sirst_root).split("test_v1"):
        found = predict(detector, sample, "repisdnet")
        i = list(stored["names"]).index(sample.name)
        assert np.array_equal(found.probability > 0.5, bits["pred_at_0_5"][i])
        assert np.array_equal(found.probability > 0.9, bits["pred_at_0_9"][i])
        new.update(found.probability, found.label, name=sample.name)
        label = found.label
        if sample.name == "Misc_111":
            label = first_release(detector, found, sirst_root)
        old.update(found.probability, label, name=sample.name)
    before, after = old.compute(intervals=False), new.compute(intervals=False)
    assert (before["iou"].numerator, before["iou"].denominator) == (2877, 3695)
    assert before["niou"].value == pytest.approx(0.7567830370180377, abs=1e-9)
    assert (after["iou"].numerator, after["iou"].denominator) == (2875, 3697)
    assert after["niou"].value == pytest.approx(0.7556430461379647, abs=1e-9)
    for values in (before, after):
        assert (values["pd"].numerator, values["pd"].denominator) == (109, 109)
        assert values["fa"].numerator == 26
        assert values["fa"].value == pytest.approx(4.613122274709302e-06, rel=1e-9)


def first_release(detector: Detector, found: Prediction, root: Path) -> np.ndarray:
    return predict(detector, found.sample, "repisdnet", root / "extras" / FIRST_RELEASE).label


def test_probabilities_of_two_images(reference_root: Path, sirst_root: Path) -> None:
    stored = np.load(reference_root / "repisdnet" / "real" / "prob32-2images.npz")
    net, card = load_network(reference_root / "repisdnet" / "weights" / FILES["train"])
    samples = open_dataset(sirst_root).samples
    detector = Detector(backend=TorchBackend(net, card))
    for name, expected in zip(stored["names"], stored["train"], strict=True):
        found = predict(detector, samples[str(name)], "repisdnet").probability
        assert np.abs(found - expected).max() < 1e-4
