"""The numbers of mmdetection's evaluation functions and of BAFE-Net's NoCoAP."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motes.metrics.box_curves import Ranking
from motes.metrics.box_matching import voc_flags
from motes.metrics.box_protocols import box_protocol
from motes.metrics.box_score import BoxScore
from motes.metrics.contrast import contrast_map, point_values

HERE = Path(__file__).resolve().parents[1] / "reference" / "voc_map"
CASES = {p.stem.removeprefix("case-"): json.loads(p.read_text(encoding="utf-8")) for p in sorted(HERE.glob("*.json"))}
NOCOAP = CASES.pop("nocoap")
TOLERANCE = 1e-6


def score(case: dict, plus_one: bool) -> BoxScore:
    total = BoxScore(replace(box_protocol("exact"), plus_one=plus_one), [str(c) for c in range(case["num_classes"])])
    for i, image in enumerate(case["images"]):
        dets = np.array(image["dets"], np.float32).reshape(-1, 5)
        gts, ignored = image["gts"], image.get("ignored", [])
        labels = [*image.get("gt_labels", [0] * len(gts)), *image.get("ignored_labels", [0] * len(ignored))]
        total.update(
            dets[:, :4], dets[:, 4], image.get("det_labels", [0] * len(dets)), [*gts, *ignored], labels,
            [False] * len(gts) + [True] * len(ignored), name=f"{i:03d}",
        )  # fmt: skip
    return total


def test_all_cases_are_here() -> None:
    assert len(CASES) == 12


@pytest.mark.parametrize("name", CASES)
def test_average_precision_recall_and_precision(name: str) -> None:
    case = CASES[name]
    scores = {u: score(case, u) for u in (True, False)}
    for row in case["expected_ap"]:
        total, where = scores[row["plus_one"]], (row["plus_one"], row["iou_thr"], row["mode"])
        found = total.average_precision(row["mode"], row["iou_thr"])
        counted = [v for v in found.values() if not np.isnan(v)]
        assert (np.mean(counted) if counted else 0) == pytest.approx(row["mean_ap"], abs=TOLERANCE), where
        for label, want in enumerate(row["classes"]):
            curve = total.curve(row["iou_thr"], label)
            assert (curve.truths, len(curve.scores)) == (want["num_gts"], want["num_dets"])
            if curve.truths:
                assert found[label] == pytest.approx(want["ap"], abs=TOLERANCE), (where, label)
                if len(curve.recall):
                    assert curve.recall[-1] == pytest.approx(want["recall"], abs=TOLERANCE), (where, label)
                    assert curve.precision[-1] == pytest.approx(want["precision"], abs=TOLERANCE), (where, label)


@pytest.mark.parametrize("name", CASES)
def test_flags(name: str) -> None:
    found = score(CASES[name], True).flags()
    for i, want in enumerate(CASES[name]["flags_iou50_plus_one_class0"]):
        labels = CASES[name]["images"][i].get("det_labels", [0] * len(CASES[name]["images"][i]["dets"]))
        assert found[f"{i:03d}"][np.array(labels, int) == 0].tolist() == want, i


@pytest.mark.parametrize("name", CASES)
def test_proposal_recall(name: str) -> None:
    for row in CASES[name]["proposal_recall"]:
        found = score(CASES[name], row["plus_one"]).proposal_recall(row["proposal_nums"], row["iou_thrs"])
        assert found == pytest.approx(np.array(row["recalls"]), abs=TOLERANCE)


@pytest.mark.parametrize(("protocol", "mode"), [("map07", "11points"), ("map12", "area")])
def test_the_keys_are_those_numbers(protocol: str, mode: str) -> None:
    case = CASES["random-dense"]
    for plus_one in (True, False):
        values = score(case, plus_one).compute(intervals=False)
        (want,) = [r for r in case["expected_ap"] if (r["plus_one"], r["iou_thr"], r["mode"]) == (plus_one, 0.5, mode)]
        assert values[protocol].value == pytest.approx(want["mean_ap"], abs=TOLERANCE)
        assert values["recall"].value == pytest.approx(want["classes"][0]["recall"], abs=TOLERANCE)
        assert values["precision"].value == pytest.approx(want["classes"][0]["precision"], abs=TOLERANCE)


def test_contrast_maps() -> None:
    for image in NOCOAP["images"]:
        found = contrast_map(np.array(image["image"]), np.array(image["boxes"]).reshape(-1, 4))
        assert found == pytest.approx(np.array(image["map"]), abs=TOLERANCE)


@pytest.mark.parametrize("threshold", [k for k in NOCOAP["expected"] if k[0] == "0"])
def test_nocoap(threshold: str) -> None:
    rows, truths, count = [], [], 0
    for i, image in enumerate(NOCOAP["images"]):
        boxes = np.array(image["boxes"]).reshape(-1, 4)
        points = np.array(image["detections"], np.float64).reshape(-1, 3)
        values, inside = point_values(points[:, :2], np.array(image["map"]), boxes)
        rows += zip(points[:, 2], [i] * len(points), values, np.where(inside < 0, -1, inside + count), strict=True)
        count += len(boxes)
        truths.append(len(boxes))
    scores, images, values, inside = (np.array(c) for c in zip(*sorted(rows, key=lambda r: -r[0]), strict=True))
    least = float(np.nextafter(float(threshold), 1))
    ranking = Ranking(voc_flags(values, inside.astype(int), np.zeros(count, bool), least), images, np.array(truths))
    want = NOCOAP["expected"][threshold]
    assert ranking.average_precision("area") == pytest.approx(want["ap"], abs=TOLERANCE)
    assert ranking.curve(scores).recall[-1] == pytest.approx(want["recall"], abs=TOLERANCE)


def test_mnocoap() -> None:
    total = BoxScore("exact")
    for i, image in enumerate(NOCOAP["images"]):
        x, y, scores = np.array(image["detections"], np.float64).reshape(-1, 3).T
        boxes, truths = np.stack([x - 1, y - 1, x + 1, y + 1], axis=1), np.array(image["boxes"]).reshape(-1, 4)
        pixels, zeros = np.array(image["image"]), np.zeros(len(truths), int)
        total.update(boxes, scores, [0] * len(x), truths, zeros, name=str(i), image=pixels)
    assert total.compute()["mnocoap"].value == pytest.approx(NOCOAP["expected"]["mNoCoAP"], abs=TOLERANCE)
