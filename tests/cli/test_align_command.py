"""`motes align` as installed: report and exit codes, one line for bad input, nothing written then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Motes, errors, files, words

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good case with its keys, and files that are none."""
    root = tmp_path_factory.mktemp("given")
    for name in ("keys.json", "case-train-64x64.npz"):
        shutil.copy(REFERENCE / name, root / name)
    with np.load(root / "case-train-64x64.npz") as stored:
        arrays = {k: stored[k] for k in stored.files}
    np.savez(root / "off.npz", **{**arrays, "logits0": arrays["logits0"] + 0.01})
    np.savez(root / "only-shape.npz", shape=arrays["shape"])
    np.savez(root / "grey.npz", **{**arrays, "shape": [1, 1, 64, 64]})
    np.savez(root / "flat.npz", **{**arrays, "shape": [64, 64]})
    np.savez(root / "text.npz", **{**arrays, "out0": np.array("text")})
    np.savez(root / "objects.npz", **{**arrays, "out0": np.array([{}], dtype=object)})
    np.savez(root / "loss.npz", **{**arrays, "loss": 1.0})
    (root / "alone").mkdir()
    shutil.copy(root / "off.npz", root / "alone" / "case.npz")
    (root / "cut.npz").write_bytes((root / "off.npz").read_bytes()[:3000])
    (root / "text.npy").write_text("this is text", encoding="utf-8")
    (root / "empty.npy").touch()
    np.save(root / "values.npy", {"logits": np.ones((1, 1, 8, 8)), "loss": 0.5})
    np.save(root / "bomb.npy", {"out0": np.ones(2), "b": Bomb(root / "executed")})
    (root / "bad.json").write_text("{", encoding="utf-8")
    (root / "other.json").write_text('{"a.weight": [[2, 2], "float32"]}', encoding="utf-8")
    (root / "list.json").write_text('{"a.weight": 3}', encoding="utf-8")
    return root


def test_agrees(motes: Motes, given: Path, tmp_path: Path) -> None:
    done = motes("align", "repisdnet", given / "case-train-64x64.npz", "-o", tmp_path / "report.json")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split("  ")[0] == "tensor"
    assert [line.split()[0] for line in lines[2:4]] == ["out0", "logits0"]
    assert lines[-1] == "repisdnet against case-train-64x64.npz: 2 of 2 tensors agree"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] is True
    assert [r["name"] for r in report["rows"]] == ["out0", "logits0"]


def test_disagrees(motes: Motes, given: Path, tmp_path: Path) -> None:
    done = motes("align", "repisdnet", given / "off.npz", "-o", tmp_path / "report.txt")
    assert done.code == 1
    assert errors(done) == []
    (line,) = [line for line in done.out.splitlines() if line.startswith("logits0")]
    assert line.endswith("FAILED: over the limit")
    assert "1.00e-02" in line  # the difference, in max and mean
    assert "1 of 2 tensors agree" in done.out
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == done.out
    assert motes("align", "repisdnet", given / "off.npz", "--limit", "0.01").code == 0


def test_two_files(motes: Motes, given: Path) -> None:
    assert motes("align", given / "off.npz", given / "off.npz").code == 0
    assert motes("align", given / "case-train-64x64.npz", given / "off.npz").code == 1


