"""Boxes counted by hand, COCO's rule against another implementation of it, merging, intervals, bad input."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from motes.errors import DataError, MotesError
from motes.metrics import BoxScore, box_protocol
from motes.metrics.box_curves import Ranking
from motes.metrics.box_formulas import BANDS, OVERLAPS
from motes.metrics.box_matching import centre_flags

Image = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_images(seed: int, images: int = 12, classes: int = 1) -> list[Image]:
    """Truths of 2 to 20 px, detections near some and elsewhere: (boxes, scores, labels, truths, their labels)."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(images):
        count = int(rng.integers(0, 9))
        corner, sides = rng.uniform(0, 80, (count, 2)), rng.uniform(2, 9, (count, 2)) * rng.choice([1, 2.3], (count, 1))
        truths = np.concatenate([corner, corner + sides], axis=1)
        found = truths[rng.random(count) < 0.8]
        found = np.concatenate([found, found[::2]]) + rng.normal(0, 0.5, (len(found) + len(found[::2]), 4))
        corner = rng.uniform(0, 80, (4, 2))
        boxes = np.concatenate([found, np.concatenate([corner, corner + rng.uniform(2, 9, (4, 2))], axis=1)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.5)
        scores = rng.permutation(len(boxes) * 97)[: len(boxes)] / (97 * len(boxes))
        out.append(
            (
                *(boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, classes, len(boxes))),
                *(truths.astype(np.float32), rng.integers(0, classes, count)),
            )
        )
    return out


def scored(images: list[Image], protocol: str = "exact", classes: int = 1, **options) -> BoxScore:
    score = BoxScore(protocol, [f"c{c}" for c in range(classes)], **options)
    for i, image in enumerate(images):
        score.update(*image, size=(90, 100), name=f"{i:03d}")
    return score


@pytest.mark.parametrize(("seed", "classes"), [(0, 1), (1, 1), (2, 3)])
def test_coco_part_agrees_with_faster_coco_eval(seed: int, classes: int) -> None:
    """An implementation of COCO's rule that shares no line with ours."""
    pytest.importorskip("faster_coco_eval")
    from faster_coco_eval import COCO, COCOeval_faster

    images = random_images(seed, 20, classes)
    annotations, results = [], []
    for i, (boxes, scores, labels, truths, truth_labels) in enumerate(images):
        for box, label in zip(truths.astype(float).tolist(), truth_labels.tolist(), strict=True):
            xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": label, "bbox": xywh,
                 "area": xywh[2] * xywh[3], "iscrowd": 0}
            )  # fmt: skip
        for box, score, label in zip(boxes.astype(float).tolist(), scores.tolist(), labels.tolist(), strict=True):
            xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            results.append({"image_id": i, "category_id": label, "bbox": xywh, "score": score})
    categories = [{"id": c, "name": str(c)} for c in range(classes)]
    with redirect_stdout(io.StringIO()):
        truth = COCO({"images": [{"id": i, "height": 90, "width": 100} for i in range(len(images))],
                      "annotations": annotations, "categories": categories})  # fmt: skip
        judge = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        judge.params.areaRng = [[0, 1e10], *([low**2, min(high, 1e5) ** 2] for low, high in BANDS.values())]
        judge.params.areaRngLbl = ["all", *BANDS]
        judge.params.maxDets = [100]
        judge.params.iouThrs = np.array(OVERLAPS)
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, :, 0]  # [IoU, recall, class, band]

    def theirs(rows: np.ndarray) -> float | None:
        return float(rows[rows > -1].mean()) if (rows > -1).any() else None

    found = scored(images, classes=classes).compute(intervals=False)
    assert found["coco_ap"].value == pytest.approx(theirs(precision[..., 0]), abs=1e-6)
    assert found["ap@0.5"].value == pytest.approx(theirs(precision[0, ..., 0]), abs=1e-6)
    assert found["ap@0.75"].value == pytest.approx(theirs(precision[5, ..., 0]), abs=1e-6)
    for k, band in enumerate(BANDS, 1):
        want = theirs(precision[..., k])
        assert found[f"ap/{band}"].value == (None if want is None else pytest.approx(want, abs=1e-6)), band


