"""acm-pytorch's trained networks give its numbers on the real test split, frame by frame."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from motes.checkpoints import load_network
from motes.data import open_dataset
from motes.evaluation import predict, score_samples
from motes.inference import Detector
from motes.metrics import protocol
from motes.models.allocator import keep_freed_memory
from motes.models.backend import TorchBackend

EVERY = 12


def backend(root: Path, host: str) -> TorchBackend:
    keep_freed_memory()
    net, card = load_network(root / "acm" / "weights" / f"acm-pytorch-{host}-asymbi.pth", "acm")
    assert card.variant == f"port-{host}"
    return TorchBackend(net, card)


def expected(root: Path, host: str, side: int) -> dict:
    return json.loads((root / "acm" / "weights" / "expected.json").read_text())["results"][f"{host}/{side}"]


@pytest.mark.parametrize("host", ["unet", "fpn"])
@pytest.mark.parametrize("side", [256, 480, 512])
def test_intersections_and_unions(host: str, side: int, reference_root: Path, sirst_root: Path) -> None:
    detector = Detector(backend=backend(reference_root, host))
    rule = dataclasses.replace(protocol("acm"), resolution=(side, side))
    counts = expected(reference_root, host, side)["per_image_intersection_union"]
    for sample in open_dataset(sirst_root).split("test_v1")[::EVERY]:
        found = predict(detector, sample, rule)
        mask = found.probability > rule.threshold
        overlap = [int((mask & found.label).sum()), int((mask | found.label).sum())]
        assert overlap == counts[sample.name], sample.name


@pytest.mark.slow
@pytest.mark.parametrize("host", ["unet", "fpn"])
def test_whole_split(host: str, reference_root: Path, sirst_root: Path) -> None:
    result = expected(reference_root, host, 512)
    samples = open_dataset(sirst_root).split("test_v1")
    values = score_samples(backend(reference_root, host), samples, "acm").compute(intervals=False)
    assert (values["iou"].numerator, values["iou"].denominator) == (result["intersection"], result["union"])
    assert values["niou"].value == pytest.approx(result["niou"], abs=1e-12)
    assert len(samples) == 86
