"""The accumulator: empty cases, bad input, merging, invariance."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motes.errors import DataError, MotesError
from motes.metrics import PROTOCOLS, SegmentationScore, protocol

settings.register_profile("metrics", max_examples=25, deadline=None)
settings.load_profile("metrics")


def scene(seed, size=(28, 33)):
    rng = np.random.default_rng(seed)
    label = np.zeros(size, bool)
    probability = (rng.random(size) * 0.6).astype(np.float32) ** 3
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(0, np.array(size) - 5)
        label[y : y + 3, x : x + 3] = True
        dy, dx = rng.integers(0, 3, 2)
        probability[y + dy : y + dy + 3, x + dx : x + dx + 3] = rng.uniform(0.3, 1)
    return probability, label


def score(scenes, name="native", **options):
    total = SegmentationScore(name, **options)
    for k, (probability, label) in enumerate(scenes):
        total.update(probability, label, f"{k:04d}")
    return total


EMPTY, FULL = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
FULL[2:4, 2:4] = True


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (EMPTY, EMPTY, {"iou": None, "niou": None, "pd": None, "fa": 0.0, "f1": None, "hiou": None, "loc_iou": None}),
        (FULL, EMPTY, {"iou": 0.0, "niou": 0.0, "pd": None, "fa": 4 / 64, "precision": 0.0, "recall": None}),
        (
            EMPTY,
            FULL,
            {"iou": 0.0, "niou": 0.0, "pd": 0.0, "fa": 0.0, "precision": None, "recall": 0.0, "seg_iou": None},
        ),
        (FULL, FULL, {"iou": 1.0, "niou": 1.0, "pd": 1.0, "fa": 0.0, "f1": 1.0, "hiou": 1.0, "auc": 1.0, "ap": 1.0}),
    ],
    ids=["nothing", "false alarm", "miss", "hit"],
)
def test_native_on_one_image(prediction, label, expected):
    computed = score([(prediction, label)]).compute()
    assert {k: computed[k].value for k in expected} == expected


def test_no_image_at_all():
    computed = SegmentationScore().compute()
    assert computed["iou"].value is None
    assert computed["pd"].value is None
    assert SegmentationScore().per_image() == []
    assert SegmentationScore().facts()["images"] == 0


def test_empty_pairs_are_left_out_of_niou_and_said():
    total = score([(FULL, FULL), (EMPTY, EMPTY), (FULL, EMPTY)])
    assert (total.compute()["niou"].value, total.compute()["niou"].denominator) == (0.5, 2)
    assert total.facts()["empty_pairs"] == 1
    assert total.facts()["images_without_target"] == 2
    assert score([(FULL, FULL), (EMPTY, EMPTY)], "serankdet").compute()["niou"].value == 0.5


def test_thresholds_are_strict():
    label = np.ones((4, 4), bool)
    assert score([(np.full((4, 4), 0.5), label)]).compute()["iou"].value == 0
    assert score([(np.full((4, 4), np.nextafter(0.5, 1)), label)]).compute()["iou"].value == 1


def test_two_thresholds_of_repisdnet():
    label = np.zeros((32, 32), bool)
    label[4:8, 4:8] = True
    probability = np.where(label, 0.95, 0.0)
    probability[20:22, 20:22] = 0.7  # above 0.5, below 0.9
    computed = score([(probability, label)], "repisdnet").compute()
    assert computed["iou"].value == 16 / 20
    assert computed["fa"].value == 0
    assert score([(probability, label)], protocol("repisdnet").at(0.5)).compute()["fa"].numerator == 4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_of_maps(dtype):
    probability, label = scene(3)
    expected = score([(probability.astype(dtype).astype(np.float64), label)]).compute()["iou"]
    assert score([(probability.astype(dtype), label.astype(np.uint8))]).compute()["iou"] == expected


@pytest.mark.parametrize(
    ("probability", "label", "message"),
    [
        (np.zeros((4, 5)), np.zeros((4, 4), bool), "the map of 'a' is 4x5 and its label 4x4"),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool), "expected the same [H, W]"),
        (np.zeros((0, 4)), np.zeros((0, 4), bool), "no pixels"),
        (np.full((2, 2), 1.5), np.zeros((2, 2), bool), "from 1.5 to 1.5, expected probabilities"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), bool), "from nan to nan"),
        (np.full((2, 2), -0.1), np.zeros((2, 2), bool), "from -0.1"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), bool), "is uint8, expected float in [0, 1] or bool"),
        (np.zeros((2, 2)), np.full((2, 2), 255, np.uint8), "expected bool or 0/1"),
        (np.zeros((2, 2)), np.full((2, 2), 0.5), "label of 'a' is float64"),
    ],
)
def test_bad_maps(probability, label, message):
    total = SegmentationScore()
    with pytest.raises(DataError, match=r"^the ") as caught:
        total.update(probability, label, "a")
    assert message in str(caught.value)
    assert len(total) == 0


def test_bad_names_and_thresholds():
    with pytest.raises(MotesError, match=r"unknown protocol 'dnant' .did you mean 'dnanet'"):
        SegmentationScore("dnant")
    with pytest.raises(MotesError, match=r"outside 0 <= T < 1"):
        protocol("native").at(1.0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_shards_are_one_process(name):
    """Odd count, unequal shards, one without targets, one empty, gathered out of order: the same to the last bit."""
    scenes = [scene(s) for s in range(11)] + [(p, np.zeros_like(y)) for p, y in (scene(50), scene(51))]
    whole = score(scenes, name, sweep=(0.2, 0.5))
    shards = [score(scenes[a:b], name, sweep=(0.2, 0.5)) for a, b in ((11, 13), (4, 11), (0, 4), (4, 4))]
    states = [pickle.loads(pickle.dumps(s.state())) for s in shards]
    merged = SegmentationScore.from_state(states[0])
    for state in states[1:]:
        merged.merge(SegmentationScore.from_state(state))
    assert merged.compute() == whole.compute()
    np.testing.assert_array_equal(merged.target_curve().pd, whole.target_curve().pd)
    np.testing.assert_array_equal(merged.pixel_curve().tpr, whole.pixel_curve().tpr)
    assert merged.facts() == whole.facts()


def test_state_survives_a_file(tmp_path):
    rule = protocol("dnanet").at(0.3)
    total = score([scene(s) for s in range(4)], rule, sweep=(0.1, 0.9))
    np.savez(tmp_path / "state.npz", **total.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        again = SegmentationScore.from_state(dict(file))
    assert again.protocol == rule
    assert again.compute() == total.compute()
    assert again.per_image() == total.per_image()


def test_unequal_rules_do_not_merge():
    for other in (
        SegmentationScore("dnanet"),
        SegmentationScore(sweep=(0.5,)),
        SegmentationScore(protocol("native").at(0.4)),
    ):
        with pytest.raises(DataError, match="cannot merge"):
            SegmentationScore().merge(other)


def test_reset_forgets():
    total = score([scene(1)], sweep=(0.5,))
    total.reset()
    assert total.compute() == SegmentationScore().compute()


def test_update_does_not_touch_its_arguments():
    probability, label = scene(2)
    before = probability.copy(), label.copy()
    score([(probability, label)], sweep=(0.1,))
    np.testing.assert_array_equal(probability, before[0])
    np.testing.assert_array_equal(label, before[1])


def test_per_image_rows_add_up():
    total = score([scene(s) for s in range(6)])
    rows = total.per_image()
    assert [r["image"] for r in rows] == sorted(r["image"] for r in rows)
    assert tuple(rows[0]) == SegmentationScore.COLUMNS
    assert sum(r["tp"] for r in rows) == total.compute()["iou"].numerator
    assert sum(r["false_pixels"] for r in rows) == total.compute()["fa"].numerator


def test_sweep_equals_scores_at_each_threshold():
    scenes = [scene(s) for s in range(8)]
    thresholds = (0.0, 0.05, 0.2, 0.5, 0.8, 0.97)
    curve = score(scenes, sweep=thresholds).target_curve()
    for k, t in enumerate(thresholds):
        at = score(scenes, protocol("native").at(t)).compute(intervals=False)
        assert curve.pd[k] == at["pd"].value
        assert curve.fa[k] == at["fa"].value
        assert curve.iou[k] == at["iou"].value
        assert curve.blobs_per_image[k] == at["false_alarms_per_image"].value
        assert curve.blobs_per_megapixel[k] == pytest.approx(at["false_alarms_per_megapixel"].value)


# Properties. Greedy and diameter matching take the FIRST candidate in raster order, so a mirrored image may score
# differently wherever two candidates compete; every pixel metric, and matching without order, must not.

ORDER_FREE = ("iou", "niou", "precision", "recall", "f1", "auc", "ap")
MOVES = {
    "left-right": lambda a: a[:, ::-1],
    "up-down": lambda a: a[::-1],
    "transpose": lambda a: a.T,
    "turn": lambda a: np.rot90(a),
}


def same(a, b):
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-12))


@pytest.mark.parametrize("move", MOVES)
@given(seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4))
def test_mirrored_images_score_the_same(move, seeds):
    scenes = [scene(s) for s in seeds]
    moved = [(MOVES[move](p), MOVES[move](y)) for p, y in scenes]
    pixels = [score(s).compute(intervals=False) for s in (scenes, moved)]
    assert all(same(pixels[0][k].value, pixels[1][k].value) for k in ORDER_FREE)
    shot = [score(s, "shooting-rule").compute(intervals=False) for s in (scenes, moved)]
    assert all(same(shot[0][k].value, shot[1][k].value) for k in ("pd", "fa", "false_alarms_per_image"))


@pytest.mark.parametrize("move", MOVES)
@given(seed=st.integers(0, 10_000))
def test_mirrored_targets_without_competition_match_the_same(move, seed):
    """Targets on a coarse grid, predictions moved by up to 2 px: at most one candidate each, so order cannot matter."""
    rng = np.random.default_rng(seed)
    label, probability = np.zeros((60, 60), bool), np.zeros((60, 60))
    for y, x in np.argwhere(rng.random((4, 4)) < 0.6) * 15 + 5:
        label[y : y + 3, x : x + 3] = rng.random() < 0.8
        dy, dx = rng.integers(-2, 3, 2)
        probability[y + dy : y + dy + 3, x + dx : x + dx + 3] = 0.9 * (rng.random() < 0.8)
    turned = MOVES[move](probability), MOVES[move](label)
    for name in ("native", "dnanet", "hiou", "mtunet"):
        a, b = (score([s], name).compute(intervals=False) for s in ((probability, label), turned))
        assert all(same(a[k].value, b[k].value) for k in a)


def test_greedy_depends_on_raster_order():
    """The known limit of the rule: what is found first differs in the mirror image."""
    label, probability = np.zeros((2, 12, 12), bool)
    label[5, 5] = label[5, 7] = True
    probability[5, 6] = probability[6, 3] = True  # one is near both targets, the other near the first alone
    straight = score([(probability, label)]).compute()["pd"].value
    mirrored = score([(probability[::-1], label[::-1])]).compute()["pd"].value
    assert (straight, mirrored) == (0.5, 1.0)


@given(seed=st.integers(0, 10_000), pad=st.tuples(*[st.integers(0, 9)] * 4))
def test_padding_changes_no_count(seed, pad):
    probability, label = scene(seed)
    width = (pad[:2], pad[2:])
    plain, padded = score([(probability, label)]), score([(np.pad(probability, width), np.pad(label, width))])
    a, b = plain.per_image()[0], padded.per_image()[0]
    assert b.pop("pixels") == (28 + sum(pad[:2])) * (33 + sum(pad[2:]))
    a.pop("pixels")
    assert a == b


@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=6), cut=st.integers(0, 6), order=st.randoms())
def test_merge_is_concatenation_in_any_order(seeds, cut, order):
    scenes = [scene(s) for s in seeds]
    whole = score(scenes, resamples=50)
    shuffled = list(scenes)
    order.shuffle(shuffled)
    merged = score(shuffled[:cut], resamples=50).merge(score(shuffled[cut:], resamples=50))
    assert merged.compute() == whole.compute()


@given(seed=st.integers(0, 10_000))
def test_values_stay_in_range(seed):
    for name in PROTOCOLS:
        computed = score([scene(seed), scene(seed + 1)], name, resamples=20).compute()
        for key, v in computed.items():
            unbounded = key.startswith("false_alarms") or key == "target_niou"
            assert v.value is None or (v.value >= 0 and (unbounded or v.value <= 1 + 1e-9)), (name, key)