def test_pd_and_false_alarms_counted_by_hand() -> None:
    score = BoxScore(box_protocol("exact").at(0.4))
    truths = [[10, 10, 13, 13], [30, 30, 34, 34], [50, 50, 52, 52]]
    boxes = [
        [11, 10, 14, 13],  # one px beside the first: found
        [9, 9, 15, 15],  # once more: a false alarm of 36 px
        [30, 33, 34, 37],  # exactly 3 px from the second: too far, 16 px
        [50, 50, 52, 52],  # found, but below the threshold
        [98, 88, 104, 94],  # half outside: 2 x 2 px
    ]
    score.update(boxes, [0.9, 0.8, 0.7, 0.3, 0.5], [0] * 5, truths, [0] * 3, size=(90, 100), name="a")
    score.update([], [], [], [], [], size=(90, 100), name="b")
    values = score.compute()
    assert (values["pd"].numerator, values["pd"].denominator) == (1, 3)
    assert (values["fa"].numerator, values["fa"].denominator) == (36 + 16 + 4, 18000)
    assert values["false_alarms_per_image"].value == 1.5
    assert values["false_alarms_per_megapixel"].value == pytest.approx(3 / 0.018)
    # Two false alarms in two images are allowed: down to 0.7 that is one target; 0.5 would be a third.
    assert values["pd@1"].numerator == 1
    assert values["centre_ap"].value == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 5)


def test_the_nearest_free_target_is_taken_and_ignored_ones_take_detections_out() -> None:
    truths = np.array([[0, 0, 4, 4], [3, 0, 7, 4], [20, 0, 24, 4]], np.float32)
    boxes = np.array([[2, 0, 6, 4], [0.5, 0, 4.5, 4], [2, 0, 6, 4], [20, 0, 24, 4], [21, 0, 25, 4]], np.float32)
    flags = centre_flags(boxes, truths, np.array([False, False, True]), 3.0)
    assert flags.tolist() == [1, 1, -1, 0, 0]


@pytest.mark.parametrize("protocol", ["exact", "deepir"])
def test_merged_shards_equal_one_process(protocol: str) -> None:
    images = random_images(3, 14, 2)
    whole = scored(images, protocol, 2)
    parts = [BoxScore(protocol, ["c0", "c1"]) for _ in range(3)]
    for i in np.random.default_rng(0).permutation(len(images)).tolist():
        parts[i % 3].update(*images[i], size=(90, 100), name=f"{i:03d}")
    restored = [BoxScore.from_state(p.state()) for p in parts]
    merged = restored[2].merge(restored[0]).merge(restored[1])
    assert merged.compute() == whole.compute()
    assert merged.per_image() == whole.per_image() and merged.facts() == whole.facts()


def test_weighted_curves_are_those_of_repeated_images() -> None:
    """What the bootstrap computes with weights, computed by repeating the images."""
    images = random_images(4, 8)
    ranking = scored(images)._matched(coco=True)[0].voc(0.5)
    weights = np.random.default_rng(1).integers(0, 3, (5, 8)).astype(float)
    for mode in ("area", "11points", "101points"):
        found = ranking.resampled(mode, weights)
        for row, value in zip(weights.astype(int), found.tolist(), strict=True):
            times = row[ranking.images]
            again = Ranking(
                np.repeat(ranking.flags, times), np.zeros(times.sum(), int), np.array([ranking.truths @ row])
            )
            want = again.average_precision(mode)
            assert value == pytest.approx(want, abs=1e-9), mode
    ones = np.ones((1, 8))
    assert ranking.resampled("area", ones)[0] == ranking.average_precision("area")
    assert ranking.resampled("area", 2 * ones)[0] == pytest.approx(ranking.average_precision("area"))