def test_saves(motes: Motes, tmp_path: Path) -> None:
    done = motes("align", "repisdnet", "--save", "ours.npz", "--steps", 2, "--size", "16x20", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("ours.npz: ")
    assert files(tmp_path).keys() == {"ours.npz"}
    done = motes("align", "repisdnet", tmp_path / "ours.npz")
    assert done.code == 0, done.out + done.err
    assert {"logits", "loss", "iou", "grad_norms", "loss_1"} <= {
        line.split()[0] for line in done.out.splitlines() if line
    }


CASE = "{w}/case-train-64x64.npz"
BAD = [
    ("align repisdnet", "give either a reference to compare with, or --save FILE"),
    (f"align repisdnet {CASE} --save {{o}}/x.npz", "give either a reference to compare with, or --save FILE"),
    (f"align repisdnt {CASE}", "unknown model 'repisdnt' (did you mean 'repisdnet'?)"),
    ("align repisdnt --save {o}/x.npz", "unknown model 'repisdnt' (did you mean 'repisdnet'?)"),
    (f"align repisdnet {CASE} --variant deplyo", "did you mean 'deploy'?"),
    ("align repisdnet {w}/case-train-64x65.npz", "no such file (did you mean 'case-train-64x64.npz'?)"),
    ("align repisdnet {w}/keys.json", "keys.json: expected a reference, .npz or .npy"),
    ("align repisdnet {w}", "expected a reference, .npz or .npy"),
    ("align repisdnet {w}/cut.npz", "cut.npz: cut short, damaged or no npz file"),
    ("align repisdnet {w}/text.npy", "text.npy: cut short, damaged or no npy file"),
    ("align repisdnet {w}/empty.npy", "empty.npy: is empty"),
    ("align repisdnet {w}/bomb.npy", "nothing was executed"),
    ("align repisdnet {w}/objects.npz", "objects.npz: holds Python objects, expected arrays of numbers"),
    ("align repisdnet {w}/text.npz", "text.npz: 'out0' holds <U4, expected numbers"),
    ("align repisdnet {w}/only-shape.npz", "only-shape.npz: holds nothing to compare with"),
    ("align repisdnet {w}/flat.npz", "flat.npz: shape is [64, 64], expected [images, channels, height, width]"),
    ("align repisdnet {w}/grey.npz", "grey.npz: its input has 1 channels, repisdnet takes 3"),
    ("align repisdnet {w}/loss.npz", "loss.npz: holds 'loss' but no target (give --target FILE.npy)"),
    ("align repisdnet {w}/alone/case.npz", "case.npz: says nothing about the weights"),
    ("align repisdnet {w}/values.npy", "values.npy: holds no input, and no logits with a target"),
    (f"align repisdnet {CASE} --keys {{w}}/bad.json", "bad.json: not JSON"),
    (f"align repisdnet {CASE} --keys {{w}}/list.json", "list.json: expected {{name: [shape, dtype]}}"),
    (f"align repisdnet {CASE} --keys {{w}}/other.json", "not weights of repisdnet"),
    (f"align repisdnet {CASE} --keys {{w}}/keyz.json", "keyz.json: no such file (did you mean 'keys.json'?)"),
    (f"align repisdnet {CASE} --weights {{w}}/nothing.pth", "nothing.pth: no such file"),
    (f"align repisdnet {CASE} --weights {{bad}}/other.pth", "not weights of repisdnet"),
    (f"align repisdnet {CASE} --weights {{bad}}/bomb.pth", "nothing was executed"),
    (f"align repisdnet {CASE} --input {{w}}/nothing.npy", "nothing.npy: no such file"),
    (f"align repisdnet {CASE} --input {{w}}/values.npy", "values.npy: expected one array in an .npy file"),
    (f"align repisdnet {CASE} --rename out0", "--rename 'out0' is not THEIRS=OURS"),
    (f"align repisdnet {CASE} --rename out7=out0", "(did you mean 'out0'?)"),
    (f"align repisdnet {CASE} --recipe repisdnet_sirs", "did you mean 'repisdnet_sirst'?"),
    ("align repisdnet --save {o}/x.npz --loss dise", "unknown loss 'dise' (did you mean 'dice'?)"),
    ("align repisdnet --save {o}/x.pth", "x.pth: cannot write this format"),
    ("align repisdnet --save {o}/x.npz --size big", "--size 'big' is not a size"),
    ("align repisdnet --save {o}/x.npz --size 16 --lr 1e30", "x.npz: not written, loss_"),
    ("align repisdnet --save {file}/x.npz --size 16 --steps 1", "a file"),
    ("align {w}/off.npz {w}/nothing.npz", "nothing.npz: no such file"),
]


@pytest.mark.parametrize(("command", "says"), BAD, ids=[c for c, _ in BAD])
def test_bad_input(motes: Motes, given: Path, folder: Path, tmp_path: Path, command: str, says: str) -> None:
    out = tmp_path / "out"
    done = motes(*words(command, w=given, o=out, bad=folder, file=folder / "a file"), cwd=tmp_path)
    assert done.code == 2, done.out + done.err
    (line,) = errors(done)
    assert says.format() in line
    assert files(tmp_path) == {}
    assert not (given / "executed").exists()


def test_bad_input_from_the_console_script(installed: Motes, given: Path, tmp_path: Path) -> None:
    done = installed("align", "repisdnet", given / "nothing.npz", cwd=tmp_path)
    assert done.code == 2
    (line,) = errors(done)
    assert "no such file" in line


def test_help_has_examples(motes: Motes) -> None:
    assert "motes align repisdnet --save ours.npz" in motes("align", "--help").out
