"""The numbers of the authors' evaluation codes, per case and accumulated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.metrics import SegmentationScore

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
