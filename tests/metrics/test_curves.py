"""Histograms by level, AUC and average precision against exact ranking."""

from __future__ import annotations

import numpy as np
import pytest

from motes.metrics import SegmentationScore
from motes.metrics.curves import LEVEL_THRESHOLDS, _levels, above, areas, count_levels


def maps(seed, shape=(40, 50), spread=4.0):
    rng = np.random.default_rng(seed)
    label = rng.random(shape) < 0.05
    logit = rng.normal(-6, spread, shape) + 8 * label
    return (1 / (1 + np.exp(-logit))).astype(np.float32), label


def exact_auc(probability, label):
    """Probability that a target pixel ranks above a background pixel, ties half."""
    positive, negative = np.sort(probability[label]), np.sort(probability[~label])
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return below.sum() / 2 / len(positive) / len(negative)


def test_level_is_the_number_of_thresholds_strictly_below():
    rng = np.random.default_rng(0)
    edges = LEVEL_THRESHOLDS.astype(np.float32)
    p = np.concatenate(
        [edges, np.nextafter(edges, np.float32(1)), np.nextafter(edges, np.float32(0)), rng.random(5000)]
    )
    p = np.concatenate([p, [0, -0.0, 1, 1e-40], rng.random(5000) ** 30]).astype(np.float32)
    np.testing.assert_array_equal(_levels(p), np.searchsorted(LEVEL_THRESHOLDS, p.astype(np.float64), side="left"))


def test_eight_bit_maps_keep_their_levels_and_a_half_is_a_threshold():
    assert len(np.unique(_levels(np.arange(256) / 255))) == 256
    assert 0.5 in LEVEL_THRESHOLDS


@pytest.mark.parametrize("thresholds", [None, np.arange(11) / 10])
def test_counts_above(thresholds):
    probability, label = maps(1)
    false, true = above(count_levels(probability, label, thresholds))
    for k, t in enumerate(LEVEL_THRESHOLDS if thresholds is None else thresholds.astype(np.float32)):
        if k % 97 == 0 or thresholds is not None:
            assert true[k] == np.count_nonzero(probability[label] > t)
            assert false[k] == np.count_nonzero(probability[~label] > t)


@pytest.mark.parametrize("spread", [1.0, 4.0, 12.0])
def test_auc_of_ranking(spread):
    score = SegmentationScore()
    pairs = [maps(seed, spread=spread) for seed in range(3)]
    for probability, label in pairs:
        score.update(probability, label)
    everything = (np.concatenate([a[k].ravel() for a in pairs]) for k in (0, 1))
    assert score.compute()["auc"].value == pytest.approx(exact_auc(*everything), abs=2e-5)


def test_average_precision_by_hand():
    """Ranking target, background, target: precision 1 for the first half of recall, 2/3 for the second."""
    score = SegmentationScore()
    score.update(np.array([[0.9, 0.8, 0.7, 0.1]]), np.array([[True, False, True, False]]))
    values = score.compute()
    assert values["ap"].value == pytest.approx((1 + 2 / 3) / 2)
    assert values["auc"].value == pytest.approx(3 / 4)
    assert values["auc"].denominator == 4


def test_areas_of_many_histograms_at_once():
    levels = np.stack([count_levels(*maps(seed), None) for seed in range(4)])
    together = np.stack(areas(levels, 0.0, True))
    np.testing.assert_allclose(together.T, [areas(one, 0.0, True) for one in levels])


@pytest.mark.parametrize("value", [True, False])
def test_no_area_without_both_classes(value):
    score = SegmentationScore()
    score.update(np.full((4, 4), 0.3), np.full((4, 4), value))
    assert score.compute()["auc"].value is None


def test_binary_maps_have_one_point():
    label = np.zeros((10, 10), bool)
    label[:2] = True
    prediction = np.zeros((10, 10), bool)
    prediction[1:3] = True
    score = SegmentationScore()
    score.update(prediction, label)
    curve = score.pixel_curve()
    assert set(curve.tpr) == {0.5}
    assert set(np.round(curve.fpr, 6)) == {0.125}
    assert curve.auc == pytest.approx((0.5 + 1 - 0.125) / 2)
