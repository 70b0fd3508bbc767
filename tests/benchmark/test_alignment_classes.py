"""`motes align` for networks of several classes: the target is ids, loss and metrics are those of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from motes.benchmark.alignment import Given, align, save
from motes.benchmark.alignment_targets import as_target
from motes.errors import MotesError


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, np.ndarray]:
    """Logits, ids and what a plain computation makes of them."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 6, 7)).astype(np.float32)
    target = rng.integers(0, 3, (2, 6, 7)).astype(np.uint8)
    target[0, :2] = 255
    guess, valid = logits.argmax(1), target != 255
    ious = [((guess == c) & (target == c)).sum() / (((guess == c) | (target == c)) & valid).sum() for c in range(3)]
    loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(target).long(), ignore_index=255)
    return {
        "logits": logits,
        "target": target,
        "loss": np.array(loss.item()),
        "iou": np.array(ious),
        "miou": np.array(np.mean(ious)),
        "oa": np.array((guess == target)[valid].mean()),
    }


def test_loss_and_metrics_of_stored_logits(stored: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **stored)
    report = align("semantic_fpn", tmp_path / "a.npz")
    assert report.passed, report.rows
    assert {r.name.partition(" ")[0] for r in report.rows} == {"loss", "iou", "miou", "oa"}
    stored["iou"][1] += 0.01
    np.savez(tmp_path / "b.npz", **stored)
    assert [r.name for r in align("semantic_fpn", tmp_path / "b.npz").rows if r.problem] == ["iou from stored logits"]


def test_a_reference_of_factseg_is_what_it_compares_with(tmp_path: Path) -> None:
    file = tmp_path / "ours.npz"
    values = save("factseg", file, Given(loss="factseg.joint", lr=1e-5), steps=1, size=(32, 32), batch=1)
    assert {"out0", "logits1", "logits", "loss", "miou", "iou", "grad_norms", "loss_0", "lr_0"} <= values.keys()
    with np.load(file) as stored:
        assert stored["target"].shape == (1, 32, 32) and stored["target"].dtype == np.int64
    # All ids occur and none is ignored: the mean of the hardest tenth of the pixels.
    nll = -np.take_along_axis(values["logits"], stored_target(file)[:, None], 1)
    assert float(values["loss"]) == pytest.approx(np.sort(nll.ravel())[-102:].mean(), rel=1e-5)
    report = align("factseg", file)
    assert report.passed, [r for r in report.rows if r.problem]


def stored_target(file: Path) -> np.ndarray:
    with np.load(file) as stored:
        return stored["target"]


def test_what_is_a_target() -> None:
    ids = np.array([[[0, 255]]], np.uint8)
    for given in (ids, ids[:, None], ids.astype(np.float32)):
        found = as_target("aerial", given, "x.npy")
        assert found.dtype == np.int64 and np.array_equal(found, ids)
    assert as_target("irstd", ids, "x.npy").shape == (1, 1, 1, 2)
    for given in (ids + 0.5, ids[0], np.zeros((1, 3, 2, 2))):
        with pytest.raises(MotesError, match=r"x.npy: a target of .* expected class ids"):
            as_target("aerial", given, "x.npy")
