"""Detectors: what they cost here, and what published tables print of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import motes
from motes.benchmark import complexity, published_cost
from motes.benchmark.bench import bench
from motes.benchmark.published_cost import cost_rows, published_costs
from motes.errors import MotesError

REFERENCE = Path(__file__).resolve().parents[1] / "reference"

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "project")

SHARED = r"_branches\.[1-9]"
"""Heads that are stored once a layer and are one module."""


OTHERS = [name for name in motes.list_models("detection") if name != "motes_det"]
"""Detectors of which something is published."""


@pytest.mark.parametrize("name", OTHERS)
def test_cards_hold_the_count_of_the_published_state(name: str) -> None:
    rows = cost_rows(name)
    assert rows
    for row in rows:
        file = REFERENCE / name / (f"keys-{row['variant']}.json" if "variant" in row else "keys.json")
        if not file.exists():
            pytest.skip(f"{file} is not copied")
        keys = json.loads(file.read_text())
        shapes = [
            shape
            for key, (shape, _) in keys.items()
            if key.rpartition(".")[2] not in BUFFERS and not re.search(SHARED, key)
        ]
        assert row["params"] == sum(torch.Size(s).numel() for s in shapes)


@pytest.mark.parametrize(
    ("name", "unused", "macs"),
    [
        # GFLOPs as the table prints them, less what norms and resizing add to it: never more, and by less than 1 %.
        ("ssd", 0, 87.552e9),
        ("bafenet", 850_339, 71.639e9),
        ("faster_rcnn", 0, 759e9),
        ("vfnet", 0, 48.317e9),
    ],
)
def test_published_cost(name: str, unused: int, macs: float) -> None:
    row = published_costs(name)[0]
    assert row["counted_params"] == row["published_params"] == row["params"] + unused
    assert row["published_macs"] == macs
    assert row["counted_macs"] == pytest.approx(macs, rel=1e-2)
    assert row["counted_macs"] <= macs
    assert row["macs"] > row["counted_macs"] if name == "vfnet" else row["macs"] == row["counted_macs"]


def test_both_versions_of_bafenet() -> None:
    assert [r["variant"] for r in published_costs("bafenet")] == [None, "v1"]


def test_frozen_parameters_are_counted_as_parameters() -> None:
    (row,) = published_costs("fcos")
    assert row["frozen_params"] == 53_120  # the affine terms of ResNet-50's norms, no stage
    assert row["params"] == 32_113_227


def test_all_are_counted_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_cost, "counted", lambda name, row: {"model": name, **row})
    calls: list[int] = []
    rows = published_costs(advance=lambda: calls.append(1))
    assert {r["model"] for r in rows} == set(OTHERS)
    assert (len(rows), len(calls)) == (26, 25)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("repisdnet", "nothing is published of what repisdnet costs"),
        ("motes_det", "nothing is published of what motes_det costs"),
        ("fcoss", "did you mean 'fcos'"),
    ],
)
def test_no_published_cost(name: str, expected: str) -> None:
    with pytest.raises(MotesError, match=expected):
        published_costs(name)


@pytest.fixture
def small_fcos(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[..., torch.nn.Module] = motes.create_model
    monkeypatch.setattr("motes.benchmark.bench.create_model", lambda n, v: make(n, v, backbone="test_resnet"))


@pytest.mark.usefixtures("small_fcos")
def test_candidates_are_timed_on_padded_frames() -> None:
    result = bench("fcos", [(40, 64)], ["torch", "onnx"], threads=1, runs=3)
    rows = [(r["backend"], r["form"], r["height"], r["width"]) for r in result["latency"]]
    assert rows == [("torch", "train", 40, 64), ("onnx", "train", 40, 64)]
    assert all(r["best_ms"] > 0 for r in result["latency"])
    assert result["task"] == "detection"
    (cost,) = result["complexity"]
    net = motes.create_model("fcos", backbone="test_resnet")
    assert (cost["height"], cost["macs"]) == (40, complexity(net, 64, 64).macs)


def test_the_command(monkeypatch: pytest.MonkeyPatch, small_fcos: None, capsys: pytest.CaptureFixture[str]) -> None:
    from motes.cli.app import main

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["motes", "bench", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    code, out, err = call("fcos", "--size", "32", "--backend", "torch", "--runs", "3")
    assert (code, err) == (0, "")
    assert "not the choice among the candidates" in out

    code, out, err = call("ssd", "--published")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("ssd")]
    assert line.split()[1:6] == ["23,745,908", "23,745,908", "yes", "23,745,908", "0"]
    assert line.split()[6] == "87.552"
    code, out, _ = call("ssd", "--published", "--json")
    assert json.loads(out)[0]["published_params"] == 23_745_908

    code, _, err = call()
    assert code == 2
    assert "nothing to measure" in err
    assert call("repisdnet", "--published")[0] == 2


@pytest.mark.parametrize(
    "options", [["--size", "256"], ["--backend", "torch"], ["--threads", "1"], ["--runs", "3"], ["--variant", "small"]]
)
def test_what_published_counts_do_not_take(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from motes.cli.app import main

    monkeypatch.setattr("sys.argv", ["motes", "bench", "fcos", "--published", *options])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"motes: error: {options[0]} and --published do not go together")


@pytest.mark.parametrize("name", motes.list_models("detection"))
def test_cards_tell_the_cost_of_every_variant(name: str) -> None:
    card = motes.model_card(name)
    assert list(card.complexity) == ["train", *card.variants]
    for row in card.complexity.values():
        assert row["params"] > 1e6 and any(row.get(f"macs_{side}", 0) > 1e9 for side in (256, 512))


def test_models_prints_the_cost_of_what_takes_no_small_frame(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from motes.cli.app import main

    def call(*args: str) -> str:
        monkeypatch.setattr("sys.argv", ["motes", "models", *args])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    lines = call("ssd").splitlines()
    assert "form parameters MACs 256x256 MACs 512x512" in [" ".join(line.split()) for line in lines]
    assert any(re.fullmatch(r"train +23,745,908 +- +87,551,959,040", line) for line in lines)
    assert any(re.fullmatch(r"small +22,480,300 +22,123,642,880 +-", line) for line in lines)
    (row,) = [line for line in call("--task", "detection").splitlines() if line.startswith("ssd ")]
    assert "23.7 M" in row and "87.6 G at 512" in row
