"""``motes score --classes``: class maps of any form, shards, and what cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from motes.cli.app import app
from motes.cli.score_classes import score_class_maps
from motes.data.classes import TABLES
from motes.data.labels import read_labels, to_colours, write_labels
from motes.errors import DataError
from motes.imaging import write_image
from motes.metrics import ClassScore

ISAID = TABLES["isaid"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three masks in colours, named as iSAID names them, and maps as ids."""
    rng = np.random.default_rng(0)
    (tmp_path / "maps").mkdir()
    for i in range(3):
        truth = rng.integers(0, 16, (20, 30)).astype(np.uint8)
        found = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 16, truth.shape), truth).astype(np.uint8)
        write_image(tmp_path / "truth" / f"P{i}_instance_color_RGB.png", to_colours(truth, ISAID))
        write_labels(tmp_path / "maps" / f"P{i}.png", found)
    return tmp_path / "maps", tmp_path / "truth"


def expected(folders: tuple[Path, Path]) -> dict:
    score = ClassScore(ISAID.names)
    for i in range(3):
        truth = read_labels(folders[1] / f"P{i}_instance_color_RGB.png", ISAID)
        score.update(read_labels(folders[0] / f"P{i}.png", ISAID), truth, f"P{i}")
    return {k: v.value for k, v in score.compute().items()}


def values(out: Path) -> dict:
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    return {k: v["value"] for k, v in metrics.items()}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_ids_against_colours(folders: tuple[Path, Path], tmp_path: Path) -> None:
    text = run(*folders, "-o", tmp_path / "out", "--classes", "isaid")
    assert values(tmp_path / "out") == pytest.approx(expected(folders))
    assert "mIoU, all classes" in text and "storage_tank" in text
    for i in range(3):  # the same maps as colours
        ids = read_labels(folders[0] / f"P{i}.png", ISAID)
        write_image(folders[0] / f"P{i}.png", to_colours(ids, ISAID))
    before = values(tmp_path / "out")
    run(*folders, "-o", tmp_path / "again", "--classes", "isaid")
    assert values(tmp_path / "again") == before


def test_shards_merge_to_the_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for i in (1, 2):
        run(*folders, "-o", tmp_path / f"{i}", "--classes", "isaid", "--shard", f"{i}/2")
    run(tmp_path / "1", tmp_path / "2", "-o", tmp_path / "merged", "--classes", "isaid", "--merge")
    run(*folders, "-o", tmp_path / "whole", "--classes", "isaid")
    merged, whole = (json.loads((tmp_path / n / "metrics.json").read_text())["metrics"] for n in ("merged", "whole"))
    assert merged == whole


def test_what_cannot_be_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_labels(folders[0] / "P0.png", np.zeros((9, 9), np.uint8))
    (folders[0] / "P2.png").unlink()
    done = CliRunner().invoke(app, ["score", *map(str, folders), "-o", str(tmp_path / "out"), "--classes", "isaid"])
    assert done.exit_code == 1
    assert "9x9 and its mask P0_instance_color_RGB.png 30x20" in done.output and "no map for 1 masks" in done.output
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())["run"]
    assert stored["images"] == 1 and list(stored["failed"]) == ["P0_instance_color_RGB"]
    with pytest.raises(DataError, match="did you mean 'isaid'"):
        score_class_maps([*folders], tmp_path / "out", "isad", None, None, None, False, False)
    for words, says in (
        (["--threshold", "0.5"], "--threshold is for probability maps"),
        (["--merge"], "holds no state.npz"),
    ):
        done = CliRunner().invoke(
            app, ["score", *map(str, folders), "-o", str(tmp_path / "x"), "--classes", "isaid", *words]
        )
        assert says in str(done.exception)
