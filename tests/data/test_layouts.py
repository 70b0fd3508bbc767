"""Every published folder layout is recognised by looking, and its samples and splits come out the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motes.data import open_dataset
from motes.data.lists import bare_id, read_list, write_list
from motes.errors import DataError
from motes.imaging import write_image

IDS = ("Misc_1", "Misc_2", "Misc_10")


def put(root: Path, *names: str) -> None:
    """Tiny images under ``root``; what is in them does not matter here."""
    for name in names:
        write_image(root / name, np.zeros((4, 4, 1), np.uint8))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8"))


def sirstdevkit(root: Path) -> None:
    put(root / "PNGImages", *(f"{i}.png" for i in IDS))
    put(root / "SIRST" / "BinaryMask", *(f"{i}_pixels0.png" for i in IDS))
    text(root / "Splits" / "trainval_v1.txt", "Misc_2\nMisc_1")
    text(root / "Splits" / "test_v1.txt", "Misc_10")
    text(root / "Splits" / "full" / "test.txt", "Misc_1\n")


def palette_devkit(root: Path) -> None:
    put(root / "PNGImages", *(f"{i}.png" for i in IDS))
    put(root / "SIRST" / "PaletteMask", *(f"{i}.png" for i in IDS))


def open_sirst_v2(root: Path) -> None:
    put(root / "mixed", *(f"{i}.png" for i in IDS))
    put(root / "annotations" / "masks", *(f"{i}_pixels0.png" for i in IDS))
    text(root / "splits" / "trainval_full.txt", "Misc_2\nMisc_1\n")
    text(root / "splits" / "test_full.txt", "Misc_10\n")


def basicirstd(root: Path) -> None:
    put(root / "images", *(f"{i}.png" for i in IDS))
    put(root / "masks", *(f"{i}.png" for i in IDS))
    text(root / "img_idx" / "train_NUAA-SIRST.txt", "Misc_2\nMisc_1\n")
    text(root / "img_idx" / "test_NUAA-SIRST.txt", "Misc_10\n")


def dnanet(root: Path) -> None:
    put(root / "images", *(f"{i}.png" for i in IDS))
    put(root / "masks", *(f"{i}.png" for i in IDS))
    text(root / "50_50" / "train.txt", "Misc_2\nMisc_1\n")
    text(root / "50_50" / "test.txt", "Misc_10\n")


def repisdnet(root: Path) -> None:
    put(root / "images", *(f"{i}.png" for i in IDS))
    put(root / "masks", *(f"{i}_pixels0.png" for i in IDS))
    text(root / "idx_427" / "trainval.txt", "Misc_2\nMisc_1\n")
    text(root / "idx_427" / "test.txt", "Misc_10\n")


def serankdet(root: Path) -> None:
    for split, ids in (("trainval", ("Misc_1", "Misc_2")), ("test", ("Misc_10",))):
        put(root / split / "images", *(f"{i}.png" for i in ids))
        put(root / split / "masks", *(f"{i}.png" for i in ids))


def factseg(root: Path) -> None:
    for split, ids in (("train", ("Misc_1", "Misc_2")), ("test", ("Misc_10",))):
        put(root / split / "images" / "images", *(f"{i}.png" for i in ids))
        put(root / split / "masks" / "images", *(f"{i}_instance_color_RGB.png" for i in ids))


def irstd1k(root: Path) -> None:
    put(root / "IRSTD1k_Img", *(f"{i}.png" for i in IDS))
    put(root / "IRSTD1k_Label", *(f"{i}.png" for i in IDS))
    text(root / "trainval.txt", "Misc_2.png\nMisc_1.png\n")
    text(root / "test.txt", "Misc_10.png\n")


def plain(root: Path) -> None:
    put(root / "images", "Misc_1.bmp", "Misc_2.tif", "Misc_10.PNG")
    put(root / "masks", *(f"{i}_mask.png" for i in IDS))
    text(root / "README.txt", "Misc_1\n")
    text(root / "classes.txt", "target\n")


@pytest.mark.parametrize(
    ("make", "layout", "splits"),
    [
        (
            sirstdevkit,
            "sirstdevkit",
            {"trainval_v1": ["Misc_2", "Misc_1"], "test_v1": ["Misc_10"], "full/test": ["Misc_1"]},
        ),
        (palette_devkit, "sirstdevkit", {}),
        (open_sirst_v2, "open-sirst-v2", {"trainval_full": ["Misc_2", "Misc_1"], "test_full": ["Misc_10"]}),
        (basicirstd, "basicirstd", {"train_NUAA-SIRST": ["Misc_2", "Misc_1"], "test_NUAA-SIRST": ["Misc_10"]}),
        (dnanet, "dnanet", {"50_50/train": ["Misc_2", "Misc_1"], "50_50/test": ["Misc_10"]}),
        (repisdnet, "dnanet", {"idx_427/trainval": ["Misc_2", "Misc_1"], "idx_427/test": ["Misc_10"]}),
        (serankdet, "serankdet", {"trainval": ["Misc_1", "Misc_2"], "test": ["Misc_10"]}),
        (factseg, "factseg", {"train": ["Misc_1", "Misc_2"], "test": ["Misc_10"]}),
        (irstd1k, "irstd1k", {"trainval": ["Misc_2", "Misc_1"], "test": ["Misc_10"]}),
        (plain, "plain", {}),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_recognised(tmp_path: Path, make, layout: str, splits: dict[str, list[str]]) -> None:
    make(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == layout
    assert list(dataset.samples) == list(IDS)  # natural order
    assert all(s.mask is not None and s.mask.is_file() for s in dataset.samples.values())
    assert dataset.orphan_masks == () and dataset.hidden == ()
    assert {name: [s.name for s in dataset.split(name)] for name in dataset.splits} == splits
    assert [s.name for s in dataset.split()] == list(IDS)
    assert open_dataset(str(tmp_path), layout).samples == dataset.samples


def test_written_sets_open(tmp_path: Path) -> None:
    """What this package writes it also reads: lists of `motes data split` in a layout whose splits are folders."""
    serankdet(tmp_path)
    write_list(tmp_path / "seed0" / "val.txt", ["Misc_2"])
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["trainval", "test", "seed0/val"]
    assert [s.name for s in dataset.split("val")] == ["Misc_2"]


def test_symlinked_root_and_folders(tmp_path: Path) -> None:
    dnanet(tmp_path / "real")
    (tmp_path / "link").mkdir()
    try:
        for name in ("images", "masks", "50_50"):
            (tmp_path / "link" / name).symlink_to(tmp_path / "real" / name, target_is_directory=True)
        (tmp_path / "root").symlink_to(tmp_path / "link", target_is_directory=True)
    except OSError:
        pytest.skip("this file system has no symbolic links")
    assert [s.name for s in open_dataset(tmp_path / "root").split("test")] == ["Misc_10"]


def test_folder_names_in_any_case(tmp_path: Path) -> None:
    put(tmp_path / "Images", "a.png")
    put(tmp_path / "Masks", "a.png")
    sample = open_dataset(tmp_path).samples["a"]
    assert (sample.image.parent.name, sample.mask.parent.name) == ("Images", "Masks")


def test_same_stem_in_two_split_folders(tmp_path: Path) -> None:
    for split in ("trainval", "test"):
        put(tmp_path / split / "images", "0001.png", "0002.png")
        put(tmp_path / split / "masks", "0001.png", "0002.png")
    dataset = open_dataset(tmp_path)
    assert [s.name for s in dataset.split("test")] == ["test_0001", "test_0002"]
    assert dataset.samples["test_0001"].image == tmp_path / "test" / "images" / "0001.png"
    assert len(dataset.samples) == 4


def test_orphans_and_hidden_images(tmp_path: Path) -> None:
    put(tmp_path / "images", "a.bmp", "a.png", "b.png", "._b.png")
    put(tmp_path / "masks", "a.png", "c.png")
    dataset = open_dataset(tmp_path)
    assert dataset.samples["b"].mask is None
    assert [m.name for m in dataset.orphan_masks] == ["c.png"]
    assert [h.name for h in dataset.hidden] == ["a.png"]


def test_an_exact_mask_wins(tmp_path: Path) -> None:
    put(tmp_path / "images", "a.png", "a_mask.png")
    put(tmp_path / "masks", "a.png", "a_mask.png")
    samples = open_dataset(tmp_path).samples
    assert samples["a"].mask == tmp_path / "masks" / "a.png"
    assert samples["a_mask"].mask == tmp_path / "masks" / "a_mask.png"


def test_told_folders(tmp_path: Path) -> None:
    put(tmp_path / "frames", "a.png", "b.png")
    put(tmp_path / "labels", "a_gt.png", "b_gt.png")
    text(tmp_path / "lists" / "mine.txt", "b\n")
    dataset = open_dataset(tmp_path, image_dir="frames", mask_dir=tmp_path / "labels", split_file="lists/mine.txt")
    assert dataset.layout == "told"
    assert [(s.name, s.mask.name) for s in dataset.split("mine")] == [("b", "b_gt.png")]
    assert open_dataset(tmp_path, image_dir="frames").samples["a"].mask is None


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a_mask.png", "b.png")
    samples = open_dataset(tmp_path, image_dir=".", mask_dir=".").samples
    assert {n: s.mask and s.mask.name for n, s in samples.items()} == {"a": "a_mask.png", "b": None}


@pytest.mark.parametrize(
    "raw",
    [
        b"Misc_1\nMisc_2\n",
        b"Misc_1\r\nMisc_2",
        b"\xef\xbb\xbfMisc_1\n\nMisc_2\n",
        "Misc_1\r\nMisc_2\r\n".encode("utf-16"),
        b"Misc_1.png\nMisc_2.PNG\n",
        b"images/Misc_1.png\nimages\\Misc_2.tif\n",
        b"  Misc_1 \nMisc_2\t\n",
    ],
)
def test_list_files(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    assert read_list(tmp_path / "a.txt") == ["Misc_1", "Misc_2"]


def test_lists_that_name_the_masks(tmp_path: Path) -> None:
    repisdnet(tmp_path)
    text(tmp_path / "idx_427" / "test.txt", "Misc_10_pixels0.png\n")
    assert [s.name for s in open_dataset(tmp_path).split("test")] == ["Misc_10"]


@pytest.mark.parametrize(
    ("line", "name"), [("0.5", "0.5"), ("a.b.bmp", "a.b"), (".png", ".png"), ("frame.raw", "frame.raw")]
)
def test_bare_id(line: str, name: str) -> None:
    assert bare_id(line) == name


def test_repeated_id_is_one_sample(tmp_path: Path) -> None:
    dnanet(tmp_path)
    text(tmp_path / "50_50" / "test.txt", "Misc_10\nMisc_10\n")
    dataset = open_dataset(tmp_path)
    assert [s.name for s in dataset.split("test")] == ["Misc_10"]
    assert dataset.splits["50_50/test"] == ("Misc_10", "Misc_10")


def fails(message: str, *args: object, **options: object) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(*args, **options)
    assert message in str(caught.value)


def test_nested_root_names_the_folder(tmp_path: Path) -> None:
    dnanet(tmp_path / "NUAA-SIRST")
    fails(f"its sub-folder looks like one: {tmp_path / 'NUAA-SIRST'}", tmp_path)
    dnanet(tmp_path / "zip" / "NUDT-SIRST")
    fails("NUDT-SIRST", tmp_path)
    fails("the folder above it looks like one", tmp_path / "NUAA-SIRST" / "images")


def test_bad_roots(tmp_path: Path) -> None:
    plain(tmp_path / "SIRST")
    fails(f"did you mean {tmp_path / 'SIRST'}?", tmp_path / "SIRTS")
    fails("is a file", tmp_path / "SIRST" / "README.txt")
    (tmp_path / "nothing").mkdir()
    fails("found nothing", tmp_path / "nothing")
    fails("did you mean 'sirstdevkit'?", tmp_path / "SIRST", "sirstdevkt")
    fails("is not in the layout 'factseg'", tmp_path / "SIRST", "factseg")
    fails("no such folder: frames", tmp_path / "SIRST", image_dir="frames")
    fails("give both", tmp_path / "SIRST", mask_dir="masks")
    fails("no such split file: t.txt", tmp_path / "SIRST", split_file="t.txt")


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "images" / "inner").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    fails("it holds folders", tmp_path)


def test_bad_splits(tmp_path: Path) -> None:
    dnanet(tmp_path)
    text(tmp_path / "80_20" / "test.txt", "Misc_1\nMisc_12\n")
    dataset = open_dataset(tmp_path)
    for name, message in [
        ("50_50/tset", "did you mean '50_50/test'?"),
        ("test", "may be any of 50_50/test, 80_20/test"),
        ("80_20/test", "1 of 2 ids without an image, the first is 'Misc_12'"),
    ]:
        with pytest.raises(DataError) as caught:
            dataset.split(name)
        assert message in str(caught.value)


def test_no_lists_at_all(tmp_path: Path) -> None:
    plain(tmp_path)
    with pytest.raises(DataError, match="no split lists"):
        open_dataset(tmp_path).split("test")


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    dnanet(tmp_path)
    (tmp_path / "mine.bin").write_bytes(b"\xff\x00\x80")
    fails("is not a text file", tmp_path, split_file="mine.bin")


def test_sirst(sirst_root: Path) -> None:
    dataset = open_dataset(sirst_root)
    assert (dataset.layout, len(dataset.samples)) == ("sirstdevkit", 427)
    counts = {"trainval_v1": 341, "test_v1": 86, "trainval_idx320": 224, "test_idx320": 96, "train_dnanet": 213}
    assert {name: len(dataset.split(name)) for name in counts} == counts
    assert dataset.samples["Misc_111"].mask == sirst_root / "SIRST" / "BinaryMask" / "Misc_111_pixels0.png"
