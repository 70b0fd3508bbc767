"""Latency: what is timed, and for whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from motes.benchmark import measure
from motes.benchmark.bench import bench
from motes.errors import MotesError
from motes.export.forms import deployable
from motes.export.onnx_file import onnx_bytes


def test_median_after_warm_up() -> None:
    import time

    pauses = iter([0.05, 0.05, 0.05, 0.001, 0.03, 0.001, 0.001, 0.001])
    result = measure(lambda _: time.sleep(next(pauses)), np.zeros(1), warmup=3, runs=5)
    assert result.runs == 5
    assert 1 <= result.best <= result.median < 20
    assert result.p90 >= 30


def test_slow_runs_stop_early_but_not_before_three() -> None:
    import time

    assert measure(lambda _: time.sleep(0.02), np.zeros(1), warmup=0, runs=50, seconds=0.01).runs == 3


def test_network_by_name() -> None:
    result = bench("repisdnet", [(32, 40)], ["torch", "onnx"], threads=1, runs=3)
    rows = [(r["backend"], r["form"], r["height"], r["width"]) for r in result["latency"]]
    assert rows == [("torch", "train", 32, 40), ("torch", "deploy", 32, 40), ("onnx", "deploy", 32, 40)]
    assert all(0 < r["best_ms"] <= r["median_ms"] and r["runs"] == 3 for r in result["latency"])
    assert [(c["form"], c["params"]) for c in result["complexity"]] == [("train", 558_530), ("deploy", 279_106)]
    assert result["threads"] == 1
    assert result["machine"]["packages"]["torch"] == torch.__version__.partition("+")[0]


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    bench("repisdnet", [(16, 16)], ["torch"], threads=before + 1, runs=3, variant="deploy")
    assert torch.get_num_threads() == before


def test_onnx_file_and_method(tmp_path: Path) -> None:
    net = motes.create_model("repisdnet", variant="deploy")
    file = tmp_path / "a.onnx"
    file.write_bytes(onnx_bytes(deployable(net), net.card.replace(form="deploy")))
    result = bench(str(file), [(16, 24)], ["onnx"], runs=3)
    assert [(r["backend"], r["form"]) for r in result["latency"]] == [("onnx", "deploy")]
    assert result["complexity"] == []
    assert bench("tophat", [(16, 24)], runs=3)["model"] == "tophat"
    with pytest.raises(MotesError, match="torch does not run"):
        bench(str(file), [(16, 24)], ["torch"], runs=3)


@pytest.mark.parametrize(
    ("target", "backends", "expected"),
    [
        ("repisdet", [], "did you mean 'repisdnet'"),
        ("repisdnet", ["onx"], "did you mean 'onnx'"),
        ("tophat", ["onnx"], "has no backend"),
        ("nowhere/best.pth", [], "no such file"),
        ("nowhere.onnx", [], "no such file"),
    ],
)
def test_bad_input(target: str, backends: list[str], expected: str) -> None:
    with pytest.raises(MotesError, match=expected):
        bench(target, [(16, 16)], backends, runs=3)
