"""Intervals: known values, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from motes.metrics import SegmentationScore
from motes.metrics.intervals import bootstrap, resampling_weights, wilson, zero_rate


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(277, 297, (0.898, 0.956)), (284, 297, (0.927, 0.974)), (109, 109, (0.966, 1.0)), (935, 945, (0.981, 0.994))],
)
def test_wilson(successes, trials, expected):
    """The intervals of published Pd values."""
    assert wilson(successes, trials) == pytest.approx(expected, abs=6e-4)


def test_wilson_at_the_ends():
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 0) is None


def test_no_event_in_a_megapixel():
    assert zero_rate(1.0) == pytest.approx((0, 3.689), abs=1e-3)
    assert zero_rate(0.0) is None


def test_weights_draw_as_many_images_as_there_are():
    weights = resampling_weights(7, 50, 3)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert not np.array_equal(weights[0], weights[1])


def test_bootstrap_of_a_mean_is_about_two_standard_errors():
    x = np.random.default_rng(0).normal(5, 2, 400)
    columns = np.stack([x, np.ones(400)], axis=1)
    low, high = bootstrap(resampling_weights(400, 1000, 0), columns, lambda s: s[:, 0] / s[:, 1])[0]
    assert (high - low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.1)
    assert low < x.mean() < high


def scored(seed, images=30):
    rng = np.random.default_rng(seed)
    score = SegmentationScore(resamples=200)
    for _ in range(images):
        label = np.zeros((24, 24), bool)
        y, x = rng.integers(2, 20, 2)
        label[y : y + 3, x : x + 3] = True
        hit = rng.random() < 0.7
        score.update(np.roll(label, 0 if hit else 9, axis=1), label)
    return score


def test_wilson_holds_the_truth_about_95_times_in_100():
    found = np.random.default_rng(0).binomial(109, 0.9, 2000)
    inside = sum(low <= 0.9 <= high for low, high in (wilson(n, 109) for n in found))
    assert 0.93 <= inside / 2000 <= 0.97


def test_every_metric_of_a_real_score_has_an_interval_around_it():
    for key, value in scored(1).compute().items():
        assert value.interval is not None, key
        assert value.interval[0] - 1e-12 <= value.value <= value.interval[1] + 1e-12, key


def test_one_image_says_nothing_about_spread():
    values = scored(1, images=1).compute()
    assert values["iou"].interval is None
    assert values["pd"].interval is not None


def test_intervals_can_be_left_out():
    assert all(v.interval is None for v in scored(1).compute(intervals=False).values())
