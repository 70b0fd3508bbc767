"""``motes models``, ``convert``, ``export``, ``bench`` as a user calls them: tables, files, one line for bad input."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fill import fill_input, fill_state
from motes.checkpoints import read_card, read_state
from motes.export import synthetic_tiles
from motes.export.parity import Tile

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"


@pytest.fixture
def motes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls the command's entry point: ``motes("models") -> (exit code, stdout, stderr)``."""
    from motes.cli.app import main

    def call(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["motes", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motes.export.synthetic_tiles", lambda card: synthetic_tiles(card, ((32, 32), (37, 51))))
    monkeypatch.setattr(
        "motes.export.conversion.synthetic_tiles", lambda *_: [Tile("small", fill_input((1, 3, 33, 40)))]
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(fill_state(json.loads((REFERENCE / "keys.json").read_text()))))
    return file


def test_models_table(motes) -> None:
    code, out, _ = motes("models")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("repisdnet")]
    assert "0.559 M -> 0.279 M" in line
    assert "11.4 G -> 6.4 G" in line
    assert "IEEE TGRS 2023" in line
    assert "IoU 0.7781" in line


def test_models_of_one_name_and_json(motes) -> None:
    _, out, _ = motes("models", "repisdnet")
    assert "6,402,617,856" in out
    assert "converted, deploy" in out
    assert out.count("repisdnet  0.") + out.count("SIRST") >= 2
    _, out, _ = motes("models", "--json", "rep*")
    (card,) = [c for c in json.loads(out) if c["name"] == "repisdnet"]
    assert card["published"][0]["data"] == "SIRST"


def test_models_of_shipped_weights(motes) -> None:
    from motes.inference import list_weights, read_onnx_card

    card = read_onnx_card(list_weights()["repisdnet-sirst"])
    _, out, _ = motes("models", "repisdnet-sirst")
    assert "measured here" in out
    assert f"{card.measured[0]['iou']:.4f}" in out


def test_models_measured(motes) -> None:
    _, out, _ = motes("models", "repisdnet", "--measure", "--json")
    assert json.loads(out)[0]["complexity"]["deploy"] == {"params": 279_106, "macs_256": 6_402_617_856}


def test_models_needs_no_lab_package() -> None:
    blocker = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors', 'lightning'): sys.modules[name] = None\n"
        "sys.argv = ['motes', 'models', 'repisdnet']\n"
        "from motes.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", blocker], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6,402,617,856" in done.stdout


def test_convert_then_export(motes, weights: Path) -> None:
    merged, onnx = weights.with_name("merged.safetensors"), weights.with_name("net.onnx")
    code, out, err = motes("convert", weights, "--model", "repisdnet", "-o", merged)
    assert (code, err) == (0, "")
    assert "train -> deploy" in out
    assert "558,530 -> 279,106" in out
    assert len(read_state(merged)) == 60

    code, out, err = motes("export", merged, "-o", onnx)
    assert (code, err) == (0, "")
    assert "0 of 2911 mask pixels changed" in out
    report = json.loads(weights.with_name("net.parity.json").read_text())
    assert report["passed"]
    assert [r["shape"] for r in report["rows"]] == [[1, 3, 32, 32], [1, 3, 37, 51]]
    assert read_card(onnx).form == "deploy"
    names = sorted(p.name for p in weights.parent.iterdir())
    assert names == ["merged.safetensors", "net.onnx", "net.parity.json", "weights.pkl"]


def test_bench(motes, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    code, out, _ = motes("bench", "repisdnet", "--size", "16x24", "--backend", "torch,onnx", "--runs", "3", "-o", file)
    assert code == 0
    assert "MACs of the authors' code" in out
    assert [r["backend"] for r in json.loads(file.read_text())["latency"]] == ["torch", "torch", "onnx"]


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def malicious(folder: Path) -> bytes:
    return pickle.dumps({"state_dict": {"w": np.zeros(1), "x": Bomb(folder / "executed")}})


def of_another_network(_: Path) -> bytes:
    return pickle.dumps({f"layer{i}.weight": np.zeros((2, 2)) for i in range(5)})


FILES = {
    "malicious": (malicious, "nothing was executed"),
    "empty": (lambda _: b"", "is empty"),
    "truncated": (lambda _: pickle.dumps({"a": np.zeros(99)})[:300], "cut short or damaged"),
    "page": (lambda _: b"<html>404</html>", "an HTML or XML page"),
    "another": (of_another_network, "not weights of repisdnet"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", ["convert", "export", "bench"])
def test_bad_files(motes, tmp_path: Path, command: str, kind: str) -> None:
    make, expected = FILES[kind]
    file = tmp_path / "bad.pth"
    file.write_bytes(make(tmp_path))
    output = [] if command == "bench" else ["-o", tmp_path / ("out.onnx" if command == "export" else "out.pth")]
    code, out, err = motes(command, file, "--model", "repisdnet", *output)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pth"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["models", "repisdet"], "did you mean 'repisdnet'"),
        (["models", "zzz*"], "no network matches 'zzz*'"),
        (["models", "--task", "irst"], "did you mean 'irstd'"),
        (["convert", "nowhere.pth", "-o", "x.pth"], "no such file"),
        (["convert", "{weights}", "-o", "x.onnx"], "cannot write this format"),
        (["convert", "{weights}", "--form", "deploi", "-o", "x.pth"], "did you mean 'deploy'"),
        (["convert", "{weights}", "--model", "repisdne", "-o", "x.pth"], "did you mean 'repisdnet'"),
        (["export", "{weights}", "-o", "x.pth"], "ends in .onnx"),
        (["export", "{folder}", "-o", "x.onnx"], "is a folder"),
        (
            ["export", "{weights}", "--variant", "deplo", "--model", "repisdnet", "-o", "x.onnx"],
            "did you mean 'deploy'",
        ),
        (["export", "{weights}", "--data", "{folder}/none", "-o", "x.onnx"], "none"),
        (["bench", "repisdet"], "did you mean 'repisdnet'"),
        (["bench", "repisdnet", "--size", "big"], "is not a size"),
        (["bench", "repisdnet", "--backend", "tensorrt"], "unknown backend 'tensorrt'"),
    ],
)
def test_bad_arguments(motes, weights: Path, args: list[str], expected: str) -> None:
    given = [a.format(weights=weights, folder=weights.parent) for a in args]
    given = [str(weights.parent / a) if a.startswith("x.") else a for a in given]
    code, out, err = motes(*given)
    assert (code, out) == (2, "")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert [p.name for p in weights.parent.iterdir()] == ["weights.pkl"]


@pytest.mark.parametrize("command", ["convert", "export"])
def test_full_disk(motes, weights: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    output = weights.with_name("out.onnx" if command == "export" else "out.safetensors")
    code, _, err = motes(command, weights, "-o", output)
    assert code == 2
    assert err == f"motes: error: {output}: No space left on device\n"
    assert [p.name for p in weights.parent.iterdir()] == ["weights.pkl"]


def test_interrupt_leaves_nothing(motes, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("motes.export.onnx_file.compare", interrupted)
    code, _, err = motes("export", weights, "-o", weights.with_name("out.onnx"))
    assert code == 130
    assert len(err.splitlines()) == 1
    assert [p.name for p in weights.parent.iterdir()] == ["weights.pkl"]
