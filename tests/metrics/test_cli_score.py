"""``motes score`` through the installed command: numbers, files, exit codes, one line for bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from motes.cli.app import app
from motes.errors import MotesError
from motes.imaging import write_image
from motes.metrics import SegmentationScore

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "metrics"


def motes(*arguments):
    """In this process: the result, and an exception where the command raised one."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def installed(*arguments, **options):
    """The installed command, in its own process."""
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The reference cases as folders of files: float TIFF maps and 0/255 PNG masks named as SIRST names them."""
    root = tmp_path_factory.mktemp("cases")
    with np.load(REFERENCE / "cases.npz") as file:
        for name, probability, label in zip(file["names"], file["prob"], file["label"], strict=True):
            write_image(root / "maps" / f"{name}_Pred.tif", probability)
            write_image(root / "masks" / f"{name}_pixels0.png", (label > 0).astype(np.uint8) * np.uint8(255))
    return root


@pytest.fixture(scope="module")
def expected():
    return json.loads((REFERENCE / "cases.json").read_text(encoding="utf-8"))["accumulated"]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_published_numbers(cases, expected, tmp_path):
    result = installed("score", cases / "maps", cases / "masks", "-o", tmp_path, "--protocol", "serankdet")
    assert (result.returncode, result.stderr) == (0, "")
    found = metrics(tmp_path)
    for ours, theirs in {"iou": "IoU", "niou": "nIoU", "f1": "F1", "pd": "Pd", "fa": "Fa"}.items():
        assert found["metrics"][ours]["value"] == pytest.approx(expected["serankdet"][theirs], abs=1e-6)
    assert found["metrics"]["pd"].keys() == {"value", "numerator", "denominator", "interval"}
    assert (found["metrics"]["pd"]["numerator"], found["metrics"]["pd"]["denominator"]) == (30, 45)
    run = found["run"]
    assert (run["protocol"], run["images"], run["targets"], run["missing"]) == ("serankdet", 23, 45, [])
    assert "0.6667" in result.stdout
    assert "30 / 45" in result.stdout
    assert "defined at 512x512" in result.stdout


def test_files_beside_the_metrics(cases, tmp_path):
    assert motes("score", cases / "maps", cases / "masks", "-o", tmp_path).exit_code == 0
    with (tmp_path / "per_image.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 23
    assert sum(int(r["detected"]) for r in rows) == metrics(tmp_path)["metrics"]["pd"]["numerator"]
    curves = json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    half = curves["target"]["threshold"].index(0.5)
    assert curves["target"]["fa"][half] == metrics(tmp_path)["metrics"]["fa"]["value"]
    assert len(curves["pixel"]["tpr"]) == len(curves["pixel"]["fpr"]) < 400
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "per_image.csv", "curves.json", "state.npz"}


def test_json_on_stdout_says_what_was_left_out_of_niou(cases, tmp_path):
    result = motes("score", cases / "maps", cases / "masks", "-o", tmp_path, "--json")
    assert json.loads(result.stdout) == metrics(tmp_path)
    assert metrics(tmp_path)["run"]["empty_pairs"] == 1
    assert (
        "1 of 23 images have neither target nor prediction: left out of nIoU"
        in motes("score", cases / "maps", cases / "masks", "-o", tmp_path).stdout
    )


def test_shards_merge_to_the_same_files(cases, tmp_path):
    arguments = ("score", cases / "maps", cases / "masks", "-p", "dnanet", "--threshold", "0.4", "-o")
    motes(*arguments, tmp_path / "whole")
    for k in (1, 2, 3):
        assert motes(*arguments, tmp_path / f"{k}", "--shard", f"{k}/3").exit_code == 0
    result = motes("score", "--merge", tmp_path / "3", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "merged")
    assert result.exit_code == 0
    assert metrics(tmp_path / "merged")["metrics"] == metrics(tmp_path / "whole")["metrics"]
    for name in ("per_image.csv", "curves.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    twice = motes("score", "--merge", tmp_path / "1", tmp_path / "1", "-o", tmp_path / "merged")
    assert isinstance(twice.exception, MotesError)
    assert "which an earlier folder holds too" in str(twice.exception)


def test_missing_maps_are_listed_and_the_rest_is_scored(cases, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("perfect", "crowd"):
        os.link(cases / "maps" / f"{name}_Pred.tif", maps / f"{name}.tif")
    (maps / "merged.tif").write_bytes(b"II*\0 cut short")
    result = installed("score", maps, cases / "masks", "-o", tmp_path / "out")
    assert result.returncode == 1
    assert "no map for 20 masks" in result.stderr
    assert "not scored: merged_pixels0: " in result.stderr
    assert "Traceback" not in result.stderr
    run = metrics(tmp_path / "out")["run"]
    assert (run["images"], len(run["missing"]), list(run["failed"])) == (2, 20, ["merged_pixels0"])


def test_names_pick_a_subset(cases, tmp_path):
    (tmp_path / "list.txt").write_text("perfect\ncrowd.png\n", encoding="utf-8")
    result = motes("score", cases / "maps", cases / "masks", "-o", tmp_path / "out", "--names", tmp_path / "list.txt")
    assert result.exit_code == 0
    assert metrics(tmp_path / "out")["run"]["images"] == 2


def test_data_set_as_ground_truth(sirst_root, tmp_path):
    """Masks named by the data set's own split, resized as the protocol says, never otherwise."""
    names = ("Misc_1", "Misc_2")
    for name in names:
        write_image(tmp_path / "maps" / f"{name}.png", np.zeros((256, 256), np.uint8))
    (tmp_path / "two.txt").write_text("\n".join(names), encoding="utf-8")
    arguments = ("score", tmp_path / "maps", sirst_root, "--names", tmp_path / "two.txt", "-o", tmp_path / "out")
    result = motes(*arguments, "-p", "repisdnet")
    assert result.exit_code == 0
    assert "masks were resized to 256x256 (nearest), as protocol repisdnet says (2 images)" in result.stdout
    assert metrics(tmp_path / "out")["run"]["pixels"] == 2 * 256 * 256
    refused = motes(*arguments)
    assert "expected the same size (maps are never resized here" in " ".join(str(refused.exception).split())


