"""`motes contest gaofen` as installed, and the judge's `run.py`: masks, weights found or not, one line per fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Done, Motes, errors, files

from contest_network import CARD, make_toy_onnx

REPOSITORY = Path(__file__).parents[2]
CASE = REPOSITORY / "tests" / "reference" / "gaofen"
RUN_PY = REPOSITORY / "docker" / "gaofen" / "run.py"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_onnx(tmp_path_factory.mktemp("toy") / "toy.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(CASE / "scene.tif", folder)
    return folder


@pytest.fixture
def entry(tmp_path: Path) -> Callable[..., Done]:
    """``entry(...)``: a copy of run.py in a folder of its own, started there as the judge does."""
    folder = tmp_path / "entry"
    folder.mkdir()
    shutil.copy(RUN_PY, folder)

    def run(*argv: object, weights: Path | None = None, **variables: str) -> Done:
        if weights:
            shutil.copy(weights, folder)
        environment = {k: v for k, v in os.environ.items() if k != "MOTES_WEIGHTS"} | {"COLUMNS": "120"} | variables
        command = [sys.executable, str(folder / "run.py"), *map(str, argv)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def is_the_reference(mask: Path) -> None:
    from motes.imaging import read_image

    with np.load(CASE / "contract.npz") as case:
        decided = np.abs(case["margin"]) >= 1e-4
    assert np.array_equal(read_image(mask).pixels[decided], read_image(CASE / "scene.png").pixels[decided])


def test_the_command(installed: Motes, images: Path, toy: Path, tmp_path: Path) -> None:
    done = installed("contest", "gaofen", images, tmp_path / "out", "--weights", toy)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1 of 1 masks (toy, cpu)")
    assert files(tmp_path / "out").keys() == {"scene.png"}
    is_the_reference(tmp_path / "out" / "scene.png")


def test_run_py_with_weights_beside_it(entry: Callable[..., Done], images: Path, toy: Path, tmp_path: Path) -> None:
    done = entry(images, tmp_path / "out", weights=toy)
    assert (done.code, done.err) == (0, "")
    is_the_reference(tmp_path / "out" / "scene.png")


def test_run_py_takes_weights_from_elsewhere(
    entry: Callable[..., Done], images: Path, toy: Path, tmp_path: Path
) -> None:
    assert entry(images, tmp_path / "a", MOTES_WEIGHTS=str(toy)).code == 0
    assert entry(images, tmp_path / "b", "--weights", toy, MOTES_WEIGHTS="/none").code == 0
    assert files(tmp_path / "a") == files(tmp_path / "b") != {}


def test_run_py_without_arguments_takes_the_judges_folders(entry: Callable[..., Done], toy: Path) -> None:
    if Path("/input_path").exists():
        pytest.skip("this machine has a judge's folder")
    done = entry(weights=toy)
    assert done.code == 2
    assert errors(done) == ["motes: error: /input_path: no such folder, expected a folder of images"]
    assert "/output_path" in entry("--help").out


def test_run_py_without_weights_says_where_they_belong(
    entry: Callable[..., Done], images: Path, tmp_path: Path
) -> None:
    done = entry(images, tmp_path / "out")
    assert done.code == 2
    (line,) = errors(done)
    assert "there is no weight file in this folder" in line and "--weights" in line and "MOTES_WEIGHTS" in line
    assert not (tmp_path / "out").exists()


def test_a_bad_image_is_named_and_the_others_are_done(motes: Motes, images: Path, toy: Path, tmp_path: Path) -> None:
    (images / "cut.tif").write_bytes((images / "scene.tif").read_bytes()[:5000])
    (images / "zero.png").touch()
    done = motes("contest", "gaofen", images, tmp_path / "out", "-w", toy)
    assert done.code == 1
    said = errors(done)
    assert len(said) == 2 and "cut.tif" in said[0] and "zero.png: is empty (0 bytes)" in said[1]
    assert "1 of 3 masks" in done.out
    is_the_reference(tmp_path / "out" / "scene.png")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("gaofn {in} {out} -w {toy}", "unknown contest 'gaofn' (did you mean 'gaofen'?)"),
        ("gaofen {in} {out}", "no weights named (give --weights FILE, or set MOTES_WEIGHTS)"),
        ("gaofen {in} {out} -w {in}/none.onnx", "none.onnx: no such weight file"),
        ("gaofen {in} {out} -w {in}/scene.tif", "scene.tif"),
        ("gaofen {in}/none {out} -w {toy}", "none: no such folder, expected a folder of images"),
        ("gaofen {in} {in} -w {toy}", "is both input and output"),
        ("gaofen {in} {toy} -w {toy}", "toy.onnx: "),
        (
            "gaofen {in} {out} -w {one}",
            "is a network for irstd with 1 classes, the contest takes one for aerial with 2",
        ),
    ],
)
def test_bad_input(motes: Motes, images: Path, toy: Path, tmp_path: Path, command: str, says: str) -> None:
    one = make_toy_onnx(tmp_path / "one.onnx", CARD.replace(task="irstd", classes=("target",)))
    names = {"in": images, "out": tmp_path / "out", "toy": toy, "one": one}
    done = motes("contest", *(word.format(**names) for word in command.split()))
    assert done.code == 2, done.out + done.err
    (line,) = errors(done)
    assert says in line
    assert not (tmp_path / "out").exists()
    assert files(images).keys() == {"scene.tif"}
