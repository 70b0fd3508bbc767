"""Ctrl-C in the middle of the work of every command that takes long: exit code 130, one line, whole files only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from command_line import Motes, errors, files, words

from motes.imaging import read_image, read_mask

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the moment of Ctrl-C is set in a fork")

TRAIN = (
    "train repisdnet_sirst data.root={w}/set data.train=null --runs {o} loop.batch_size=2 loop.epochs=5000 "
    "loop.workers=2 transform.crop=32 loop.checkpoint_every=2"
)


@pytest.fixture(scope="module")
def big(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 3000 frames: seconds of work for every command."""
    root = tmp_path_factory.mktemp("big")
    for part in ("images", "masks"):
        (root / part).mkdir()
        for source in sorted((folder / "set" / part).iterdir()):
            first = root / part / f"{source.stem}-0{source.suffix}"
            shutil.copyfile(source, first)
            for i in range(1, 500):
                os.link(first, first.with_name(f"{source.stem}-{i}{source.suffix}"))
    return root


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("detect {big}/images -o {o} -m tophat", 0.8),
        ("score {big}/masks {big}/masks -o {o}", 0.5),
        ("plot roc {big}/masks --gt {big}/masks -o {o}/x.png", 0.5),
        ("data info {big} -o {o}/x.json", 0.3),
        ("data check {big} -o {o}/x.json", 0.3),
        ("data split {big} -o {o}", 0.3),
        ("data synthesize {o} --count 4000 --size 128x128", 0.8),
        (TRAIN, 2.0),
        ("evaluate tophat --data {big} -o {o} --show-dir {o}/show", 0.5),
        ("evaluate {w}/net.safetensors --data {big} -o {o}", 0.6),
        ("convert {w}/net.safetensors -o {o}/x.safetensors", 0.1),
        ("export {w}/net.safetensors -o {o}/x.onnx", 0.2),
        ("bench tophat --size 1024 --runs 10000 -o {o}/x.json", 0.5),
        ("bench repisdnet --size 128 --runs 10000 --backend torch,onnx -o {o}/x.json", 1.0),
    ],
)
def test_ctrl_c(motes: Motes, folder: Path, big: Path, tmp_path: Path, command: str, seconds: float) -> None:
    done = motes(*words(command, w=folder, big=big, o=tmp_path), cwd=tmp_path, interrupt=seconds)
    assert done.code == 130, done.err
    (line,) = errors(done)
    assert "interrupted" in line
    written = [tmp_path / name for name in files(tmp_path)]
    assert not [path for path in written if path.name.startswith(".motes-")]
    assert not [path for path in written if path.name in ("x.json", "x.png", "x.onnx", "x.safetensors", "metrics.json")]
    for path in written:
        if path.parent.name == "masks":
            assert read_mask(path).ndim == 2
        elif path.suffix == ".png":
            assert read_image(path).pixels.ndim == 3


def test_a_training_stopped_by_ctrl_c_goes_on(motes: Motes, folder: Path, tmp_path: Path) -> None:
    command = words(TRAIN.replace("workers=2", "workers=0"), w=folder, o=tmp_path)
    for seconds in (2.0, 6.0, 18.0):  # until it was long enough for this machine to begin
        assert motes(*command, cwd=tmp_path, interrupt=seconds).code == 130
        tables = list(tmp_path.glob("repisdnet_sirst/*/metrics.csv"))
        if tables:
            break
    (table,) = tables
    run = table.parent
    steps = table.read_text(encoding="utf-8").splitlines()[1:]
    again = motes("train", "--resume", run, cwd=tmp_path, interrupt=2.0)
    assert again.code == 130, again.err
    rows = table.read_text(encoding="utf-8").splitlines()[1:]
    assert rows[: len(steps)] == steps  # every step was saved, none is done twice
    assert [row.split(",")[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
