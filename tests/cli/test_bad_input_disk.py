"""A disk that is full in the middle of writing, files that are already there: nothing half-written, nothing lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from command_line import Motes, errors, files, words

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are set in a fork")

TRAIN = (
    "train repisdnet_sirst data.root={w}/set data.train=null --runs {o} loop.batch_size=2 loop.epochs=2 loop.workers=0 "
    "transform.crop=32"
)


@needs_fork
@pytest.mark.parametrize(
    ("command", "limit", "file"),
    [
        ("detect {w}/set/images -o {o} -m tophat", 2000, "overlays/synthetic_00000.png"),
        ("demo -o {o} -m tophat", 2000, "scene.tif"),
        ("demo -o {o} -m tophat", 100_000, "scene.tif"),
        ("score {w}/maps {w}/set/masks -o {o}", 1000, "metrics.json"),
        ("plot roc {w}/maps --gt {w}/set/masks -o {o}/x.png", 1000, "x.png"),
        ("plot surface {w}/maps/synthetic_00000.png -o {o}/x.svg", 1000, "x.svg"),
        ("data synthesize {o} --count 3 --size 64x64", 1000, "images/synthetic_00000.png"),
        (TRAIN, 1000, "recipe.yaml"),
        (TRAIN, 100_000, "best.safetensors"),
        ("evaluate tophat --data {w}/set -o {o}", 1000, "metrics.json"),
        ("convert {w}/net.safetensors -o {o}/x.safetensors", 1000, "x.safetensors"),
        ("convert {w}/net.safetensors -o {o}/x.pth", 1000, "x.pth"),
        ("export {w}/net.safetensors -o {o}/x.onnx", 1000, "x.onnx"),
    ],
)
def test_full_disk(motes: Motes, folder: Path, tmp_path: Path, command: str, limit: int, file: str) -> None:
    done = motes(*words(command, w=folder, o=tmp_path / "out"), cwd=tmp_path, limit=limit)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert str(tmp_path / "out") in line and file in line
    written = files(tmp_path)
    assert not [name for name in written if name.endswith(file) or ".motes-" in name]


@needs_fork
def test_a_full_disk_during_training_leaves_no_half_checkpoint(motes: Motes, folder: Path, tmp_path: Path) -> None:
    # Six frames and one validation: weights of 2.3 MB fit, the checkpoint with the optimiser's state does not.
    done = motes(*words(TRAIN, w=folder, o=tmp_path / "out"), cwd=tmp_path, limit=3_000_000)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert "last.ckpt" in line
    names = {Path(name).name for name in files(tmp_path)}
    assert {"recipe.yaml", "metrics.csv", "best.safetensors"} <= names
    assert not [name for name in names if name.startswith(".motes-") or name == "last.ckpt"]


def test_a_disk_that_is_really_full_and_then_is_not(motes: Motes, folder: Path, tiny_disk: Path) -> None:
    command = words("detect {w}/set/images -o {o} -m tophat", w=folder, o=tiny_disk / "out")
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(24 * 1024))
    done = motes(*command)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert "No space left on device" in line and str(tiny_disk / "out") in line
    finished = files(tiny_disk / "out" / "masks")
    assert not [name for name in files(tiny_disk) if ".motes-" in name]
    with contextlib.suppress(FileNotFoundError):
        filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", tiny_disk], check=True)
    again = motes(*command)
    assert again.code == 0, again.err
    assert len(files(tiny_disk / "out" / "masks")) == 6
    assert files(tiny_disk / "out" / "masks").items() >= finished.items()


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("convert {w}/cut.pth -o {o}/x.safetensors", "x.safetensors"),
        ("convert {w}/other.pth -o {o}/x.pth", "x.pth"),
        ("export {w}/bomb.pth -o {o}/x.onnx", "x.onnx"),
        ("score {w}/empty {w}/set/masks -o {o}", "metrics.json"),
        ("evaluate tophat --data {w}/mixed -o {o}", "metrics.json"),
        ("plot roc {w}/maps --gt {w}/empty -o {o}/x.png", "x.png"),
        ("detect {w}/empty -o {o} -m tophat", "targets.csv"),
        ("demo -o {o} -m topht", "scene.tif"),
        ("bench {w}/cut.pth -o {o}/x.json", "x.json"),
        ("data info {w}/empty -o {o}/x.json", "x.json"),
    ],
)
def test_what_was_there_is_untouched(motes: Motes, folder: Path, tmp_path: Path, command: str, target: str) -> None:
    (tmp_path / target).write_bytes(b"of an earlier run")
    assert motes(*words(command, w=folder, o=tmp_path), cwd=tmp_path).code == 2
    assert files(tmp_path) == {target: b"of an earlier run"}


@pytest.mark.parametrize(
    ("command", "listed", "written"),
    [
        (
            "detect {w}/mixed/images -o {o} -m tophat",
            "  {w}/mixed/images/synthetic_00001.png: is a PNG cut short at 200 bytes",
            ["targets.csv", "masks/synthetic_00000.png", "masks/synthetic_00005.png"],
        ),
        (
            "score {w}/maps {w}/mixed/masks -o {o}",
            "not scored: synthetic_00000: {w}/maps/synthetic_00000.png is 64x80 and its mask synthetic_00000.png 32x32",
            ["metrics.json", "per_image.csv"],
        ),
        ("data check {w}/mixed -o {o}/found.json", "", ["found.json"]),
    ],
)
def test_the_others_are_done(
    motes: Motes, folder: Path, tmp_path: Path, command: str, listed: str, written: list[str]
) -> None:
    done = motes(*words(command, w=folder, o=tmp_path), cwd=tmp_path)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err and "motes: error" not in done.err
    assert sum(line.startswith(listed.format(w=folder)) for line in done.err.splitlines()) == bool(listed), done.err
    found = files(tmp_path)
    assert set(written) <= found.keys()
    assert not [name for name in found if ".motes-" in name]
