"""`motes detect` with a network that answers with boxes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from spot_boxes import Spots, frame

from motes.errors import CardError, MotesError
from motes.imaging import read_image, write_image
from motes.inference.box_detector import BoxDetector
from motes.inference.detector import Detector, open_detector
from motes.inference.run import FolderRun
from motes.inference.sources import frames_of


def test_a_folder_of_frames(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_image(images / "a.png", frame(64, 96, [(20, 30), (50, 60)]))
    write_image(images / "b.png", frame(64, 96, []))
    said: list[str] = []
    out = tmp_path / "out"
    summary = FolderRun(BoxDetector(backend=Spots()), out, say=said.append).run(frames_of([images]))
    assert summary.targets == 2
    assert sorted(p.name for p in out.iterdir()) == [".motes", "overlays", "run.json", "sky", "targets.csv"]
    rows = list(csv.DictReader((out / "targets.csv").open()))
    assert {(r["image"], r["x1"], r["y2"]) for r in rows} == {("a.png", "28.5", "22.5"), ("a.png", "58.5", "52.5")}
    sky = read_image(out / "sky" / "a.png").pixels.squeeze()
    assert (sky[:40] == 255).all() and (sky[40:] == 0).all()
    again = FolderRun(BoxDetector(backend=Spots()), out, say=said.append).run(frames_of([images]))
    assert again.skipped == 2 and "finished already" in said[0]
    other = FolderRun(BoxDetector(backend=Spots(), only_sky=True), out, say=said.append).run(frames_of([images]))
    assert other.skipped == 0 and other.targets == 1 and "only_sky False -> True" in said[1]


def test_no_probability_of_boxes(tmp_path: Path) -> None:
    with pytest.raises(MotesError, match="no probability map"):
        FolderRun(BoxDetector(backend=Spots()), tmp_path, save_probability=True)


def test_opens_what_the_card_says() -> None:
    assert isinstance(open_detector(backend=Spots(), only_sky=True), BoxDetector)
    assert isinstance(open_detector("tophat", settings={"size": 7}), Detector)
    with pytest.raises(CardError, match="only_sky is for networks that answer with boxes"):
        open_detector("tophat", only_sky=True)


def test_pixels_are_not_changed() -> None:
    pixels = frame(64, 96, [(20, 30)])
    before = pixels.copy()
    BoxDetector(backend=Spots()).detect(pixels)
    np.testing.assert_array_equal(pixels, before)
