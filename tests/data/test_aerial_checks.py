"""What ``motes data info`` and ``check`` find in data sets with classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from motes.data import Finding, check, info, open_dataset
from motes.data.aerial_scenes import FORMS, write_aerial
from motes.data.classes import class_table
from motes.data.labels import read_labels, to_colours, write_labels
from motes.data.prepare import prepare
from motes.data.raw_files import isaid_files
from motes.imaging import read_image, write_image

ISAID = class_table("isaid")
SIZE = 70, 90
USUAL = {"unlabelled-split", "class-absent", "patch-count"}


def found(root: Path, **options) -> list[Finding]:
    """What is not normal for a miniature."""
    return [f for f in check(open_dataset(root, **options)) if f.kind not in USUAL]


@pytest.mark.parametrize("layout", FORMS)
def test_miniatures_are_sound(layout: str, tmp_path: Path) -> None:
    root = tmp_path / layout.removeprefix("gaofen-")
    write_aerial(root, layout, 8, (96, 120))
    assert found(root) == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_aerial(tmp_path / "iSAID", "isaid", 6, SIZE)
    return tmp_path / "iSAID"


def test_info_counts_the_pixels_of_classes(source: Path) -> None:
    data = open_dataset(source)
    report = info(data)
    masks = [read_labels(s.mask, ISAID) for s in data.samples.values() if s.mask]
    total = np.bincount(np.concatenate([m.ravel() for m in masks]), minlength=16)
    assert {n: c["pixels"] for n, c in report["classes"].items()} == dict(zip(ISAID.names, total.tolist(), strict=True))
    assert report["classes"]["background"]["share"] == pytest.approx(total[0] / total.sum())
    assert report["classes"]["background"]["images"] == 5
    assert (report["images"], report["masks"], report["class_table"]) == (6, 5, "isaid")
    assert (report["unknown"], report["ignored"], report["mask_forms"]) == ([], 0, {"colours": 5})
    assert {n: s["images"] for n, s in report["splits"].items()} == {"train": 3, "val": 2, "test": 1}
    train = report["splits"]["train"]["classes"], report["splits"]["val"]["classes"]
    assert [train[0][n] + train[1][n] for n in ISAID.names] == total.tolist()


def test_info_tells_foreign_colours_and_padding(source: Path, tmp_path: Path) -> None:
    mask = source / "val" / "images" / "P0001_instance_color_RGB.png"
    rgb = read_image(mask).pixels.copy()
    rgb[:3, :4] = 1, 2, 3
    write_image(mask, rgb)
    report = info(open_dataset(source))
    assert report["unknown"] == [{"colour": [1, 2, 3], "pixels": 12}]
    assert sum(c["pixels"] for c in report["classes"].values()) == 5 * 70 * 90 - 12
    prepare(isaid_files(source), tmp_path / "out", ISAID, "pad-split", 100, 100)
    assert info(open_dataset(tmp_path / "out"))["ignored"] == 5 * (100 * 100 - 70 * 90)


def no_mask(image: Path, mask: Path) -> None:
    mask.unlink()


def other_size(image: Path, mask: Path) -> None:
    write_image(mask, np.zeros((9, 8, 3), np.uint8))


def foreign(image: Path, mask: Path) -> None:
    rgb = read_image(mask).pixels.copy()
    rgb[0, :7] = 200, 100, 50
    write_image(mask, rgb)


def no_ids(image: Path, mask: Path) -> None:
    write_image(mask, (np.arange(SIZE[0] * SIZE[1]) % 18).astype(np.uint8).reshape(*SIZE, 1))


def no_palette(image: Path, mask: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 16, SIZE).astype(np.uint8)
    Pillow.fromarray(ids, mode="P").save(mask)


def sixteen_bits(image: Path, mask: Path) -> None:
    write_image(image, read_image(image).pixels.astype(np.uint16) * 16)


def empty_image(image: Path, mask: Path) -> None:
    image.write_bytes(b"")


def empty_mask(image: Path, mask: Path) -> None:
    mask.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (no_mask, "image-without-mask", "no mask for "),
        (other_size, "size-mismatch", "image 90x70, mask 8x9 (width x height)"),
        (foreign, "unknown-colours", "1 colour that is no class's: (200, 100, 50) x 7 px"),
        (no_ids, "unknown-colours", "2 values that are no class's: 16 x 350 px, 17 x 350 px"),
        (no_palette, "labels-collapsed", "its ids are lost"),
        (sixteen_bits, "image-type", "3 bands of uint16, expected 1 (grey) or 3 (RGB) of uint8"),
        (empty_image, "unreadable-image", "P0001.png: is empty (0 bytes)"),
        (empty_mask, "unreadable-mask", "P0001_instance_color_RGB.png: is empty (0 bytes)"),
    ],
)
def test_bad_samples(source: Path, spoil: Callable[[Path, Path], None], kind: str, message: str) -> None:
    folder = source / "val" / "images"
    spoil(folder / "P0001.png", folder / "P0001_instance_color_RGB.png")
    (finding,) = found(source)
    assert (finding.kind, finding.subject, finding.severity) == (kind, "P0001", "error")
    assert message in finding.message


def test_four_bands(tmp_path: Path) -> None:
    write_aerial(tmp_path, "potsdam", 3, SIZE)
    sample = open_dataset(tmp_path).split("train")[0]
    write_image(sample.image, np.random.default_rng(0).integers(0, 256, (*SIZE, 4)).astype(np.uint8))
    (finding,) = found(tmp_path)
    assert (finding.kind, finding.message) == (
        "image-type",
        "4 bands of uint8, expected 1 (grey) or 3 (RGB) of uint8",
    )


@pytest.mark.parametrize("written", ["palette", "grey"])
def test_a_preparation_whose_labels_collapsed(source: Path, tmp_path: Path, written: str) -> None:
    """By way of ``Image.fromarray(ids, "P")``; and the same once more through a grey copy, where no file shows it."""
    prepare(isaid_files(source), tmp_path / "out", ISAID, "pad-split", 48, 32)
    assert found(tmp_path / "out") == []
    masks = sorted(tmp_path.glob("out/*/masks/*.png"))
    for mask in masks:
        ids = read_labels(mask, ISAID)
        if written == "palette":
            Pillow.fromarray(ids, mode="P").save(mask)
        else:
            write_labels(mask, (ids > 0).astype(np.uint8))
    findings = found(tmp_path / "out")
    assert {(f.kind, f.severity) for f in findings} == {("labels-collapsed", "error")}
    if written == "grey":
        assert findings[0].message.startswith(f"all {len(masks)} masks hold 0 and 1 only, of 16 classes")


def test_two_classes_do_not_collapse(tmp_path: Path) -> None:
    write_aerial(tmp_path / "img", "gaofen-img", 3, SIZE)
    for mask in tmp_path.glob("img/*/gt/*.png"):
        write_labels(mask, read_image(mask).pixels[..., 0] // 255)
    assert found(tmp_path / "img") == []


def test_expected_counts(source: Path, tmp_path: Path) -> None:
    def counts(root: Path) -> list[str]:
        return [f"{f.subject}: {f.message}" for f in check(open_dataset(root)) if f.kind == "patch-count"]

    assert counts(source) == []
    prepare(isaid_files(source), tmp_path / "a", ISAID, "pad-split", 896, 512)
    assert counts(tmp_path / "a") == [
        "train: 3 patches of 3 images; the whole of iSAID: 33,978 patches of 1,409 images by pad-split 896/512",
        "val: 2 patches of 2 images; the whole of iSAID: 11,644 patches of 458 images by pad-split 896/512",
    ]
    prepare(isaid_files(source), tmp_path / "b", ISAID, "split", 48, 32)
    assert counts(tmp_path / "b")[0] == "train: 18 patches of 3 images; the whole of iSAID: 1,409 images"


def test_what_was_not_finished_and_what_is_gone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(isaid_files(source), out, ISAID, "pad-split", 48, 32)
    patch = "P0000_0_48_0_48"
    (out / "train" / "images" / f"{patch}.png").unlink()
    (out / "train" / "masks" / f"{patch}_instance_color_RGB.png").unlink()
    with (out / "prepared.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"begin": "val/P0001", "stamps": [], "images": [], "masks": [], "unknown": ""}\n')
    assert {(f.kind, f.subject, f.severity) for f in found(out)} == {
        ("missing-patch", "train/P0000", "error"),
        ("preparation-unfinished", "out", "warning"),
    }


def test_colours_that_were_lost_in_preparation_are_still_told(source: Path, tmp_path: Path) -> None:
    foreign(Path(), source / "val" / "images" / "P0001_instance_color_RGB.png")
    prepare(isaid_files(source), tmp_path / "out", ISAID, "pad-split", 48, 32)
    (finding,) = found(tmp_path / "out")
    assert (finding.kind, finding.subject) == ("unknown-colours", "val/P0001")
    assert "(200, 100, 50) x 7 px" in finding.message


def test_black_borders_are_not_one_picture(tmp_path: Path) -> None:
    write_aerial(tmp_path, "patches", 8, SIZE)
    data = open_dataset(tmp_path)
    for split in ("train", "val"):
        write_image(data.split(split)[0].image, np.zeros((*SIZE, 3), np.uint8))
    assert found(tmp_path) == []
    image = data.split("train")[1].image
    data.split("val")[1].image.write_bytes(image.read_bytes())
    assert {f.kind for f in found(tmp_path)} == {"overlap", "duplicate-content"}


def test_classes_that_the_user_names(tmp_path: Path) -> None:
    ids = np.zeros(SIZE, np.uint8)
    ids[:9] = 4
    potsdam = class_table("potsdam")
    rng = np.random.default_rng(0)
    for n in range(2):
        write_image(tmp_path / "a" / f"{n}.png", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
        write_image(tmp_path / "b" / f"{n}.png", to_colours(ids, potsdam))
    data = open_dataset(tmp_path, image_dir="a", mask_dir="b", classes="potsdam")
    assert [f.kind for f in check(data)] == ["class-absent"]
    assert info(data)["classes"]["car"]["pixels"] == 2 * 9 * 90