def test_intervals_hold_the_value_and_can_be_left_out() -> None:
    score = scored(random_images(5, 30))
    with_, without = score.compute(), score.compute(intervals=False)
    assert {k: v.value for k, v in with_.items()} == {k: v.value for k, v in without.items()}
    for key in ("map12", "map07", "coco_ap", "centre_ap", "recall", "pd"):
        low, high = with_[key].interval or (1, 0)
        assert low <= with_[key].value <= high and low < high, key
        assert without[key].interval is None
    quick = score.compute(intervals=False, coco=False)
    assert "coco_ap" not in quick and quick["map12"] == without["map12"]


def test_images_without_truth_or_detections() -> None:
    empty = BoxScore("exact")
    assert {k: v.value for k, v in empty.compute().items()}["map12"] is None
    empty.update([], [], [], [], [], size=(9, 9), name="a")
    values = empty.compute()
    assert values["map12"].value is None and values["pd"].value is None and values["fa"].value == 0
    empty.update([[1, 1, 3, 3]], [0.9], [0], [], [], size=(9, 9), name="b")
    assert empty.compute()["fa"].value == pytest.approx(4 / 162)
    old = BoxScore("deepir")
    old.update([[1, 1, 3, 3]], [0.9], [0], [], [], size=(9, 9), name="b")
    assert old.compute()["map07"].value == 0  # mmdetection says 0 where there is nothing to find


def test_one_right_detection_first_is_an_eleventh() -> None:
    score = BoxScore("deepir")
    truths = [[x, 0, x + 4, 4] for x in range(0, 200, 8)]
    score.update([truths[0]], [0.9], [0], truths, [0] * len(truths))
    assert score.compute()["map07"].value == pytest.approx(1 / 11)


def test_sky_iou_without_what_is_not_known() -> None:
    score = BoxScore("exact")
    sky, truth = np.zeros((4, 5)), np.zeros((4, 5), np.uint8)
    sky[:2], truth[1:3], truth[0, 0], truth[3, 0] = 0.9, 1, 255, 255
    score.update([], [], [], [], [], size=(4, 5), name="a", sky=sky, truth_sky=truth)
    score.update([], [], [], [], [], size=(4, 5), name="b")
    value = score.compute()["sky_iou"]
    assert (value.numerator, value.denominator) == (5, 5 + 4 + 5)
    assert [row["sky_iou"] for row in score.per_image()] == [5 / 14, None]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"boxes": [[1, 2, 3]]}, "detections of 'a': boxes of shape [1, 3], expected [N, 4]"),
        ({"boxes": [[5, 0, 3, 4]]}, "detections of 'a': box 1 is (5, 0, 3, 4), expected x1 <= x2 and y1 <= y2"),
        ({"boxes": [[0, 0, np.nan, 4]]}, "numbers that are not finite"),
        ({"scores": [1.5]}, "scores of 'a' from 1.5 to 1.5, expected 0 to 1"),
        ({"scores": []}, "1 boxes of 'a' come with 0 scores, expected as many"),
        ({"truth_labels": [0, 0]}, "1 boxes of 'a' come with 2 truth labels"),
        ({"sky": np.zeros((3, 3)), "truth_sky": np.zeros((4, 4))}, "the sky map of 'a' is (3, 3), its truth (4, 4)"),
    ],
)
def test_bad_input(change: dict, says: str) -> None:
    good = {"boxes": [[0, 0, 3, 4]], "scores": [0.5], "labels": [0], "truth_boxes": [[0, 0, 3, 4]], "truth_labels": [0]}
    with pytest.raises(DataError) as caught:
        BoxScore("exact").update(**(good | change), name="a")
    assert says in str(caught.value)


def test_protocols_are_looked_up_and_only_equals_merge() -> None:
    with pytest.raises(MotesError, match="did you mean 'deepir'"):
        BoxScore("deepr")
    assert BoxScore("native").protocol.name == "exact"
    with pytest.raises(DataError, match="'exact' and 'deepir'"):
        BoxScore("exact").merge(BoxScore("deepir"))
    with pytest.raises(DataError, match="same protocol, threshold"):
        BoxScore("exact").merge(BoxScore(replace(box_protocol("exact"), iou=0.3)))
