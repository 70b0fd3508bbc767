"""Preparing aerial data: what is cut, converted, kept, done again, refused."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from motes.data import open_dataset
from motes.data.aerial_scenes import write_aerial
from motes.data.classes import class_table
from motes.data.cutting import boxes, crop, patch_name
from motes.data.labels import read_labels, to_colours, write_labels
from motes.data.prepare import Prepared, prepare
from motes.data.raw_files import dataset_files, isaid_files
from motes.errors import DataError
from motes.imaging import read_image, write_image

ISAID = class_table("isaid")
COLOURS = "_instance_color_RGB.png"
SIZE = 70, 90


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six images in the official layout: P0000, P0002, P0004 for training, P0001, P0005 for validation, P0003."""
    write_aerial(tmp_path / "iSAID", "isaid", 6, SIZE)
    return tmp_path / "iSAID"


def run(source: Path, target: Path, rule: str = "pad-split", **options) -> Prepared:
    return prepare(isaid_files(source), target, ISAID, rule, 48, 32, **options)


def content(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.png")}


@pytest.mark.parametrize("rule", ["split", "window", "pad-split"])
def test_patches_hold_what_the_boxes_say(source: Path, tmp_path: Path, rule: str) -> None:
    done = run(source, tmp_path / "out", rule)
    expected = boxes(SIZE, rule, 48, 32)
    assert done.patches == {"train": 3 * len(expected), "val": 2 * len(expected)}
    assert (done.made, done.kept, done.failed, done.unknown) == (5 * len(expected), 0, [], [])
    image = read_image(source / "train" / "images" / "P0002.png").pixels
    ids = read_labels(source / "train" / "images" / f"P0002{COLOURS}", ISAID)
    assert ids.any()
    for box in expected:
        name = patch_name("P0002", box)
        patch = tmp_path / "out" / "train" / "images" / f"{name}.png"
        mask = tmp_path / "out" / "train" / "masks" / f"{name}{COLOURS}"
        np.testing.assert_array_equal(read_image(patch).pixels, crop(image, box))
        with Pillow.open(mask) as stored:
            assert stored.mode == "L"
            np.testing.assert_array_equal(np.array(stored), crop(ids, box, 255))


def test_what_is_not_larger_than_a_patch(source: Path, tmp_path: Path) -> None:
    for rule, names in {
        "split": ["P0000"],
        "window": ["P0000_0_64_0_64", "P0000_0_64_26_90", "P0000_6_70_0_64", "P0000_6_70_26_90"],
    }.items():
        patch = 70 if rule == "split" else 64
        prepare(isaid_files(source), tmp_path / rule, ISAID, rule, patch, 32)
        assert [p.stem for p in sorted((tmp_path / rule / "train" / "images").glob("P0000*"))] == names
    original = (source / "train" / "images" / "P0000.png").read_bytes()
    assert (tmp_path / "split" / "train" / "images" / "P0000.png").read_bytes() == original
    prepare(isaid_files(source), tmp_path / "padded", ISAID, "pad-split", 100, 50)
    (mask,) = (tmp_path / "padded" / "train" / "masks").glob("P0000*")
    ids = read_labels(mask, ISAID)
    assert ids.shape == (100, 100) and (ids[70:] == 255).all() and (ids[:, 90:] == 255).all()
    assert not (ids[:70, :90] == 255).any()


def test_our_own_layout_comes_out(source: Path, tmp_path: Path) -> None:
    done = run(source, tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    assert data.layout == "patches" and data.classes == ISAID
    assert {s: len(i) for s, i in data.splits.items()} == done.patches
    assert all(s.mask for s in data.samples.values()) and not data.orphan_masks


def test_cutting_and_conversion_in_either_order(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "straight", "split")
    run(source, tmp_path / "cut", "split", masks="colours")
    colours = read_image(tmp_path / "cut" / "train" / "masks" / f"P0000_0_48_0_48{COLOURS}").pixels
    np.testing.assert_array_equal(colours, read_image(source / "train" / "images" / f"P0000{COLOURS}").pixels[:48, :48])
    run(tmp_path / "cut", tmp_path / "cut first", "whole")
    run(source, tmp_path / "ids", "whole")
    run(tmp_path / "ids", tmp_path / "ids first", "split")
    assert content(tmp_path / "straight") == content(tmp_path / "cut first") == content(tmp_path / "ids first")
    with pytest.raises(DataError, match="padding has no colour"):
        run(source, tmp_path / "x", "pad-split", masks="colours")


def as_zips(source: Path, root: Path) -> None:
    """As downloaded: images and masks in archives of their own."""
    root.mkdir()
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            name = {"images": f"DOTA_{split}_part1.zip", "masks": f"{split}/Semantic_masks/images.zip"}[kind]
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(root / name, "w") as archive:
                for path in sorted((source / split / "images").iterdir()):
                    if path.name.endswith(COLOURS) == (kind == "masks"):
                        archive.write(path, f"images/{path.name}")
                archive.writestr("__MACOSX/images/._P0000.png", b"x")


def test_the_original_zips(source: Path, tmp_path: Path) -> None:
    as_zips(source, tmp_path / "zips")
    run(source, tmp_path / "folders")
    done = run(tmp_path / "zips", tmp_path / "out")
    assert not done.failed
    assert content(tmp_path / "folders") == content(tmp_path / "out")
    assert run(tmp_path / "zips", tmp_path / "out").made == 0
    assert not list((tmp_path / "out").rglob(".*"))


def test_one_zip_alone_and_a_damaged_member(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "iSAID.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.rglob("*.png")):
            archive.write(file, f"iSAID/{file.relative_to(source)}")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("iSAID/train/images/P0002.png")
    start = info.header_offset + 200
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    done = run(path, tmp_path / "out")
    assert len(done.failed) == 1 and done.images == {"train": 2, "val": 2}
    assert done.failed[0].startswith(f"{path}:iSAID/train/images/P0002.png: ")
    path.write_bytes(bytes(data[:3000]))
    with pytest.raises(DataError, match="is not a zip archive that can be read"):
        isaid_files(path)


def test_farseg_and_nested_layouts_give_the_same(source: Path, tmp_path: Path) -> None:
    write_aerial(tmp_path / "farseg", "isaid-masks", 6, SIZE)
    nested = tmp_path / "nested"
    for split in ("train", "val"):
        for path in (source / split / "images").iterdir():
            folder = "Semantic_masks/images" if path.name.endswith(COLOURS) else "images/images"
            (nested / split / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, nested / split / folder / path.name)
    for name in ("iSAID", "farseg", "nested"):
        run(tmp_path / name, tmp_path / f"{name} out")
    assert content(tmp_path / "iSAID out") == content(tmp_path / "farseg out") == content(tmp_path / "nested out")


def test_a_split_alone_by_its_own_folder(source: Path, tmp_path: Path) -> None:
    assert run(source / "train", tmp_path / "out").images == {"train": 3}
    shutil.copytree(source / "train" / "images", tmp_path / "some")
    with pytest.raises(DataError, match="is it of train, val or test"):
        isaid_files(tmp_path / "some")


def test_only_the_test_images_are_without_masks(source: Path, tmp_path: Path) -> None:
    found = isaid_files(source, ["test"])
    done = prepare(found, tmp_path / "out", ISAID, "window", 48, 32)
    assert done.images == {"test": 1} and not (tmp_path / "out" / "test" / "masks").exists()
    assert open_dataset(tmp_path / "out").splits.keys() == {"test"}


def test_it_goes_on_where_it_stopped(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import motes.data.prepare as module

    run(source, tmp_path / "straight")
    written = []
    write = module._write_png

    def stop_after_ten(path: Path, pixels: np.ndarray) -> None:
        if len(written) == 10:
            raise KeyboardInterrupt
        write(path, pixels)
        written.append(path)

    monkeypatch.setattr(module, "_write_png", stop_after_ten)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", threads=1)
    monkeypatch.undo()
    before = {p: p.stat().st_mtime_ns for p in written}
    with (tmp_path / "out" / "prepared.jsonl").open("a") as file:
        file.write('{"done": "train/P00')  # a line that the crash cut short
    done = run(source, tmp_path / "out")
    assert done.kept == 10 and {p: p.stat().st_mtime_ns for p in written} == before
    assert content(tmp_path / "straight") == content(tmp_path / "out")
    again = run(source, tmp_path / "out")
    assert (again.made, again.kept) == (0, done.made + 10)


def test_a_changed_source_is_done_again_and_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    untouched = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("P0000*")}
    image, mask = (source / "train" / "images" / f"P0002{e}" for e in (".png", COLOURS))
    write_image(image, np.full((100, 60, 3), 7, np.uint8))
    write_image(mask, to_colours(np.full((100, 60), 3, np.uint8), ISAID))
    done = run(source, tmp_path / "out")
    expected = {patch_name("P0002", b) for b in boxes((100, 60), "pad-split", 48, 32)}
    assert done.made == len(expected)
    assert {p.stem for p in (tmp_path / "out" / "train" / "images").glob("P0002*")} == expected
    assert len(list((tmp_path / "out" / "train" / "masks").glob("P0002*"))) == len(expected)
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    (tmp_path / "out" / "train" / "masks" / f"P0000_0_48_0_48{COLOURS}").unlink()
    assert run(source, tmp_path / "out").made == 1
    image.unlink()
    mask.unlink()
    gone = run(source, tmp_path / "out")
    assert gone.stale == ["train/P0002"] and gone.made == 0
    only = prepare(isaid_files(source, ["val"]), tmp_path / "out", ISAID, "pad-split", 48, 32)
    assert only.stale == [] and only.images == {"val": 2}


def test_other_options_and_other_folders_are_refused(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    with pytest.raises(DataError, match="was prepared with rule pad-split, not split"):
        run(source, tmp_path / "out", "split")
    with pytest.raises(DataError, match=r"is not empty and holds no prepared\.jsonl"):
        run(source, tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="is a file"):
        run(source, tmp_path / "file")
    (tmp_path / "out" / "prepared.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not a manifest"):
        run(source, tmp_path / "out")
    for bad in ({"rule": "splt"}, {"masks": "gray"}):
        with pytest.raises(DataError, match="unknown"):
            run(source, tmp_path / "new", **bad)
    assert not (tmp_path / "new").exists()


def test_two_samples_that_everybody_leaves_out(source: Path, tmp_path: Path) -> None:
    images = source / "train" / "images"
    for stem in ("P1527", "P1530"):
        for e in (".png", COLOURS):
            shutil.copyfile(images / f"P0000{e}", images / f"{stem}{e}")
    done = run(source, tmp_path / "out")
    assert done.skipped == ["train/P1527", "train/P1530"] and done.images["train"] == 3
    assert not list((tmp_path / "out").rglob("P15*"))


BAD = {
    "no mask": ("P0000.png: has no mask", lambda i, m: m.unlink()),
    "another size": (
        r"P0000.png is 90x70 and its mask .*P0000_instance_color_RGB.png 8x4 \(width x height\)",
        lambda i, m: write_image(m, np.zeros((4, 8, 3), np.uint8)),
    ),
    "16 bits": (
        "P0000.png: has 3 bands of uint16, expected 1 .grey. or 3 .RGB. of uint8",
        lambda i, m: write_image(i, np.zeros((*SIZE, 3), np.uint16)),
    ),
    "empty": ("P0000.png: is empty", lambda i, m: i.write_bytes(b"")),
    "empty mask": ("P0000_instance_color_RGB.png: is empty", lambda i, m: m.write_bytes(b"")),
    "cut short": ("is a PNG cut short", lambda i, m: i.write_bytes(i.read_bytes()[:500])),
    "no ids": ("2 values that are no class's: 40 x", lambda i, m: write_labels(m, scattered(40, 50))),
    "lost ids": ("its ids are lost", lambda i, m: Pillow.fromarray(scattered(1, 0), mode="P").save(m)),
}


def scattered(*values: int) -> np.ndarray:
    ids = np.zeros(SIZE, np.uint8)
    ids[::3] = values[0]
    ids[1::3] = values[1]
    return ids


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_prepared_is_named_and_the_rest_is_done(source: Path, tmp_path: Path, case: str) -> None:
    message, spoil = BAD[case]
    images = source / "train" / "images"
    spoil(images / "P0000.png", images / f"P0000{COLOURS}")
    done = run(source, tmp_path / "out")
    (line,) = done.failed
    assert re.search(message, line)
    assert done.images == {"train": 2, "val": 2}
    assert not list((tmp_path / "out").rglob("P0000*"))


def test_four_bands(tmp_path: Path) -> None:
    write_aerial(tmp_path / "potsdam", "potsdam", 3, SIZE)
    data = open_dataset(tmp_path / "potsdam")
    write_image(data.split("train")[0].image, np.zeros((*SIZE, 4), np.uint8))
    done = prepare(dataset_files(data), tmp_path / "out", class_table("potsdam"), "pad-split", 48, 32)
    assert len(done.failed) == 1 and "has 4 bands of uint8, expected 1 (grey) or 3 (RGB)" in done.failed[0]
    assert done.images == {"train": 2}


def test_foreign_colours_become_background_and_are_told(source: Path, tmp_path: Path) -> None:
    mask = source / "train" / "images" / f"P0000{COLOURS}"
    rgb = read_image(mask).pixels.copy()
    rgb[:2, :5] = 255, 255, 255
    rgb[0, 0] = 189, 0, 0
    write_image(mask, rgb)
    for _ in range(2):  # also when nothing is left to do
        done = run(source, tmp_path / "out")
        (line,) = done.unknown
        assert line.startswith(f"{mask}: 2 colours that are no class's: (255, 255, 255) x 9 px, (189, 0, 0) x 1 px")
    ids = read_labels(tmp_path / "out" / "train" / "masks" / f"P0000_0_48_0_48{COLOURS}", ISAID)
    assert not ids[:2, :5].any() and not done.failed
    write_image(mask, np.full_like(rgb, 99))
    (line,) = run(source, tmp_path / "out").failed
    assert "1 value that is no class's: 99 x 6300 px" in line


def test_masks_without_an_image_are_told(source: Path, tmp_path: Path) -> None:
    (source / "val" / "images" / "P0001.png").unlink()
    done = run(source, tmp_path / "out")
    assert [Path(o).name for o in done.orphans] == [f"P0001{COLOURS}"]


@pytest.mark.parametrize("layout", ["potsdam", "vaihingen", "gaofen-img", "gaofen-sar", "classes"])
def test_other_data_sets(tmp_path: Path, layout: str) -> None:
    root = tmp_path / layout.removeprefix("gaofen-")
    write_aerial(root, layout, 8, SIZE)
    data = open_dataset(root)
    assert data.classes is not None
    done = prepare(dataset_files(data), tmp_path / "out", data.classes, "pad-split", 80, 40)
    assert not done.failed and sum(done.images.values()) == 8
    made = open_dataset(tmp_path / "out")
    assert made.layout == "patches" and made.classes is not None and made.classes.names == data.classes.names
    sample = data.split("train")[0]
    assert sample.mask is not None
    before = read_labels(sample.mask, data.classes)
    mask = made.samples[f"{sample.name}_0_80_0_80"].mask
    assert mask is not None
    after = read_labels(mask, made.classes)
    np.testing.assert_array_equal(after[:70], before[:, :80])
    assert (after[70:] == 255).all()  # ignored, for GaoFen too, whose originals have 255 for a class


def test_the_manifest_says_what_is_there(source: Path, tmp_path: Path) -> None:
    done = run(source, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "prepared.jsonl").read_text().splitlines()]
    assert lines[0]["settings"] == {"classes": "isaid", "rule": "pad-split", "patch": 48, "stride": 32, "masks": "ids"}
    keys = ["train/P0000", "train/P0002", "train/P0004", "val/P0001", "val/P0005"]
    assert [line["done"] for line in lines[1:]] == keys
    assert sum(len(line["images"]) for line in lines[1:]) == done.made