def test_zero_one_masks_are_masks(tmp_path):
    label = np.zeros((16, 16), np.uint8)
    label[3:6, 3:6] = 1
    write_image(tmp_path / "p" / "a.png", label)
    write_image(tmp_path / "m" / "a.png", label)
    result = motes("score", tmp_path / "p", tmp_path / "m", "-o", tmp_path / "out")
    assert metrics(tmp_path / "out")["metrics"]["iou"]["value"] == 1
    assert "the maps hold only 0 and 1: taken as masks" in result.stdout


def test_api_and_command_agree(cases, tmp_path):
    motes("score", cases / "maps", cases / "masks", "-o", tmp_path, "-p", "pyirstdmetrics")
    score = SegmentationScore("pyirstdmetrics")
    with np.load(REFERENCE / "cases.npz") as file:
        for probability, label in zip(file["prob"], file["label"], strict=True):
            score.update(probability, label > 0)
    found = metrics(tmp_path)["metrics"]
    assert found.keys() == score.compute().keys()
    for key, value in score.compute().items():
        assert found[key]["value"] == value.value
        assert found[key]["interval"] == (None if value.interval is None else list(value.interval))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "masks", "-o", "out"], "nowhere: no such folder"),
        (["map", "masks", "-o", "out"], "did you mean 'maps'?"),
        (
            ["maps", "masks", "-o", "out", "-p", "basicirst"],
            "unknown protocol 'basicirst' (did you mean 'basicirstd'?)",
        ),
        (["maps", "masks", "-o", "out", "--threshold", "1.5"], "threshold 1.5 is outside"),
        (["maps", "-o", "out"], "got 1 folders, expected two"),
        (["maps", "masks", "-o", "out", "--shard", "0/2"], "--shard '0/2' is not I/N"),
        (["maps", "masks", "-o", "out", "--shard", "half"], "--shard 'half' is not I/N"),
        (["maps", "masks", "-o", "out", "--names", "no.txt"], "no.txt: expected a text file"),
        (
            ["maps", "masks", "-o", "out", "--names", "typo.txt"],
            "lists 'perfekt', and no mask has that name (nearest: 'perfect')",
        ),
        (["maps", "masks", "-o", "out", "--split", "test"], "has no split 'test'"),
        (["--merge", "maps", "-o", "out"], "holds no state.npz"),
        (["empty", "masks", "-o", "out"], "empty holds no image, expected maps"),
        (["maps", "masks", "-o", "perfect.txt/out"], "perfect.txt/out"),
    ],
)
def test_bad_input_is_one_sentence(cases, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("maps", "masks"):
        Path(name).symlink_to(cases / name, target_is_directory=True)
    Path("empty").mkdir()
    Path("typo.txt").write_text("perfekt\n", encoding="utf-8")
    Path("perfect.txt").write_text("", encoding="utf-8")
    result = motes("score", *arguments)
    assert isinstance(result.exception, MotesError | OSError), result.exception
    assert message in str(result.exception)


def test_exit_code_and_line_of_the_installed_command(cases, tmp_path):
    result = installed("score", cases / "maps", cases / "masks", "-o", tmp_path / "out", "-p", "dnant")
    assert result.returncode == 2
    assert result.stderr == "motes: error: unknown protocol 'dnant' (did you mean 'dnanet'?)\n"
    assert not (tmp_path / "out").exists()


def test_sizes_that_differ_in_every_image(cases, tmp_path):
    for name in ("perfect", "crowd"):
        write_image(tmp_path / "maps" / f"{name}.png", np.zeros((64, 96), np.uint8))
    result = installed("score", tmp_path / "maps", cases / "masks", "-o", tmp_path / "out")
    assert result.returncode == 2
    assert "is 64x96 and its mask crowd_pixels0.png 96x96, expected the same size" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_state(cases, tmp_path):
    motes("score", cases / "maps", cases / "masks", "-o", tmp_path / "a")
    (tmp_path / "a" / "state.npz").write_bytes(b"PK\x03\x04 cut")
    result = motes("score", "--merge", tmp_path / "a", "-o", tmp_path / "b")
    assert "state.npz or metrics.json is damaged" in str(result.exception)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, motes.metrics, motes.metrics.plotting\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'onnxruntime', 'onnx'} & {m.partition('.')[0] for m in sys.modules}\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_table_is_whole_in_eighty_columns(tmp_path):
    """Large rates and counts: no number is cut."""
    rng = np.random.default_rng(0)
    for k in range(3):
        write_image(tmp_path / "p" / f"{k}.tif", rng.random((200, 200)).astype(np.float32))
        write_image(tmp_path / "m" / f"{k}.png", np.eye(200, dtype=np.uint8) * np.uint8(255))
    result = installed(
        "score", tmp_path / "p", tmp_path / "m", "-o", tmp_path / "out", env={**os.environ, "COLUMNS": "80"}
    )
    assert "…" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if " .. " in line) <= 80
    fa = metrics(tmp_path / "out")["metrics"]["fa"]["value"] * 1e6
    assert f"{fa:.0f}" in result.stdout
