"""``motes evaluate`` of a network that finds boxes: numbers, files, pictures, readers, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from motes.cards import Card
from motes.data import open_dataset
from motes.data.annotations import boxes_of_mask, read_sky
from motes.data.synthesize import write_dataset
from motes.evaluation import evaluate_boxes, predict_boxes
from motes.imaging import read_image, read_mask, resize


class Oracle:
    """Finds what is there, read off the masks; ``shift`` px beside it, and with a sky map where there is one."""

    def __init__(self, root: Path, shift: float = 0, sky: bool = False, **training: str) -> None:
        self.card = Card("oracle", "detection", classes=("Target",), training=training)
        self.shift, self.sky = shift, sky
        self.samples = open_dataset(root).split()
        self.frames = [read_image(s.image).pixels for s in self.samples]

    def boxes(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        k = next(i for i, f in enumerate(self.frames) if (resize(f, image.shape[:2]) == image).all())
        found = boxes_of_mask(read_mask(self.samples[k].mask)).boxes + self.shift
        scale = np.array([image.shape[1] / self.frames[k].shape[1], image.shape[0] / self.frames[k].shape[0]] * 2)
        sky = read_sky(self.samples[k]).astype(np.float32) if self.sky else None
        return found * scale, np.linspace(0.9, 0.6, len(found)), np.zeros(len(found), int), sky


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boxes") / "kit"
    options = {"height": 48, "width": 64, "bits": 8, "targets": (1, 2), "scr": (15, 40), "kind": "sky"}
    write_dataset(root, "sirstdevkit", 4, seed=3, test=0.5, val=0, **options)
    return root


@pytest.fixture
def motes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``motes evaluate`` with a given detector in the place of loaded weights."""
    from motes.cli.app import main

    def run(source: object, *words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("motes.cli.evaluate.load", lambda *_, **__: source)
        monkeypatch.setattr(sys, "argv", ["motes", "evaluate", "oracle", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_files_pictures_and_numbers(data: Path, tmp_path: Path, motes) -> None:
    code, out, err = motes(Oracle(data, sky=True), "--data", data, "-o", tmp_path / "out", "--show-dir", tmp_path / "s")
    assert (code, err) == (0, "")
    assert "mAP12 (area)" in out and "Pd at 1 false alarm / image" in out and "corners read as 'exact'" in out
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    for key in ("map12", "map07", "recall", "precision", "coco_ap", "centre_ap", "pd", "sky_iou"):
        assert stored["metrics"][key]["value"] == 1, key
    assert stored["metrics"]["fa"]["value"] == 0 and stored["metrics"]["mnocoap"]["value"] is not None
    assert stored["run"]["protocol"] == "exact" and stored["run"]["model"] == "oracle" and stored["run"]["images"] == 4
    with (tmp_path / "out" / "per_image.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and all(r["hits"] == r["truths"] and r["false_alarms"] == "0" for r in rows)
    curve = json.loads((tmp_path / "out" / "curves.json").read_text(encoding="utf-8"))["Target"]["0.5"]
    assert curve["recall"][-1] == 1 and len(curve["score"]) == sum(int(r["truths"]) for r in rows)
    assert len(list((tmp_path / "s" / "overlays").iterdir())) == 4
    for name in ("gallery.png", "pr.png"):
        assert read_image(tmp_path / "s" / name).pixels.dtype == np.uint8


def test_json_and_the_threshold_of_pd(data: Path, tmp_path: Path, motes) -> None:
    code, out, _ = motes(Oracle(data), "--data", data, "--split", "test", "-o", tmp_path, "--json", "--threshold", 0.95)
    found = json.loads(out)
    assert code == 0 and found == json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert found["metrics"]["pd"]["value"] == 0 and found["metrics"]["map12"]["value"] == 1
    assert "sky_iou" not in found["metrics"]


def moved_boxes(root: Path, data: Path, by: int) -> Path:
    """A copy whose stored boxes are ``by`` px further: the devkit's own count from 1, DenseSIRST's from 0."""
    shutil.copytree(data, root)
    for file in (root / "SIRST" / "BBox").iterdir():
        tree = ElementTree.parse(file)
        for box in tree.iter("bndbox"):
            for corner in box:
                corner.text = str(int(corner.text or 0) + by)
        tree.write(file)
    return root


def test_readers_move_truth_and_boxes_together(data: Path, tmp_path: Path) -> None:
    dense = moved_boxes(tmp_path / "dense", data, -1)
    samples = open_dataset(dense).split()
    facts: dict = {"data": "dense", "split": None}
    true, learned = Oracle(dense), Oracle(dense, shift=-1, reader="deepir")
    for source, rule in ((true, "exact"), (learned, "deepir"), (learned, "exact"), (true, "deepir")):
        found = evaluate_boxes(source, samples, rule=rule, **facts)
        assert found.metrics["map12"].value == pytest.approx(1), rule
        assert bool(found.warnings) == (found.run["trained_reader"] != found.run["reader"])
    shifted = evaluate_boxes(Oracle(dense, shift=-1), samples, rule="exact", **facts)
    assert shifted.metrics["ap@0.75"].value == 0
    # SIRST counts from 1, so there the reader of deepir does no harm.
    one = open_dataset(data).split()[0]
    assert predict_boxes(Oracle(data), one, "deepir").truth.boxes.tolist() == (
        predict_boxes(Oracle(data), one, "exact").truth.boxes.tolist()
    )


def test_deepir_runs_at_512_and_comes_back(data: Path) -> None:
    seen = []

    class Watching(Oracle):
        def boxes(self, image: np.ndarray):
            seen.append(image.shape[:2])
            return super().boxes(image)

    sample = open_dataset(data).split()[0]
    found = predict_boxes(Watching(data), sample, "deepir")
    assert seen == [(512, 512)]
    assert found.boxes == pytest.approx(boxes_of_mask(read_mask(sample.mask)).boxes)


def boxes_in(root: Path) -> Path:
    return sorted((root / "SIRST" / "BBox").iterdir())[0]


def spoilt(change):
    def spoil(root: Path) -> None:
        file = boxes_in(root)
        file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")

    return spoil


def no_annotation(root: Path) -> None:
    shutil.rmtree(root / "SIRST" / "BBox")
    shutil.rmtree(root / "SIRST" / "BinaryMask")
    shutil.rmtree(root / "SIRST" / "PaletteMask")


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (spoilt(lambda t: t[:-9]), "", "is not readable as XML"),
        (spoilt(lambda t: t.replace(">Target<", ">Traget<")), "", "is named 'Traget', expected Target (did you mean"),
        (spoilt(lambda t: t.replace("<xmax>", "<xmax>-")), "", "has no area (`motes data check` lists all such boxes)"),
        (
            spoilt(lambda t: t.replace("<xmin>", "<xmin>9").replace("<xmax>", "<xmax>9")),
            "",
            "lies outside of the image",
        ),
        (no_annotation, "", "has neither boxes nor a mask, so it cannot be scored; so have 3 others of 4"),
        (None, "-p deepr", "did you mean 'deepir'"),
        (None, "-p dnanet", "unknown protocol for boxes 'dnanet'"),
        (None, "--window 64", "--window is for networks that give maps, and this one finds boxes"),
        (None, "--save-prob", "--save-prob is for networks that give maps"),
        (None, "--threshold 2", "threshold 2 is outside 0 <= T < 1"),
    ],
)
def test_bad_input_is_one_line(spoil, options: str, says: str, data: Path, tmp_path: Path, motes) -> None:
    root = data
    if spoil is not None:
        root = tmp_path / "bad"
        shutil.copytree(data, root)
        spoil(root)
    source = Oracle(data)
    code, _, err = motes(source, "--data", root, "-o", tmp_path / "out", *options.split())
    assert code == 2 and len(err.splitlines()) == 1 and says in err
    assert not (tmp_path / "out").exists()


def test_no_targets_and_objects_without_a_box(data: Path, tmp_path: Path, motes) -> None:
    root = tmp_path / "bare"
    shutil.copytree(data, root)
    first, second = sorted((root / "SIRST" / "BBox").iterdir())[:2]
    first.write_text("<annotation></annotation>", encoding="utf-8")
    second.write_text("<annotation><object><name>Target</name></object></annotation>", encoding="utf-8")
    code, out, err = motes(Oracle(data), "--data", root, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "2 of 4 images have no target" in out and out.count("without a box left out") == 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["metrics"]["pd"]["value"] == 1


def test_what_finds_targets_in_maps_is_scored_by_the_boxes_of_its_masks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motes.cli.app import main

    monkeypatch.setattr(
        sys, "argv", ["motes", "evaluate", "tophat", "--data", str(data), "-p", "exact", "-o", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["run"]["protocol"] == "exact" and found["metrics"]["centre_ap"]["value"] > 0.5
