"""The scripts that change weights of motes_seg: wider, with a second input, in the training form, peaks calibrated."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import motes
from motes.checkpoints import load_network, write_safetensors
from motes.data import Sample
from motes.imaging import write_image


@pytest.fixture
def script(request: pytest.FixtureRequest, docs_script: Callable[[str], ModuleType]) -> ModuleType:
    return docs_script(request.param)


@pytest.mark.parametrize("script", ["widen_weights"], indirect=True)
def test_the_wide_network_says_the_same_and_its_copies_differ(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    small = motes.create_model("motes_seg", "s").train()
    for _ in range(3):  # statistics of its own
        small(torch.randn(2, 1, 64, 64))
    write_safetensors(tmp_path / "small.safetensors", small.state_dict(), small.card)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "large.safetensors"), str(tmp_path / "small.safetensors")])
    script.main()
    large, card = load_network(tmp_path / "large.safetensors")
    assert large.options["width"] == 48 and card.variant is None
    images = torch.randn(1, 1, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(large.eval()(images), small.eval()(images), rtol=0, atol=1e-4)
    weight = large.stages[0][0].conv.weight
    assert not torch.allclose(weight[:, :24], weight[:, 24:])


@pytest.mark.parametrize("script", ["contrast_weights"], indirect=True)
def test_the_local_contrast_is_added_to_what_the_network_saw(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = motes.create_model("motes_seg", "s", peak=(3.0, 2.0)).eval()
    files = [tmp_path / "plain.safetensors", tmp_path / "contrast.safetensors"]
    write_safetensors(files[0], plain.state_dict(), plain.card)
    monkeypatch.setattr(sys, "argv", ["", str(files[1]), str(files[0])])
    script.main()
    net, card = load_network(files[1])
    assert net.contrast and card.options["contrast"] and "peak" not in card.options
    images = torch.randn(1, 1, 64, 96)
    plain.peak = None
    with torch.no_grad():
        expected = plain(images + script.SHARE * script.local_contrast(images))
        torch.testing.assert_close(net.eval()(images), expected, rtol=0, atol=1e-4)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "again.safetensors"), str(files[1])])
    with pytest.raises(SystemExit, match="already"):
        script.main()


@pytest.mark.parametrize("script", ["unmerge_weights"], indirect=True)
@pytest.mark.parametrize("contrast", [False, True])
def test_the_training_form_says_what_the_merged_one_does(script: ModuleType, contrast: bool) -> None:
    """In eval mode; and in training mode on the images whose statistics its norms have."""
    torch.manual_seed(0)
    net = motes.create_model("motes_seg", "s", contrast=contrast).train()
    images = torch.randn(4, 1, 64, 64)
    for _ in range(3):
        net(images)
    merged = net.eval().reparameterize()
    again = script.unmerged(merged, images)
    with torch.no_grad():
        expected = merged(images)
        torch.testing.assert_close(again.eval()(images), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(again.train()(images)[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("script", ["calibrate_peaks"], indirect=True)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_scale_of_a_logistic_curve_is_found(script: ModuleType, scale: float) -> None:
    rng = np.random.default_rng(0)
    peaks = rng.uniform(-5, 25, 20_000)
    true = (rng.random(20_000) < 1 / (1 + np.exp(-(peaks - 10) / scale))).astype(float)
    assert script.logistic_scale(peaks, true) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("script", ["calibrate_peaks"], indirect=True)
def test_blobs_are_told_apart_by_the_label(script: ModuleType, tmp_path: Path) -> None:
    """Two blobs, of which one has a target within 3 px; a third below 0.5 is none."""
    probability = np.zeros((40, 60), np.float32)
    probability[10:13, 10:13], probability[11, 11] = 0.9, 0.99
    probability[30:32, 40:42], probability[5, 50] = 0.8, 0.4
    label = np.zeros(probability.shape, bool)
    label[11:14, 10:13] = True
    sample = Sample("a", tmp_path / "a.png", tmp_path / "mask.png")
    write_image(sample.image, np.zeros((40, 60, 1), np.uint8))
    write_image(sample.mask, label)

    class Detector:
        def probability(self, pixels: np.ndarray) -> np.ndarray:
            assert pixels.shape[:2] == (40, 60)
            return probability

    (first, hit), (second, other) = script.blobs(Detector(), [sample])
    assert hit and not other
    assert first == pytest.approx(np.log(99), rel=1e-3) and second == pytest.approx(np.log(4), rel=1e-3)
