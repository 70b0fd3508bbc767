"""``motes score`` of boxes in COCO files and CSV tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from motes.data import open_dataset
from motes.data.annotations import read_boxes
from motes.data.synthesize import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("score") / "kit"
    options = {"height": 48, "width": 64, "bits": 8, "targets": (1, 3), "scr": (15, 40), "test": 0.5, "val": 0}
    write_dataset(root, "sirstdevkit", 4, seed=5, **options)
    return root


def rows(data: Path) -> list[tuple[str, list[float], float]]:
    """Every true box, and one false alarm an image that scores less."""
    out = []
    for sample in open_dataset(data).split():
        out += [(sample.name, box, 0.9 - 0.01 * k) for k, box in enumerate(read_boxes(sample).boxes.tolist())]
        out.append((sample.name, [0, 0, 3, 2], 0.3))
    return out


def as_csv(data: Path, file: Path, label: str = "Target") -> Path:
    lines = [f"{n}.png,{','.join(map(str, b))},{s},{label}" for n, b, s in rows(data)]
    file.write_text("\n".join(["image,x1,y1,x2,y2,score,label", *lines]) + "\n", encoding="utf-8")
    return file


def as_results(data: Path, file: Path) -> Path:
    found = [
        {"image_id": n, "category_id": 1, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": s}
        for n, b, s in rows(data)
    ]
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


def as_coco(data: Path, file: Path) -> Path:
    names = list(open_dataset(data).samples)
    found = [
        {"id": i, "image_id": names.index(n), "category_id": 7, "score": s,
         "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for i, (n, b, s) in enumerate(rows(data))
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"images/{n}.png"} for i, n in enumerate(names)]
    content = {"images": images, "annotations": found, "categories": [{"id": 7, "name": "target"}]}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize("write", [as_csv, as_results, as_coco])
def test_every_kind_of_file(write, data: Path, tmp_path: Path, motes) -> None:
    file = write(data, tmp_path / ("found.csv" if write is as_csv else "found.json"))
    code, out, err = motes("score", file, data, "-o", tmp_path / "out")
    assert (code, err) == (0, "") and "4 images" in out and "mAP12 (area)" in out
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    values = {k: v["value"] for k, v in stored["metrics"].items()}
    count = sum(len(read_boxes(s).boxes) for s in open_dataset(data).split())
    assert (values["map12"], values["recall"], values["pd"], values["fa"]) == (1, 1, 1, 0)
    assert values["precision"] == pytest.approx(count / (count + 4))
    assert stored["run"]["predictions"] == str(file)
    assert len((tmp_path / "out" / "per_image.csv").read_text(encoding="utf-8").splitlines()) == 5


def test_numbered_images_of_a_coco_set(data: Path, tmp_path: Path, motes) -> None:
    assert motes("data", "boxes", data, tmp_path / "coco", "--to", "coco", "--images")[0] == 0
    names = list(open_dataset(data).samples)
    found = json.loads(as_results(data, tmp_path / "found.json").read_text(encoding="utf-8"))
    for row in found:
        row["image_id"] = names.index(row["image_id"]) + 1
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
    assert motes("score", tmp_path / "found.json", tmp_path / "coco", "-o", tmp_path / "out")[0] == 0
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert stored["metrics"]["map12"]["value"] == 1 and stored["run"]["without_truth"] == []


def test_shards_merge_to_the_same_files(data: Path, tmp_path: Path, motes) -> None:
    file = as_csv(data, tmp_path / "found.csv")
    assert motes("score", file, data, "-o", tmp_path / "all", "-p", "deepir")[0] == 0
    for part in (2, 1):
        code, _, _ = motes("score", file, data, "-o", tmp_path / str(part), "-p", "deepir", "--shard", f"{part}/2")
        assert code == 0
    code, _, err = motes("score", "--merge", tmp_path / "2", tmp_path / "1", "-o", tmp_path / "merged")
    assert (code, err) == (0, "")
    for name in ("metrics.json", "per_image.csv", "curves.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "all" / name).read_bytes(), name


def test_images_without_boxes_count_and_foreign_ones_are_named(data: Path, tmp_path: Path, motes) -> None:
    (tmp_path / "found.csv").write_text(
        "image,x1,y1,x2,y2,score\nelsewhere,1,1,2,2,0.5\nsynthetic_00001,0,0,3,2,0.7\n", encoding="utf-8"
    )
    code, out, err = motes("score", tmp_path / "found.csv", data, "-o", tmp_path / "out", "--json")
    assert code == 0 and "1 images of the file are not in the data set and were left out: elsewhere" in err
    assert json.loads(out)["run"]["images"] == 4 and json.loads(out)["metrics"]["pd"]["value"] == 0


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("image,x1,y1,x2,score\n", "", "has no column 'y2' (expected image, x1, y1, x2, y2, score, and label)"),
        (
            "image,x1,y1,x2,y2,score\nsynthetic_00001,0,0,a,2,0.7\n",
            "",
            "line 2: could not convert string to float: 'a'",
        ),
        ("image,x1,y1,x2,y2,score\nsynthetic_00001,9,0,3,2,0.7\n", "", "box 1 is (9, 0, 3, 2), expected x1 <= x2"),
        ("image,x1,y1,x2,y2,score\nsynthetic_00001,0,0,3,2,7\n", "", "from 7 to 7, expected 0 to 1"),
        ("image,x1,y1,x2,y2,score,label\nsynthetic_00001,0,0,3,2,0.7,Traget\n", "", "did you mean 'Target'?"),
        ("image,x1,y1,x2,y2,score\nelsewhere,0,0,3,2,0.7\n", "", "no image of"),
        ("[1, 2]", "", "holds no boxes with scores"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', "", "holds no boxes with scores: no key 'score'"),
        ("{", "", "is not readable as JSON"),
        ("[]", "-p dnanet", "unknown protocol for boxes 'dnanet'"),
        ("[]", "--logits", "--logits is for maps"),
        ("[]", "--split tset", "unknown split 'tset'"),
    ],
)
def test_bad_input_is_one_line(text: str, options: str, says: str, data: Path, tmp_path: Path, motes) -> None:
    file = tmp_path / ("found.csv" if text.startswith("image") else "found.json")
    file.write_text(text, encoding="utf-8")
    code, _, err = motes("score", file, data, "-o", tmp_path / "out", *options.split())
    assert code == 2 and len(err.splitlines()) == 1 and says in err
