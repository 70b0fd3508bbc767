"""The three cutting rules against the published scripts' own windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.data.cutting import RULES, boxes, crop, is_whole, patch_name
from motes.errors import DataError

CASES = json.loads((Path(__file__).parents[1] / "reference" / "isaid" / "crops.json").read_text(encoding="utf-8"))
IMAGES = [pytest.param(c, id=f"{c['height']}x{c['width']}") for c in CASES["images"]]


@pytest.mark.parametrize("case", IMAGES)
def test_the_published_windows(case: dict) -> None:
    size = case["height"], case["width"]
    for name, patch, stride in (("split_896_384", 896, 512), ("split_800_200", 800, 600)):
        found = boxes(size, "split", patch, stride)
        if case[name]["copied_whole"]:
            assert len(found) == 1 and is_whole(found[0], size)
        else:
            assert found == [tuple(b) for b in case[name]["boxes"]]
    assert boxes(size, "window", 896, 512) == [tuple(b) for b in case["window_896_512"]]
    assert boxes(size, "pad-split", 896, 512) == [tuple(b) for b in case["pad_split_896_384"]["boxes"]]
    height, width = case["pad_split_896_384"]["padded"]
    assert max(b[3] for b in boxes(size, "pad-split")) == height
    assert max(b[2] for b in boxes(size, "pad-split")) == width


@pytest.mark.parametrize(("size", "box"), [((800, 896), (0, 0, 896, 896)), ((896, 500), (0, 0, 896, 896))])
def test_no_sliver(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert boxes(size, "pad-split") == [box]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(5, 7), (16, 16), (17, 40), (16, 33), (40, 17), (41, 55)])
@pytest.mark.parametrize("stride", [16, 10, 1])
def test_every_pixel_is_covered_once_at_least(rule: str, size: tuple[int, int], stride: int) -> None:
    found = boxes(size, rule, 16, stride)
    covered = np.zeros(size, int)
    for x0, y0, x1, y1 in found:
        assert x0 >= 0 and y0 >= 0
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    assert len(set(found)) == len(found)


def test_the_rules_agree_on_large_images() -> None:
    size = (1500, 2011)
    assert set(boxes(size, "split")) == set(boxes(size, "window")) == set(boxes(size, "pad-split"))


def test_crop_pads_at_the_right_and_the_bottom() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(crop(image, (2, 1, 5, 4), 255), [[6, 7, 255], [10, 11, 255], [255, 255, 255]])
    assert crop(image[..., None].repeat(3, -1), (0, 0, 6, 6)).shape == (6, 6, 3)
    assert patch_name("P0003", (512, 0, 1408, 896)) == CASES["file_name"].format(
        stem="P0003", x0=512, y0=0, x1=1408, y1=896, suffix=""
    ).removesuffix(".png")


@pytest.mark.parametrize(
    ("rule", "patch", "stride", "message"),
    [
        ("padsplit", 896, 512, "unknown cutting rule 'padsplit' \\(did you mean 'pad-split'"),
        ("split", 512, 896, "patch 512 and stride 896 px.*would leave pixels out"),
        ("split", 0, 1, "patch 0"),
        ("split", 16, 0, "stride 0"),
    ],
)
def test_what_makes_no_sense(rule: str, patch: int, stride: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        boxes((100, 100), rule, patch, stride)
