"""Synthetic aerial scenes, and miniatures of every aerial layout as ``open_dataset`` finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.data import open_dataset
from motes.data.aerial_scenes import FORMS, scene, write_aerial
from motes.data.classes import ClassTable, class_table, distinct_colours
from motes.data.labels import read_labels
from motes.errors import DataError
from motes.imaging import read_image

MINE = ClassTable("mine", ("background", "kiosk", "pond", "kerb"), distinct_colours(4))


@pytest.mark.parametrize("table", [class_table(n) for n in ("isaid", "potsdam", "gaofen-img", "gaofen-sar")] + [MINE])
def test_a_scene_is_its_seed(table: ClassTable) -> None:
    rgb, ids = scene((5, 1), (120, 150), table)
    again, same = scene((5, 1), (120, 150), table)
    np.testing.assert_array_equal(rgb, again)
    np.testing.assert_array_equal(ids, same)
    assert (rgb.shape, rgb.dtype, ids.shape, ids.dtype) == ((120, 150, 3), np.uint8, (120, 150), np.uint8)
    assert not np.array_equal(scene((5, 2), (120, 150), table)[1], ids)
    assert ids.max() < table.num_classes


@pytest.mark.parametrize("name", ["isaid", "potsdam"])
def test_every_class_comes_up_and_most_objects_are_small(name: str) -> None:
    import cv2

    table = class_table(name)
    labels = [scene((0, i), 400, table)[1] for i in range(3)]
    assert set(np.unique(labels)) == set(range(table.num_classes))
    car = table.names.index("Small_Vehicle" if name == "isaid" else "car")
    areas = np.concatenate(
        [cv2.connectedComponentsWithStats((ids == car).astype(np.uint8))[2][1:, cv2.CC_STAT_AREA] for ids in labels]
    )
    assert np.median(areas) < 60


def test_objects_can_be_told_from_the_ground() -> None:
    rgb, ids = scene(0, 300, class_table("gaofen-img"))
    assert rgb[ids == 1].mean() - rgb[ids == 0].mean() > 50


def test_nothing_on_the_ground() -> None:
    assert not scene(0, 64, class_table("isaid"), objects=0)[1].any()
    rgb, _ = scene(0, 64, class_table("gaofen-sar"))
    assert (rgb == rgb[..., :1]).all()


@pytest.mark.parametrize("size", [8, (16, 20000)])
def test_bad_sizes(size: int | tuple[int, int]) -> None:
    with pytest.raises(DataError, match="height and width must be 16 to 16384"):
        scene(0, size, MINE)


EXPECTED = {
    "isaid": ("isaid", "isaid"),
    "isaid-masks": ("isaid-masks", "isaid"),
    "patches": ("patches", "isaid"),
    "gaofen-img": ("gaofen", "gaofen-img"),
    "gaofen-sar": ("gaofen", "gaofen-sar"),
    "potsdam": ("potsdam", "potsdam"),
    "vaihingen": ("vaihingen", "vaihingen"),
    "classes": ("plain", "isaid"),
}


@pytest.mark.parametrize("layout", FORMS)
def test_miniatures_are_recognised(layout: str, tmp_path: Path) -> None:
    root = tmp_path / layout.removeprefix("gaofen-")
    splits = write_aerial(root, layout, 8, (48, 64), seed=3)
    data = open_dataset(root)
    assert data.classes is not None
    assert (data.layout, data.classes.name) == EXPECTED[layout]
    assert len(data.samples) == 8 and not data.orphan_masks and not data.hidden
    assert {s: len(ids) for s, ids in data.splits.items() if s != "all"} == splits
    for i, sample in enumerate(data.samples.values()):
        if sample.mask is None:
            assert sample in data.split("test")
            continue
        ids = read_labels(sample.mask, data.classes)
        assert read_image(sample.image).size == ids.shape == (48, 64)
        if layout not in ("potsdam", "vaihingen"):  # these are sorted by tile
            np.testing.assert_array_equal(ids, scene((3, i), (48, 64), data.classes, objects=0 if i == 4 else None)[1])


@pytest.mark.parametrize("track", ["img", "sar"])
def test_gaofen_names_each_image_once(track: str, tmp_path: Path) -> None:
    write_aerial(tmp_path / track, f"gaofen-{track}", 6, 32)
    data = open_dataset(tmp_path / track)
    assert sorted(data.splits["all"]) == sorted(data.samples) == [str(i) for i in range(6)]
    assert set(data.splits["train"]) | set(data.splits["val"]) == set(data.samples)
    image = data.samples["0"].image
    assert image.parts[-3:-1] == ("train", "image") and image.suffix == (".tif" if track == "img" else ".png")
    assert read_image(image).pixels.shape[2] == (3 if track == "img" else 1)
    # Another image under the same name is another sample.
    twin = tmp_path / track / "all" / "image" / image.name
    twin.write_bytes(twin.read_bytes() + b"\0")
    assert {"all_0", "train_0"} <= open_dataset(tmp_path / track).samples.keys()


def test_the_track_is_known_by_its_files_too(tmp_path: Path) -> None:
    for track in ("img", "sar"):
        write_aerial(tmp_path / f"my {track}", f"gaofen-{track}", 2, 32)
        table = open_dataset(tmp_path / f"my {track}").classes
        assert table is not None and table.name == f"gaofen-{track}"
    with pytest.raises(DataError, match=r"its sub-folders look like data sets: .*my img, .*my sar"):
        open_dataset(tmp_path)


def test_jittor_ids_come_before_colours(tmp_path: Path) -> None:
    write_aerial(tmp_path, "patches", 1, 32)
    (tmp_path / "train" / "masks").rename(tmp_path / "train" / "masks_new")
    (tmp_path / "train" / "masks").mkdir()
    (sample,) = open_dataset(tmp_path).samples.values()
    assert sample.mask is not None and sample.mask.parent.name == "masks_new"


def test_instance_masks_are_not_class_masks(tmp_path: Path) -> None:
    write_aerial(tmp_path, "isaid", 2, 32)
    images = tmp_path / "train" / "images"
    endings = ("", "_instance_color_RGB", "_instance_id_RGB")
    assert {p.name for p in images.iterdir()} == {f"P0000{e}.png" for e in endings}
    (images / "P0000_instance_color_RGB.png").rename(images / "P0009_instance_color_RGB.png")
    data = open_dataset(tmp_path)
    assert data.samples.keys() == {"P0000", "P0001"} and data.samples["P0000"].mask is None
    assert [p.name for p in data.orphan_masks] == ["P0009_instance_color_RGB.png"]


def test_the_published_tiles(tmp_path: Path) -> None:
    write_aerial(tmp_path, "potsdam", 8, 32)
    data = open_dataset(tmp_path)
    assert all(s.name.split("_")[-3:-1] in (["3", "14"], ["5", "13"]) for s in data.split("test"))
    sample = data.split("train")[0]
    assert sample.mask is not None and sample.mask.name == sample.image.name.replace("_RGB", "_label")


def test_classes_of_a_plain_folder(tmp_path: Path) -> None:
    write_aerial(tmp_path / "a", "classes", 2, 32, table=MINE)
    assert open_dataset(tmp_path / "a").classes == MINE
    (tmp_path / "a" / "classes.yaml").unlink()
    assert open_dataset(tmp_path / "a").classes is None
    assert open_dataset(tmp_path / "a", classes="potsdam").classes == class_table("potsdam")
    (tmp_path / "a" / "classes.txt").write_text("Target\n", encoding="utf-8")  # what labelling tools leave
    assert open_dataset(tmp_path / "a").classes is None
    (tmp_path / "a" / "classes.txt").write_text("water\nboat\n", encoding="utf-8")
    table = open_dataset(tmp_path / "a").classes
    assert table is not None and table.names == ("water", "boat")
    told = open_dataset(tmp_path, image_dir="a/images", mask_dir="a/masks", classes=tmp_path / "a" / "classes.txt")
    assert told.classes == table and told.layout == "told"


def test_the_same_call_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    write_aerial(tmp_path, "isaid", 3, 32)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    (tmp_path / "train" / "images" / "P0000.png").unlink()
    write_aerial(tmp_path, "isaid", 4, 32)
    assert len(open_dataset(tmp_path).samples) == 4
    changed = [p.name for p, t in kept.items() if p.stat().st_mtime_ns != t]
    assert all(name.startswith("P0000") for name in changed)
    with pytest.raises(DataError, match="choose a new folder"):
        write_aerial(tmp_path, "isaid", 4, 48)
    with pytest.raises(DataError, match="is not empty"):
        write_aerial(tmp_path / "train", "isaid", 4, 48)
    with pytest.raises(DataError, match="unknown layout 'iasid' \\(did you mean 'isaid'"):
        write_aerial(tmp_path, "iasid")
    with pytest.raises(DataError, match="has a class table of its own"):
        write_aerial(tmp_path / "b", "isaid", table="potsdam")
