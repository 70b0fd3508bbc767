"""`motes smoke` of a detector: from fresh weights to the boxes of its exported file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from motes.benchmark import smoke as chain
from motes.benchmark.smoke import Settings, Step
from motes.benchmark.smoke_boxes import BoxChain, own_backbone, unlike


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_from_fresh_weights_to_boxes(tmp_path: Path) -> None:
    said: list[Step] = []
    settings = Settings(steps=40, seeds=1, backbone="test_resnet")
    done = chain.smoke("fcos", "small", tmp_path, settings, said.append)
    assert said == done
    assert [step.name for step in done] == list(chain.STEPS), str(done[-1])
    assert [step.status for step in done] == ["ok", "ok", "ok", "skipped", "ok", "ok"], done
    assert (tmp_path / "fcos.onnx").is_file()


def test_what_detectors_stand_on() -> None:
    found = {name: own_backbone(name) for name in motes.list_models("detection")}
    assert {k: v for k, v in found.items() if v != "resnet50"}.keys() == {"pvt_t", "ssd", "efficientdet", "motes_det"}


@pytest.mark.parametrize(
    ("name", "asked", "runs"),
    [
        ("fcos", "resnet18", "resnet18"),
        ("fcos", None, None),
        ("pvt_t", "resnet18", None),
        ("pvt_t", "resnet10t", "resnet10t"),
        ("ssd", "resnet18", None),
    ],
)
def test_only_resnet50_makes_place(name: str, asked: str | None, runs: str | None, tmp_path: Path) -> None:
    made = BoxChain(name, "small", tmp_path, Settings(backbone=asked))
    assert (made.backbone, made.options) == (runs, {"backbone": runs} if runs else {})


def test_boxes_without_a_like_are_counted() -> None:
    boxes, scores = np.array([[0, 0, 4, 4], [9, 9, 12, 12]], np.float32), np.array([0.9, 0.2], np.float32)
    assert unlike(boxes, scores, boxes[::-1] + 0.01, scores[::-1]) == 0
    assert unlike(boxes, scores, boxes, scores + 0.1) == 4
    assert unlike(boxes, scores, boxes[:1], scores[:1]) == 1
    assert unlike(boxes, scores, boxes[:0], scores[:0]) == 2
