"""Each format read back by a reader of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from motes.errors import MotesError
from motes.inference import Detections
from motes.inference.writers import WRITERS, parse_formats, plain_table

RESULTS = [
    Detections(
        boxes=[[10, 20, 13, 24], [0, 0, 1, 1]],
        centroids=[[11.25, 21.5], [0, 0]],
        centers=[[11, 21.5], [0, 0]],
        scores=[0.98765, 0.6],
        areas=[9, 1],
        scr=[7.25, np.nan],
        labels=[0, 0],
        path=Path("in/a & b.png"),
        name="a & b.png",
        size=(100, 200),
    ),
    Detections(path=Path("in/empty.png"), name="empty.png", size=(50, 60)),
]


def test_csv(tmp_path: Path) -> None:
    path = WRITERS["csv"](tmp_path, RESULTS)
    assert path.read_bytes().splitlines()[0] == b"image,x,y,x1,y1,x2,y2,area,score,scr,label"
    assert b"\r" not in path.read_bytes()
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert rows[0] == {
        "image": "a & b.png", "x": "11.25", "y": "21.5", "x1": "10", "y1": "20", "x2": "13", "y2": "24",
        "area": "9", "score": "0.98765", "scr": "7.25", "label": "target",
    }  # fmt: skip
    assert rows[1]["scr"] == ""
    assert len(rows) == 2


def test_json_keeps_images_without_targets(tmp_path: Path) -> None:
    first, second = json.loads(WRITERS["json"](tmp_path, RESULTS).read_text(encoding="utf-8"))
    assert (first["image"], first["source"], first["height"], first["width"]) == ("a & b.png", "in/a & b.png", 100, 200)
    assert first["targets"][0]["center"] == [11, 21.5]
    assert first["targets"][1]["scr"] is None
    assert second["targets"] == []


def test_coco(tmp_path: Path) -> None:
    coco = json.loads(WRITERS["coco"](tmp_path, RESULTS).read_text(encoding="utf-8"))
    assert [(i["id"], i["file_name"], i["height"], i["width"]) for i in coco["images"]] == [
        (1, "a & b.png", 100, 200),
        (2, "empty.png", 50, 60),
    ]
    assert coco["categories"] == [{"id": 1, "name": "target"}]
    assert [(a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"]) for a in coco["annotations"]] == [
        (1, 1, 1, [10, 20, 3, 4], 9),
        (2, 1, 1, [0, 0, 1, 1], 1),
    ]


def test_yolo_gives_the_boxes_back(tmp_path: Path) -> None:
    WRITERS["yolo"](tmp_path, RESULTS)
    assert (tmp_path / "yolo" / "classes.txt").read_text(encoding="utf-8") == "target\n"
    assert (tmp_path / "yolo" / "labels" / "empty.txt").read_text(encoding="utf-8") == ""
    table = np.loadtxt(tmp_path / "yolo" / "labels" / "a & b.txt", ndmin=2)
    assert table[:, 0].tolist() == [0, 0]
    centre, size = table[:, 1:3] * [200, 100], table[:, 3:5] * [200, 100]
    np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), RESULTS[0].boxes, atol=1e-4)
    np.testing.assert_allclose(table[:, 5], RESULTS[0].scores, atol=1e-5)


def test_voc_is_one_based_and_inclusive(tmp_path: Path) -> None:
    folder = WRITERS["voc"](tmp_path, RESULTS, ["first", "second"])
    root = ElementTree.parse(folder / "first.xml").getroot()
    assert root.findtext("filename") == "a & b.png"
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("200", "100")
    box = root.find("object/bndbox")
    assert box is not None
    assert [int(box.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")] == [11, 21, 13, 24]
    assert len(root.findall("object")) == 2
    assert ElementTree.parse(folder / "second.xml").getroot().find("object") is None


@pytest.mark.parametrize("name", WRITERS)
def test_no_images_at_all(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path, [])


def test_formats_by_name() -> None:
    assert parse_formats("COCO, yolo") == ["csv", "coco", "yolo"]
    with pytest.raises(MotesError, match="did you mean 'coco'"):
        parse_formats("csv,coc")


def test_table_puts_numbers_to_the_right() -> None:
    assert plain_table([("a", "1.5"), ("bb", "-")], ("image", "SCR")) == "image  SCR\na      1.5\nbb       -"
