"""Threshold rules: the counts of the reference, small maps by hand, probabilities, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.classical import classical_backend
from motes.classical.best_threshold import BestOf256
from motes.classical.rules import RULES, threshold_rule
from motes.errors import CardError
from motes.inference import Detector
from motes.inference.detector import sigmoid

REFERENCE = Path(__file__).parents[1] / "reference" / "classical"
EXAMPLES = ["mean+2std", "minmax_0.5", "minmax_0.3", "max_0.5", "bench", "dnanet_adaptive", "lambda_0.7", "best-of-256"]


@pytest.mark.parametrize("family", ["filters", "local-contrast"])
def test_counts_of_the_reference(family: str) -> None:
    facts = json.loads((REFERENCE / f"{family}.json").read_text(encoding="utf-8"))["outputs"]
    with np.load(REFERENCE / f"case-{family}.npz") as maps:
        check_counts({case: maps[case] for case in facts}, facts)


def test_counts_of_the_whole_reference(reference_root: Path) -> None:
    facts = json.loads((reference_root / "classical" / "cases.json").read_text(encoding="utf-8"))["outputs"]
    with np.load(reference_root / "classical" / "cases.npz") as maps:
        check_counts({case: maps[case] for case in facts}, facts)


def check_counts(maps: dict[str, np.ndarray], facts: dict) -> None:
    wrong = []
    for case, response in maps.items():
        for name, expected in facts[case]["pixels_by_threshold_rule"].items():
            rule = threshold_rule(name)
            logits = rule.logits(response.astype(np.float32))
            counts = (
                int(rule.targets(response).sum()),
                int((logits > 0).sum()),
                int((sigmoid(logits) > 0.5).sum()),
            )
            if counts != (expected,) * 3:
                wrong.append((case, name, counts, expected))
    assert not wrong


@pytest.mark.parametrize(
    ("rule", "targets"),
    [
        ("mean+1std", [0, 0, 0, 0, 1]),  # mean 4, std 3.5: above 7.5
        ("mean+0.2std", [0, 0, 0, 1, 1]),  # above 4.7
        ("minmax_0.5", [0, 0, 0, 0, 1]),  # u = 0, 0.1, 0.4, 0.5, 1: strict
        ("bench", [0, 0, 0, 1, 1]),  # the same, the threshold included
        ("minmax_0.3", [0, 0, 1, 1, 1]),
        ("max_0.5", [0, 0, 0, 1, 1]),  # o / max: below 0 is kept below
        ("lambda_0.5", [0, 0, 0, 0, 1]),  # above 0.5 * 10 + 0.5 * 4 = 7
        ("lambda_0.1", [0, 0, 0, 1, 1]),  # above 4.6
        ("dnanet_adaptive", [0, 0, 0, 0, 1]),  # 0.7
        ("best-of-256", [0, 0, 0, 0, 1]),
    ],
)
def test_five_pixels_by_hand(rule: str, targets: list[int]) -> None:
    response = np.float32([[0, 1, 4, 5, 10]])
    if rule == "max_0.5":
        response = np.float32([[-9, 1, 4, 6, 10]])
    np.testing.assert_array_equal(threshold_rule(rule).targets(response), [np.array(targets, bool)])
    np.testing.assert_array_equal(threshold_rule(rule).logits(response) > 0, [np.array(targets, bool)])


def test_second_half_of_the_adaptive_rule() -> None:
    """u = eight 1 and two 0: mean 0.8, std 0.4, so the threshold is 1.0, which no pixel exceeds."""
    response = np.float32([[1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
    assert not threshold_rule("dnanet_adaptive").targets(response).any()
    assert threshold_rule("minmax_0.7").targets(response).sum() == 8


@pytest.mark.parametrize("rule", EXAMPLES)
def test_logits_agree_with_targets_at_and_beside_the_threshold(rule: str) -> None:
    """Values one float32 step apart around the threshold, where the logarithm alone would round across it."""
    chosen = threshold_rule(rule)
    rng = np.random.default_rng(0)
    response = rng.gamma(1, 10, 4000).astype(np.float32)
    scale = chosen.scale(response)
    at = np.float32(scale.zero + scale.level * scale.unit)
    for _ in range(3):
        near = at + np.spacing(at) * np.arange(-4, 5, dtype=np.float32)
        probe = np.concatenate([response, near])[None]
        logits = chosen.logits(probe)
        assert logits.dtype == np.float32 and np.isfinite(logits).all()
        np.testing.assert_array_equal(sigmoid(logits) > 0.5, chosen.targets(probe))
        order = np.argsort(probe[0], kind="stable")
        assert (np.diff(logits[0][order]) >= 0).all()
        scale = chosen.scale(probe)
        at = np.float32(scale.zero + scale.level * scale.unit)


@pytest.mark.parametrize("rule", EXAMPLES)
@pytest.mark.parametrize("value", [0, 7, -7])
def test_a_flat_map_holds_no_target(rule: str, value: float) -> None:
    response = np.full((5, 6), value, np.float32)
    assert not threshold_rule(rule).targets(response).any()
    assert (threshold_rule(rule).logits(response) < 0).all()


def test_the_probability_of_minmax_is_the_map() -> None:
    response = np.linspace(-3, 9, 50, dtype=np.float32)[None]
    u = (response + 3) / 12
    np.testing.assert_allclose(sigmoid(threshold_rule("minmax_0.5").logits(response)), u, atol=2e-6)
    np.testing.assert_allclose(sigmoid(threshold_rule("best-of-256").logits(response)), u, atol=2e-6)


def test_rules_through_a_detector_and_its_card() -> None:
    frame = np.random.default_rng(0).integers(0, 40, (40, 50)).astype(np.uint8)
    frame[20, 20], frame[30, 10] = 250, 150
    detector = Detector("tophat", rule="max_0.5")
    response = detector.backend.response(frame)
    np.testing.assert_array_equal(detector.probability(frame) > 0.5, response / response.max() > 0.5)
    assert detector.card.options["rule"] == "max_0.5"
    assert classical_backend("tophat", k=4).card.options["rule"] == "mean+4std"
    same = classical_backend("tophat", rule="mean+4std").run(frame[None, None].astype(np.float32))
    np.testing.assert_array_equal(same, classical_backend("tophat", k=4).run(frame[None, None].astype(np.float32)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "minmax0.5"}, "unknown threshold rule 'minmax0.5' (did you mean 'minmax_T'?)"),
        ({"rule": "banch"}, "did you mean 'bench'?"),
        ({"rule": "minmax_1.5"}, "the number in minmax_T must be between 0 and 1, found '1.5'"),
        ({"rule": "lambda_0"}, "the number in lambda_L must be between 0 and 1, found '0'"),
        ({"rule": "max_half"}, "the number in max_T must be between 0 and 1, found 'half'"),
        ({"rule": "mean+-3std"}, "the number in mean+Kstd must be > 0, found '-3'"),
        ({"rule": "mean+infstd"}, "must be > 0, found 'inf'"),
        ({"rule": "mean+nanstd"}, "must be > 0, found 'nan'"),
        ({"rule": "mean+Kstd"}, "must be > 0, found 'K'"),
        ({"rule": 5}, "unknown threshold rule '5'"),
        ({"rule": "bench", "k": 5}, "both k and rule are given"),
        ({"k": "many"}, "k (standard deviations above the mean) must be a number > 0, found 'many'"),
    ],
)
def test_bad_rules(options: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        classical_backend("tophat", **options)
    assert message in str(caught.value)


def test_every_rule_has_an_example() -> None:
    assert len({r.split("_")[0][:4] for r in RULES} - {e.split("_")[0][:4] for e in EXAMPLES}) == 0


def test_best_of_256_against_trying_them_all() -> None:
    rng = np.random.default_rng(0)
    frames = [(rng.random((20, 30)).astype(np.float32), rng.random((20, 30)) > 0.9) for _ in range(4)]
    frames = [(np.where(label, np.sqrt(u), u).astype(np.float32), label) for u, label in frames]
    frames.append((np.zeros((20, 30), np.float32), np.zeros((20, 30), bool)))
    best = BestOf256()
    for u, label in frames:
        best.update(u, label)
    iou, niou = [], []
    for t in best.thresholds:
        pairs = [(((u > t) & label).sum(), ((u > t) | label).sum()) for u, label in frames]
        iou.append(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
        niou.append(np.mean([a / b for a, b in pairs if b]))
    assert best.iou == (pytest.approx(max(iou)), best.thresholds[int(np.argmax(iou))])
    assert best.niou == (pytest.approx(max(niou)), best.thresholds[int(np.argmax(niou))])
    assert all(np.isnan(BestOf256().iou))
