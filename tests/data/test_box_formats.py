"""Boxes through every format and back, by ``motes data boxes``; what each file says; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.data import open_dataset
from motes.data.annotations import boxes_of_mask, mask_of_boxes, read_boxes, read_sky
from motes.errors import DataError
from motes.imaging import read_mask, write_image

TRUTH = {
    "a": ([(10, 5, 13, 9, "ship", 0), (0, 0, 1, 1, "plane", 0)]),
    "b": ([(40.5, 20.25, 44, 27.5, "ship", 1), (60, 40, 64, 48, "ship", 0)]),
    "c": [],
}
"""Half-open xyxy, class, difficult, in frames of 48x64 px."""


def labelme_set(root: Path) -> Path:
    for n, (name, rows) in enumerate(TRUTH.items()):
        write_image(root / f"{name}.png", np.random.default_rng(n).integers(0, 200, (48, 64), np.uint8))
        shapes = [
            {"label": c, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", "flags": {"difficult": bool(d)}}
            for x1, y1, x2, y2, c, d in rows
        ]
        content = {"shapes": shapes, "imageHeight": 48, "imageWidth": 64, "imagePath": f"{name}.png"}
        (root / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "test.txt").write_text("b\nc\n", encoding="utf-8")
    return root


def read(root: Path, names: tuple[str, ...] = ("ship", "plane"), **options: str) -> dict[str, list]:
    found = {}
    for sample in open_dataset(root).split():
        boxes, labels, ignored = read_boxes(sample, names, **options)
        found[sample.name] = [
            (*b, names[c], int(i)) for b, c, i in zip(boxes.tolist(), labels, ignored.tolist(), strict=True)
        ]
    return found


def test_labelme_is_read_as_it_is_drawn(tmp_path: Path) -> None:
    assert open_dataset(labelme_set(tmp_path)).layout == "labelme"
    assert read(tmp_path) == TRUTH


@pytest.mark.parametrize("first", ["coco", "voc", "yolo", "labelme"])
@pytest.mark.parametrize("second", ["coco", "voc", "yolo", "labelme"])
def test_there_and_on_and_the_boxes_are_the_same(first: str, second: str, tmp_path: Path, motes) -> None:
    source = labelme_set(tmp_path / "source")
    code, out, err = motes("data", "boxes", source, tmp_path / "1", "--to", first, "--images")
    assert code == 0 and f"1: {first}, 3 images, 4 boxes, 1 of them difficult (ship, plane), 1 images without" in out
    assert bool(err) == (first == "yolo")
    assert open_dataset(tmp_path / "1").layout == first
    assert motes("data", "boxes", tmp_path / "1", tmp_path / "2", "--to", second, "--images")[0] == 0
    assert open_dataset(tmp_path / "2").layout == second
    yolo = "yolo" in (first, second)
    want = {name: [r for r in rows if not (yolo and r[5])] for name, rows in TRUTH.items()}
    assert read(tmp_path / "2") == want


def test_what_the_files_say(tmp_path: Path, motes) -> None:
    source = labelme_set(tmp_path / "source")
    for form in ("coco", "voc", "yolo"):
        assert motes("data", "boxes", source, tmp_path / form, "--to", form, "--split", "test")[0] == 0
    coco = json.loads((tmp_path / "coco" / "annotations" / "instances_test.json").read_text(encoding="utf-8"))
    assert [i["file_name"] for i in coco["images"]] == ["b.png", "c.png"]
    assert coco["annotations"][1]["bbox"] == [60, 40, 4, 8] and coco["annotations"][1]["area"] == 32
    assert [a["iscrowd"] for a in coco["annotations"]] == [1, 0]
    xml = (tmp_path / "voc" / "Annotations" / "b.xml").read_text(encoding="utf-8")
    assert "<xmin>61</xmin><ymin>41</ymin><xmax>64</xmax><ymax>48</ymax>" in xml  # Pascal: from 1, inclusive
    assert (tmp_path / "voc" / "ImageSets" / "Main" / "test.txt").read_text(encoding="utf-8") == "b\nc\n"
    assert (tmp_path / "yolo" / "labels" / "b.txt").read_text(encoding="utf-8") == (
        f"0 {62 / 64:.7f} {44 / 48:.7f} {4 / 64:.7f} {8 / 48:.7f}\n"
    )
    assert (tmp_path / "yolo" / "classes.txt").read_text(encoding="utf-8") == "ship\nplane\n"
    assert not list(tmp_path.rglob(".motes-*"))


@pytest.mark.parametrize("convention", ["0-based, end exclusive", "1-based, end exclusive", "0-based, end inclusive"])
def test_conventions_are_found_by_the_masks(convention: str, tmp_path: Path, motes) -> None:
    from motes.data.synthesize import write_dataset

    root = tmp_path / "kit"
    write_dataset(root, "sirstdevkit", 4, height=48, width=64, bits=8, targets=(1, 3), scr=(15, 40))
    boxes = ("--to", "voc", "--convention", convention, "--from", "masks")
    assert motes("data", "boxes", root, tmp_path / "voc", *boxes)[0] == 0
    for file in (tmp_path / "voc" / "Annotations").iterdir():
        (root / "SIRST" / "BBox" / file.name).write_bytes(file.read_bytes())
    for sample in open_dataset(root).split():
        want = boxes_of_mask(read_mask(sample.mask)).boxes
        assert sorted(read_boxes(sample).boxes.tolist()) == sorted(want.tolist())
        shifted = read_boxes(sample, reader="deepir").boxes
        moved = {"0-based, end exclusive": [-1] * 4, "1-based, end exclusive": [0] * 4}
        if convention in moved:
            assert sorted(shifted.tolist()) == sorted((want + moved[convention]).tolist())


def test_masks_from_boxes_and_boxes_from_masks(tmp_path: Path, motes) -> None:
    source = labelme_set(tmp_path / "source")
    assert motes("data", "boxes", source, tmp_path / "masks", "--to", "masks", "--images")[0] == 0
    found = {s.name: read_boxes(s).boxes.tolist() for s in open_dataset(tmp_path / "masks").split()}
    assert found == {"a": [[0, 0, 1, 1], [10, 5, 13, 9]], "b": [[60, 40, 64, 48]], "c": []}
    tiny = mask_of_boxes(np.array([[3.4, 2.2, 3.5, 2.3]]), (6, 6))
    assert tiny.sum() == 1  # a target is never lost


def test_yolo_polygons_and_data_yaml(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / "images" / part / f"{part}1.png", np.zeros((20, 40), np.uint8))
        (tmp_path / "labels" / part).mkdir(parents=True)
    (tmp_path / "labels" / "train" / "train1.txt").write_text("1 0.1 0.1 0.2 0.1 0.2 0.3\n", encoding="utf-8")
    (tmp_path / "labels" / "val" / "val1.txt").write_text("0 0.5 0.5 0.1 0.2 0.87\n", encoding="utf-8")
    (tmp_path / "data.yaml").write_text("names: {0: ship, 1: plane}\n", encoding="utf-8")
    data = open_dataset(tmp_path)
    assert (data.layout, set(data.splits)) == ("yolo", {"train", "val"})
    assert read(tmp_path) == {"train1": [(4, 2, 8, 6, "plane", 0)], "val1": [(18, 8, 22, 12, "ship", 0)]}


def test_objects_without_a_box_are_left_out_with_a_warning(tmp_path: Path, motes) -> None:
    source = labelme_set(tmp_path / "source")
    content = json.loads((source / "a.json").read_text(encoding="utf-8"))
    content["shapes"].append({"label": "ship", "points": [[3, 3]], "shape_type": "point"})
    (source / "a.json").write_text(json.dumps(content), encoding="utf-8")
    code, _, err = motes("data", "boxes", source, tmp_path / "out", "--to", "coco")
    assert code == 0 and err.count("an object without a box left out ('a')") == 1


def spoil_json(key: str, value: object):
    def change(root: Path) -> None:
        content = json.loads((root / "a.json").read_text(encoding="utf-8"))
        content["shapes"][0][key] = value
        (root / "a.json").write_text(json.dumps(content), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (None, "--to coc", "unknown format 'coc' (did you mean 'coco'?)"),
        (None, "--to coco --split tset", "unknown split 'tset'"),
        (None, "--to voc --reader deepr", "did you mean 'deepir'"),
        (None, "--to coco --classes shop", "is named 'ship', expected shop (did you mean 'shop'?)"),
        (None, "--to coco --from masks", "has no mask (leave out --from masks)"),
        (lambda root: (root / "a.json").write_text('{"shapes": [', encoding="utf-8"), "--to coco", "as JSON"),
        (spoil_json("points", [[5, 5], [5, 9]]), "--to coco", "box 1 of 'a' (5, 5, 5, 9) has no area"),
        (spoil_json("points", [[70, 5], [75, 9]]), "--to coco", "lies outside of the image of 64x48 px"),
        (spoil_json("points", "here"), "--to coco", "a.json is not a LabelMe file"),
    ],
)
def test_bad_input_is_one_line(spoil, options: str, says: str, tmp_path: Path, motes) -> None:
    source = labelme_set(tmp_path / "source")
    if spoil:
        spoil(source)
    code, _, err = motes("data", "boxes", source, tmp_path / "out", *options.split())
    assert code == 2 and len(err.splitlines()) == 1 and says in err
    assert motes("data", "boxes", source, source, "--to", "coco")[2].count("SRC and DST are both") in (0, 1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5", "line 1 is '0 0.5 0.5', expected 'class x_centre y_centre width height'"),
        ("2 0.5 0.5 0.1 0.1", "line 1 is of class 2, and the set names 2 classes"),
    ],
)
def test_bad_yolo_lines(line: str, says: str, tmp_path: Path, motes) -> None:
    assert motes("data", "boxes", labelme_set(tmp_path / "s"), tmp_path / "y", "--to", "yolo", "--images")[0] == 0
    (tmp_path / "y" / "labels" / "a.txt").write_text(line, encoding="utf-8")
    code, _, err = motes("data", "boxes", tmp_path / "y", tmp_path / "out", "--to", "coco")
    assert code == 2 and says in err


def test_sky_of_both_kinds_of_file(tmp_path: Path) -> None:
    from PIL import Image

    from motes.data.synthesize import write_dataset

    write_dataset(tmp_path, "sirstdevkit", 1, height=48, width=64, bits=8, kind="cloud", targets=1, scr=20)
    (sample,) = open_dataset(tmp_path).split()
    binary = read_sky(sample)
    assert binary.dtype == np.uint8 and set(np.unique(binary)) <= {0, 1} and binary.any()
    numbers = binary.copy()
    numbers[0, :5] = 255
    picture = Image.fromarray(numbers, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0] + [9] * 762)
    (tmp_path / "SkySeg" / "PaletteMask").mkdir()
    picture.save(tmp_path / "SkySeg" / "PaletteMask" / f"{sample.name}.png")
    sample.sky.unlink()
    sample.sky.parent.rmdir()
    (again,) = open_dataset(tmp_path).split()
    assert (read_sky(again) == numbers).all()
    with pytest.raises(DataError, match="has no sky map"):
        read_sky(type(sample)("x", sample.image))


def test_real_sets(data_root: Path) -> None:
    """5,941 boxes of DenseSIRST lie on its masks' targets to the pixel, but for what motes data check lists."""
    samples = open_dataset(data_root / "densesirst").split("test_v1")
    found = [(read_boxes(s).boxes, boxes_of_mask(read_mask(s.mask)).boxes) for s in samples]
    assert sum(len(b) for b, _ in found) == 1209
    same = sum(len({*map(tuple, b.tolist())} & {*map(tuple, m.tolist())}) for b, m in found)
    assert same == 1209
