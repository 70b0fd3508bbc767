"""Each finding of ``check`` appears where its cause is, and a clean set gives none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motes.data import check, info, open_dataset
from motes.data.findings import KINDS, SEVERITIES
from motes.data.roles import disjoint_pairs, role
from motes.errors import DataError
from motes.imaging import read_image, write_image

CORNER = {f"f{i}": (3 + 4 * i, 5 + 3 * i) for i in range(6)}
"""Name -> (x, y) of the upper left pixel of its 3x2 target."""


def devkit(root: Path) -> Path:
    """Six unlike frames of 48x40 px with one target each, boxes 1-based with exclusive ends, three lists."""
    for n, (name, (x, y)) in enumerate(CORNER.items()):
        pixels = np.random.default_rng(n).integers(0, 200, (40, 48, 1), dtype=np.uint8)
        mask = np.zeros((40, 48, 1), np.uint8)
        mask[y : y + 2, x : x + 3] = 255
        write_image(root / "PNGImages" / f"{name}.png", pixels)
        write_image(root / "SIRST" / "BinaryMask" / f"{name}_pixels0.png", mask)
        boxes(root, name, [(x + 1, y + 1, x + 4, y + 3)])
        points(root, name, [(x + 2.0, y + 1.5)])
    lists(root, train_v1="f0 f1", val_v1="f2", trainval_v1="f0 f1 f2", test_v1="f3 f4 f5")
    return root


def boxes(root: Path, name: str, corners: list[tuple[int, int, int, int]]) -> None:
    tags = ("xmin", "ymin", "xmax", "ymax")
    items = ("".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, c, strict=True)) for c in corners)
    objects = "".join(f"<object><name>Target</name><bndbox>{i}</bndbox></object>" for i in items)
    file = root / "SIRST" / "BBox" / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")


def points(root: Path, name: str, xy: list[tuple[float, float]]) -> None:
    file = root / "SIRST" / "Point_label" / f"{name}_pixels0.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{x} {y}\n" for x, y in xy), encoding="utf-8")


def lists(root: Path, **ids: str) -> None:
    (root / "Splits").mkdir(parents=True, exist_ok=True)
    for name, words in ids.items():
        (root / "Splits" / f"{name}.txt").write_text("\n".join(words.split()), encoding="utf-8")


def image(root: Path, name: str) -> Path:
    return root / "PNGImages" / f"{name}.png"


def mask(root: Path, name: str) -> Path:
    return root / "SIRST" / "BinaryMask" / f"{name}_pixels0.png"


def repaint(file: Path, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    pixels = read_image(file).pixels.copy()
    changed = change(pixels)
    write_image(file, pixels if changed is None else changed)


def findings(root: Path, **options: float) -> list[tuple[str, str]]:
    return [(f.kind, f.subject) for f in check(open_dataset(root), **options)]


def test_a_clean_set_gives_none(tmp_path: Path) -> None:
    assert check(open_dataset(devkit(tmp_path))) == []


def cut_short(root: Path) -> None:
    image(root, "f0").write_bytes(image(root, "f0").read_bytes()[:60])


def text_for_mask(root: Path) -> None:
    mask(root, "f0").write_text("no mask", encoding="utf-8")


def mask_gone(root: Path) -> None:
    mask(root, "f0").unlink()


def image_gone(root: Path) -> None:
    write_image(mask(root, "f9"), np.zeros((8, 8, 1), np.uint8))


def two_suffixes(root: Path) -> None:
    write_image(root / "PNGImages" / "f0.bmp", np.zeros((8, 8, 1), np.uint8))


def other_size(root: Path) -> None:
    repaint(mask(root, "f0"), lambda p: np.pad(p, ((0, 1), (0, 0), (0, 0))))


def soft_edge(root: Path) -> None:
    def soften(p: np.ndarray) -> None:
        p[0, 0] = 100  # below half, so the targets stay the same

    repaint(mask(root, "f0"), soften)


def inverted(root: Path) -> None:
    repaint(mask(root, "f0"), lambda p: 255 - p)
    boxes(root, "f0", [(1, 1, 49, 41)])


def emptied(root: Path) -> None:
    repaint(mask(root, "f0"), lambda p: np.zeros_like(p))
    boxes(root, "f0", [])
    points(root, "f0", [])


def one_pixel(root: Path) -> None:
    def cut(p: np.ndarray) -> None:
        x, y = CORNER["f0"]
        p[y : y + 2, x : x + 3] = 0
        p[y, x] = 255

    repaint(mask(root, "f0"), cut)
    x, y = CORNER["f0"]
    boxes(root, "f0", [(x + 1, y + 1, x + 2, y + 2)])


def box_elsewhere(root: Path) -> None:
    boxes(root, "f0", [(30, 30, 34, 33)])


def second_box(root: Path) -> None:
    x, y = CORNER["f0"]
    boxes(root, "f0", [(x + 1, y + 1, x + 4, y + 3), (30, 30, 34, 33)])


def zero_based_box(root: Path) -> None:
    x, y = CORNER["f0"]
    boxes(root, "f0", [(x, y, x + 3, y + 2)])


def broken_xml(root: Path) -> None:
    (root / "SIRST" / "BBox" / "f0.xml").write_text("<annotation>", encoding="utf-8")


def words_for_numbers(root: Path) -> None:
    (root / "SIRST" / "Point_label" / "f0_pixels0.txt").write_text("left top\n", encoding="utf-8")


def second_point(root: Path) -> None:
    points(root, "f0", [(4, 5), (30, 30)])


def copied(root: Path) -> None:
    grey = read_image(image(root, "f0")).pixels
    write_image(image(root, "f1"), np.repeat(grey, 3, axis=2))  # the same picture, stored as colour


def copied_into_test(root: Path) -> None:
    shutil.copy(image(root, "f0"), image(root, "f3"))


def next_frame_in_test(root: Path) -> None:
    repaint(image(root, "f0"), lambda p: p.repeat(2, 0).repeat(2, 1)[:40, :48])
    shutil.copy(image(root, "f0"), image(root, "f3"))
    repaint(image(root, "f3"), lambda p: p // 2 + 60)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (cut_short, [("unreadable-image", "f0")]),
        (text_for_mask, [("unreadable-mask", "f0")]),
        (mask_gone, [("image-without-mask", "f0")]),
        (image_gone, [("mask-without-image", "f9_pixels0.png")]),
        (two_suffixes, [("size-mismatch", "f0"), ("hidden-image", "f0.png")]),
        (other_size, [("size-mismatch", "f0")]),
        (soft_edge, [("mask-values", "f0")]),
        (inverted, [("mask-mostly-target", "f0")]),
        (emptied, [("empty-mask", "f0")]),
        (one_pixel, [("one-pixel-target", "f0")]),
        (box_elsewhere, [("box-mismatch", "f0")]),
        (second_box, [("box-mismatch", "f0")]),
        (zero_based_box, [("box-convention", "f0")]),
        (broken_xml, [("unreadable-annotation", "f0")]),
        (words_for_numbers, [("unreadable-annotation", "f0")]),
        (second_point, [("point-mismatch", "f0")]),
        (copied, [("duplicate-content", "f0")]),
        (copied_into_test, [("overlap", "trainval_v1 and test_v1"), ("duplicate-content", "f0")]),
        (next_frame_in_test, [("near-twins", "trainval_v1 and test_v1")]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_each_finding(tmp_path: Path, spoil: Callable[[Path], None], expected: list[tuple[str, str]]) -> None:
    spoil(devkit(tmp_path))
    assert findings(tmp_path) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"test_v1": "f3 f77"}, [("missing-id", "test_v1")]),
        ({"test_v1": "f3 f4 f3"}, [("repeated-id", "test_v1")]),
        ({"test_v1": "f2 f3"}, [("overlap", "trainval_v1 and test_v1")]),
        ({"val_v1": "f1 f2"}, [("overlap", "train_v1 and val_v1")]),
        ({"test_old": "f0", "train_old": "f1"}, [("overlap-elsewhere", "trainval_v1 and test_old")]),
        ({"hard": "f0 f3"}, []),  # a list without a role may hold anything
    ],
)
def test_each_finding_of_lists(tmp_path: Path, changed: dict[str, str], expected: list[tuple[str, str]]) -> None:
    lists(devkit(tmp_path), **changed)
    assert findings(tmp_path) == expected


def test_every_kind_is_covered_here() -> None:
    files = (
        Path(__file__),
        Path(__file__).with_name("test_aerial_checks.py"),
        Path(__file__).with_name("test_box_checks.py"),
    )
    source = "".join(f.read_text(encoding="utf-8") for f in files)
    assert [kind for kind in KINDS if f'"{kind}"' not in source] == []
    assert {severity for severity, _ in KINDS.values()} == set(SEVERITIES)


def test_errors_come_first_and_twins_follow_the_threshold(tmp_path: Path) -> None:
    emptied(devkit(tmp_path))
    lists(tmp_path, test_v1="f3 f3 f77")
    assert [f.severity for f in check(open_dataset(tmp_path))] == ["error", "warning", "note"]
    next_frame_in_test(tmp_path)
    assert ("near-twins", "trainval_v1 and test_v1") in findings(tmp_path, twins=0.99)
    assert ("near-twins", "trainval_v1 and test_v1") not in findings(tmp_path, twins=1.0)
    with pytest.raises(DataError, match="near-twin threshold"):
        check(open_dataset(tmp_path), twins=90)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("test_v1", ("test", "v1")),
        ("mini_trainval", ("trainval", "mini")),
        ("50_50/train", ("train", "50_50")),
        ("train_NUAA-SIRST", ("train", "NUAA-SIRST")),
        ("validation", ("val", "")),
        ("trainvaltest_v1", ("all", "v1")),
        ("hard", ("", "hard")),
    ],
)
def test_roles(split: str, expected: tuple[str, str]) -> None:
    assert role(split) == expected


def test_pairs_that_must_be_disjoint() -> None:
    whole = {"train": "ab", "val": "c", "trainval": "abc", "test": "d"}
    assert disjoint_pairs(whole) == [("train", "val"), ("trainval", "test")]
    assert disjoint_pairs(whole | {"val": "z"}) == [("train", "val"), ("val", "test"), ("trainval", "test")]
    assert disjoint_pairs({"train": "ab", "test": "d", "test_b": "a"}) == [("train", "test")]


@pytest.mark.parametrize("shift", [(0, 0), (0, -1), (1, 1), (1, 0)])
def test_box_convention_is_decided_against_the_masks(tmp_path: Path, shift: tuple[int, int]) -> None:
    devkit(tmp_path)
    low, high = shift
    for name, (x, y) in CORNER.items():
        boxes(tmp_path, name, [(x + low, y + low, x + 3 + high, y + 2 + high)])
    found = info(open_dataset(tmp_path))
    expected = f"{low}-based, end {'inclusive' if high < low else 'exclusive'}"
    assert (found["box_convention"], found["boxes_matched"]) == (expected, [6, 6])
    assert check(open_dataset(tmp_path)) == []


def test_info_counts(tmp_path: Path) -> None:
    one_pixel(devkit(tmp_path))
    cut_short_name = image(tmp_path, "f5")
    cut_short_name.write_bytes(b"")
    lists(tmp_path, test_v1="f3 f4 f4 f77")
    found = info(open_dataset(tmp_path))
    assert (found["layout"], found["images"], found["masks"], found["unreadable"]) == ("sirstdevkit", 6, 6, 1)
    assert (found["targets"], found["targets_per_image"]) == (6, {"1": 6})
    assert found["target_area"]["0"] == 1 and found["target_area"]["1"] == 6
    assert found["width"] == {"min": 48, "median": 48, "max": 48}
    assert found["types"] == {"uint8 x1": 5}
    assert found["splits"]["test_v1"] == {"images": 2, "targets": 2, "missing": 1}


def test_sirst(sirst_root: Path) -> None:
    """The numbers of the set's README, and what is known to be wrong with it."""
    dataset = open_dataset(sirst_root)
    found = info(dataset)
    assert (found["images"], found["targets"], found["empty_masks"]) == (427, 533, 0)
    assert found["targets_per_image"] == {"1": 358, "2": 48, "3": 13, "4": 4, "5": 1, "6": 2, "7": 1}
    assert {s: found["splits"][s]["targets"] for s in ("train_v1", "val_v1", "test_v1")} == {
        "train_v1": 327,
        "val_v1": 97,
        "test_v1": 109,
    }
    assert (found["box_convention"], found["boxes_matched"]) == ("1-based, end exclusive", [532, 533])
    assert (found["target_area"]["0"], found["target_area"]["0.5"], found["target_area"]["1"]) == (4, 20, 330)
    by_kind: dict[str, list[str]] = {}
    for f in check(dataset):
        by_kind.setdefault(f.kind, []).append(f"{f.subject}: {f.message}")
    assert set(by_kind) == {"box-mismatch", "near-twins", "overlap-elsewhere"}
    assert [m.split(":")[0] for m in by_kind["box-mismatch"]] == ["Misc_111"]
    elsewhere = "\n".join(by_kind["overlap-elsewhere"])
    assert "trainval_v1 and test_idx320: 77 of 96" in elsewhere
    assert "trainval_v1 and test_dnanet: 172 of 214" in elsewhere
    assert any("trainval_v1 and test_v1: 24 of 86" in m for m in by_kind["near-twins"])


def test_the_first_release_mask_of_sirst(sirst_root: Path, tmp_path: Path) -> None:
    """Misc_111 as first published: a mask of 592x400 for an image of 325x220."""
    old = sirst_root / "extras" / "Misc_111_pixels0.v1-release.png"
    if not old.is_file():
        pytest.skip(f"no {old}")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    shutil.copy(sirst_root / "PNGImages" / "Misc_111.png", tmp_path / "images")
    shutil.copy(old, tmp_path / "masks" / "Misc_111_pixels0.png")
    (finding,) = check(open_dataset(tmp_path))
    assert (finding.kind, finding.message) == ("size-mismatch", "image 325x220, mask 592x400 (width x height)")
