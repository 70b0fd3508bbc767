"""The numbers of the authors' evaluation codes, per case and accumulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.metrics import SegmentationScore, protocol

HERE = Path(__file__).resolve().parents[1] / "reference" / "metrics"
EXPECTED = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-6
ARRAYS = np.load(HERE / "cases.npz")
MAPS = {str(n): (p, y > 0) for n, p, y in zip(ARRAYS["names"], ARRAYS["prob"], ARRAYS["label"], strict=True)}

PIXELS = {"iou": "IoU"}
TARGETS = {"pd": "Pd", "fa": "Fa"}
OPDC = {"pd": "opdc_pd", "fa": "opdc_fa", "hiou": "opdc_hiou"}
ERRORS = {k: k for k in ("seg_iou", "seg_mrg_err", "seg_itf_err", "seg_pcp_err")}
ERRORS |= {k: k for k in ("loc_iou", "loc_s2m_err", "loc_m2s_err", "loc_itf_err", "loc_pcp_err")}
PY = {k: k for k in ("iou", "niou", "f1", "precision", "recall")}
NAMES = {
    "serankdet": (
        "serankdet",
        {**PIXELS, **TARGETS, "niou": "nIoU", "f1": "F1", "precision": "precision_0p5", "recall": "recall_0p5"},
    ),
    "dnanet": ("dnanet", {**PIXELS, **TARGETS, "precision": "precision_0p5", "recall": "recall_0p5"}),
    "basicirstd": ("basicirstd", {**PIXELS, **TARGETS}),
    "repisdnet": ("repisd", {**PIXELS, **TARGETS, "niou": "nIoU"}),
    "pyirstdmetrics": ("pyirstd", {**PY, **OPDC, **ERRORS}),
    "shooting-rule": ("pyirstd", {**PY, "pd": "shoot_pd", "fa": "shoot_fa"}),
    "agpcnet": ("agpcnet", {"iou": "mIoU", "precision": "precision", "recall": "recall", "f1": "F", "auc": "AUC"}),
    "mtunet": ("mtunet", {**PIXELS, **TARGETS, "target_niou": "target_nIoU"}),
}
"""protocol -> (key in cases.json, {our key: theirs})."""


def score(name, maps, **options):
    total = SegmentationScore(name, **options)
    for probability, label in maps:
        total.update(probability, label)
    return total


def assert_equal(computed, expected, names):
    for ours, theirs in names.items():
        want, got = expected[theirs], computed[ours].value
        if want is None or isinstance(want, str):
            assert got is None, (ours, got)
        else:
            assert got == pytest.approx(want, abs=TOLERANCE), ours


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda c: c["name"])
def test_case(case, name):
    theirs, names = NAMES[name]
    assert_equal(score(name, [MAPS[case["name"]]]).compute(intervals=False), case["values"][theirs], names)


@pytest.mark.parametrize("name", NAMES)
def test_accumulated(name):
    theirs, names = NAMES[name]
    assert_equal(score(name, MAPS.values()).compute(), EXPECTED["accumulated"][theirs], names)


@pytest.mark.parametrize("name", NAMES)
def test_accumulated_without_empty_labels(name):
    theirs, names = NAMES[name]
    maps = [(p, y) for p, y in MAPS.values() if y.any()]
    assert_equal(score(name, maps).compute(), EXPECTED["accumulated_without_empty_labels"][theirs], names)


def crops():
    for name, y0, y1, x0, x1 in EXPECTED["accumulated_mixed_sizes"]["crops_name_y0_y1_x0_x1"]:
        probability, label = MAPS[name]
        yield probability[y0:y1, x0:x1], label[y0:y1, x0:x1]


@pytest.mark.parametrize(
    ("name", "theirs", "names"),
    [
        ("basicirstd", "basicirstd", {"iou": "IoU", "pd": "Pd", "fa": "Fa"}),
        ("native", "pyirstd", {"iou": "iou", "niou": "niou", "pd": "basic_pd", "fa": "basic_fa"}),
        ("hiou", "pyirstd", {"iou": "iou", "niou": "niou", "pd": "opdc_pd", "hiou": "opdc_hiou", "loc_iou": "loc_iou"}),
        ("pyirstdmetrics", "pyirstd", {"iou": "iou", "niou": "niou", **OPDC, "loc_iou": "loc_iou"}),
    ],
)
def test_accumulated_mixed_sizes(name, theirs, names):
    total = score(name, crops())
    assert_equal(total.compute(), EXPECTED["accumulated_mixed_sizes"][theirs], names)
    assert total.compute()["fa"].denominator == EXPECTED["accumulated_mixed_sizes"]["basicirstd"]["all_pixels"]


def test_agpcnet_mixed_sizes():
    expected = EXPECTED["accumulated_mixed_sizes"]["agpcnet_mIoU"]
    assert score("agpcnet", crops()).compute()["iou"].value == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda c: c["name"])
def test_counts_of_case(case):
    total = score("native", [MAPS[case["name"]]])
    row = total.per_image()[0]
    counts, theirs = case["counts"], case["values"]["pyirstd"]
    assert [row["tp"], row["fp"], row["fn"]] == [counts["tp"], counts["fp"], counts["fn"]]
    assert row["targets"] == counts["label_targets"]
    assert row["matched"] + row["false"] == counts["pred_targets"]
    assert [row["detected"], row["false_blobs"], row["missed"]] == theirs["basic_tp_fp_fn"]


def test_native_pd_and_fa_are_exact():
    computed, theirs = score("native", MAPS.values()).compute(), EXPECTED["accumulated"]["pyirstd"]
    assert (computed["pd"].numerator, computed["pd"].denominator) == (30, 45)
    assert (computed["fa"].numerator, computed["fa"].denominator) == (540, 23 * 96 * 96)
    assert computed["false_alarms_per_image"].numerator == theirs["basic_tp_fp_fn"][1]


def test_hiou_has_no_phantoms():
    """Images without prediction or target lend pyirstdmetrics two false alarms and two misses that are not there."""
    tp, fp, fn = EXPECTED["accumulated"]["pyirstd"]["opdc_tp_fp_fn"]
    ious = EXPECTED["accumulated"]["pyirstd"]["opdc_hiou"] * (tp + fp + fn)
    computed = score("hiou", MAPS.values()).compute()
    assert computed["hiou"].value == pytest.approx(ious / (tp + fp + fn - 4), abs=TOLERANCE)
    assert computed["loc_iou"].denominator == tp + fp + fn - 4
    assert computed["pd"].value == pytest.approx(tp / (tp + fn - 2), abs=TOLERANCE)
    errors = [v.value for k, v in computed.items() if k.startswith("loc_")]
    assert sum(errors) == pytest.approx(1)
    assert sum(v.value for k, v in computed.items() if k.startswith("seg_")) == pytest.approx(1)


@pytest.mark.parametrize("name", ["serankdet", "dnanet"])
def test_roc_of_eleven_thresholds(name):
    curve, expected = score(name, MAPS.values()).pixel_curve(), EXPECTED["accumulated"][name]
    for ours, theirs in ((curve.tpr, "tpr"), (curve.fpr, "fpr"), (curve.precision, "precision")):
        np.testing.assert_allclose(ours, expected[theirs], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "prefix"), [("native", "basic"), ("pyirstdmetrics", "opdc"), ("shooting-rule", "shoot")]
)
def test_sweep(name, prefix):
    expected = EXPECTED["accumulated"]["pyirstd_bins10"]
    curve = score(name, MAPS.values(), sweep=np.arange(10) / 10).target_curve()
    np.testing.assert_allclose(curve.pd, expected[f"{prefix}_pd"], atol=TOLERANCE)
    np.testing.assert_allclose(curve.fa, expected[f"{prefix}_fa"], atol=TOLERANCE)
    if prefix != "shoot":
        np.testing.assert_array_equal(curve.detected, np.array(expected[f"{prefix}_tp_fp_fn"])[:, 0])


@pytest.mark.parametrize("k", range(10))
def test_taxonomy_at_other_thresholds(k):
    expected = {n: v[k] for n, v in EXPECTED["accumulated"]["pyirstd_bins10"].items() if len(v) == 10}
    computed = score(protocol("pyirstdmetrics").at(k / 10), MAPS.values()).compute(intervals=False)
    assert_equal(computed, expected, ERRORS | {"hiou": "opdc_hiou"})


def test_published_network_on_real_images(reference_root):
    """RepISD-Net's pixels on SIRST test_v1: the numbers of its authors' script."""
    folder = reference_root / "repisdnet" / "real"
    with np.load(folder / "masks-test_v1.npz") as file:
        at_5, at_9, truth = (np.unpackbits(file[k], axis=-1) > 0 for k in ("pred_at_0_5", "pred_at_0_9", "gt_v1"))
    maps = np.where(at_9, 1.0, np.where(at_5, 0.7, 0.0)).astype(np.float32)
    computed = score("repisdnet", zip(maps, truth, strict=True)).compute()
    assert computed["iou"].value == pytest.approx(0.77862, abs=5e-6)
    assert computed["niou"].value == pytest.approx(0.75678, abs=5e-6)
    assert (computed["pd"].numerator, computed["pd"].denominator) == (109, 109)
    assert computed["fa"].value * 1e6 == pytest.approx(4.613, abs=5e-4)
    assert score("native", zip(maps, truth, strict=True)).compute()["fa"].numerator >= 50
