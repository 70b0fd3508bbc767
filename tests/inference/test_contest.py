"""The GaoFen contest: the reference case, sizes and kinds of images, names, and what stops it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from contest_network import CARD, ToyBackend
from motes.errors import CardError, CheckpointError, DataError
from motes.imaging import read_image, resize, write_image
from motes.inference.backend import Backend
from motes.inference.contest import contest_segmenter, find_contest_weights, run_gaofen

CASE = Path(__file__).parents[1] / "reference" / "gaofen"


def labels(backend: Backend, pixels: np.ndarray) -> np.ndarray:
    return contest_segmenter(backend).labels(pixels)


def test_the_reference_case(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    shutil.copy(CASE / "scene.tif", images)
    assert run_gaofen(ToyBackend(), images, tmp_path / "out").failed == []
    written = read_image(tmp_path / "out" / "scene.png").pixels
    expected = read_image(CASE / "scene.png").pixels
    assert written.dtype == np.uint8 and written.shape == expected.shape == (150, 200, 1)
    with np.load(CASE / "contract.npz") as case:
        decided = np.abs(case["margin"]) >= 1e-4
        assert np.array_equal(read_image(images / "scene.tif").pixels, case["image"])
        assert np.array_equal(resize(case["image"], (512, 512), "bilinear")[::8, ::8], case["resized"])
    assert np.array_equal(written[decided], expected[decided])
    assert decided.mean() > 0.999


def test_the_mirrored_pass_counts() -> None:
    pixels = read_image(CASE / "scene.tif").pixels

    class Once(ToyBackend):
        def run(self, batch: np.ndarray) -> np.ndarray:
            self.calls = getattr(self, "calls", 0) + 1
            return super().run(batch) if self.calls == 1 else 0 * super().run(batch)

    assert (labels(Once(), pixels) != labels(ToyBackend(), pixels)).sum() > 10


@pytest.mark.parametrize("shape", [(40, 60, 1), (513, 700, 3), (1, 1, 3)])
def test_every_size_and_grey_or_colour(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    ids = labels(ToyBackend(), pixels)
    assert ids.shape == shape[:2] and ids.max() <= 1
    if shape[2] == 1:
        assert np.array_equal(ids, labels(ToyBackend(), np.repeat(pixels, 3, axis=2)))


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    scene = read_image(CASE / "scene.tif").pixels
    for name in ("a.tif", "b.tif.png", "c.PNG", "d.png"):
        write_image(images / name, scene)
    (images / "a.png").write_bytes((images / "d.png").read_bytes())
    (images / "empty.tif").touch()
    (images / "words.png").write_text("not an image", encoding="utf-8")
    write_image(images / "four.tif", np.zeros((8, 8, 4), np.uint8))
    (images / "folder").mkdir()
    (images / ".hidden.png").touch()
    outcome = run_gaofen(ToyBackend(), images, out)
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.tif.png", "c.png", "d.png"]
    assert outcome.written == 4
    said = sorted(outcome.failed)
    assert [Path(line.split(":")[0]).name for line in said] == ["a.tif", "empty.tif", "folder", "four.tif", "words.png"]
    assert "would have the name of that of a.png" in said[0]
    assert "has 4 channels, the network takes 3" in said[3]


def test_output_inside_input_is_not_read_again(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", read_image(CASE / "scene.tif").pixels)
    for _ in range(2):
        outcome = run_gaofen(ToyBackend(), tmp_path, tmp_path / "masks")
        assert (outcome.written, outcome.failed) == (1, [])


def test_what_stops_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for images, says in (("empty", "is empty"), ("file", "is a file"), ("none", "no such folder")):
        with pytest.raises(DataError, match=says):
            run_gaofen(ToyBackend(), tmp_path / images, tmp_path / "out")
    write_image(tmp_path / "in" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="masks would overwrite images"):
        run_gaofen(ToyBackend(), tmp_path / "in", tmp_path / "in")

    class Other(ToyBackend):
        card = CARD.replace(classes=("a", "b", "c"))

    with pytest.raises(CardError, match="3 classes, the contest takes one for aerial with 2"):
        run_gaofen(Other(), tmp_path / "in", tmp_path / "out")

    class Lying(ToyBackend):
        def run(self, batch: np.ndarray) -> np.ndarray:
            return super().run(batch)[:, :1]

    with pytest.raises(CheckpointError, match="expected one logit for each of 2 classes"):
        labels(Lying(), np.zeros((8, 8, 3), np.uint8))
    assert not (tmp_path / "out").exists()


def test_finding_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weight file in this folder"):
        find_contest_weights(tmp_path)
    file = tmp_path / "ice.safetensors"
    file.touch()
    (tmp_path / "run.py").touch()
    assert find_contest_weights(tmp_path) == find_contest_weights(file) == file
    (tmp_path / "farms.onnx").touch()
    with pytest.raises(CheckpointError, match=r"2 weight files in this folder \(farms.onnx, ice.safetensors\)"):
        find_contest_weights(tmp_path)
    with pytest.raises(CheckpointError, match="no such weight file"):
        find_contest_weights(tmp_path / "none.onnx")
