"""``motes plot``: the files are there, hold what they should, and bad input is one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from motes.cli.app import app
from motes.errors import MissingExtraError, MotesError
from motes.imaging import read_image, write_image
from motes.metrics.plotting import _largest

pytest.importorskip("matplotlib")


def motes(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two methods on three images: a good one and a noisy one."""
    root = tmp_path_factory.mktemp("plots")
    rng = np.random.default_rng(0)
    for k in range(3):
        label = np.zeros((48, 64), np.uint8)
        y, x = rng.integers(4, 40, 2)
        label[y : y + 3, x : x + 3] = 255
        write_image(root / "masks" / f"{k}.png", label)
        good = label * 0.8 + rng.random(label.shape) * 20
        write_image(root / "good" / f"{k}.png", good.astype(np.uint8))
        write_image(root / "poor" / f"{k}_pred.tif", (rng.random(label.shape) * 0.9).astype(np.float32))
        write_image(root / "images" / f"{k}.tif", (good * 3 + 7000).astype(np.uint16))
    return root


@pytest.mark.parametrize("kind", ["roc", "pr"])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_curves(folders, tmp_path, kind, suffix):
    out = tmp_path / f"figure{suffix}"
    result = motes("plot", kind, folders / "good", folders / "poor", "--gt", folders / "masks", "-o", out)
    assert result.exit_code == 0, result.exception
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    if suffix == ".svg":
        text = out.read_text(encoding="utf-8")
        assert ">good" in text.replace("> good", ">good")
        assert ("per megapixel" in text) == (kind == "roc")
        assert (">precision" in text) == (kind == "pr")
    else:
        assert read_image(out).pixels.std() > 5


def test_labels_and_names(folders, tmp_path):
    (tmp_path / "one.txt").write_text("1\n", encoding="utf-8")
    out = tmp_path / "f.svg"
    arguments = ("plot", "pr", folders / "good", "--gt", folders / "masks", "--names", tmp_path / "one.txt", "-o", out)
    assert motes(*arguments, "--label", "my method").exit_code == 0
    assert "my method" in out.read_text(encoding="utf-8")


def test_same_input_same_file(folders, tmp_path):
    for name in ("a.svg", "b.svg"):
        motes("plot", "roc", folders / "good", "--gt", folders / "masks", "-o", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_surface(folders, tmp_path, suffix):
    out = tmp_path / f"surface{suffix}"
    maps = (folders / "images" / "1.tif", folders / "good" / "1.png", folders / "poor" / "1_pred.tif")
    result = motes("plot", "surface", *maps, "--gt", folders / "masks" / "1.png", "-o", out)
    assert result.exit_code == 0, result.exception
    assert out.stat().st_size > 10_000


def test_relief_keeps_single_pixels():
    """A stride of 5 would step over the target; the largest value of each cell does not."""
    plane = np.zeros((33, 47))
    plane[13, 22] = 1
    assert _largest(plane, 5).shape == (7, 10)
    assert _largest(plane, 5)[2, 4] == 1
    assert _largest(plane, 5).sum() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roc", "good", "--gt", "masks", "-o", "x.jpgg"], "unknown figure suffix '.jpgg'"),
        (["roc", "god", "--gt", "masks", "-o", "x.png"], "did you mean 'good'?"),
        (["pr", "good", "--gt", "mask", "-o", "x.png"], "did you mean 'masks'?"),
        (["pr", "good", "poor", "--gt", "masks", "-o", "x.png", "--label", "a"], "got 1 --label for 2 inputs"),
        (["surface", "good/1.png", "other.png", "-o", "x.png"], "different sizes: "),
        (["surface", "good/11.png", "-o", "x.png"], "no such file"),
        (["surface", "good/1.png", "-o", "x.png", "--gt", "other.png"], "expected the same size"),
    ],
)
def test_bad_input(folders, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "poor", "masks"):
        Path(name).symlink_to(folders / name, target_is_directory=True)
    write_image(Path("other.png"), np.eye(5, dtype=np.uint8) * 9)
    result = motes("plot", *arguments)
    assert isinstance(result.exception, MotesError), result.exception
    assert message in str(result.exception)
    assert not Path("x.png").exists()


def test_without_matplotlib(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = motes("plot", "roc", folders / "good", "--gt", folders / "masks", "-o", tmp_path / "x.png")
    assert isinstance(result.exception, MissingExtraError)
    assert "pip install 'motes[plot]'" in str(result.exception)
