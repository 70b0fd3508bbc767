"""Top-hat, max-median, max-mean: the numbers of the public code; what all methods keep to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from motes.classical import METHODS, classical_backend
from motes.classical.max_mean import max_mean
from motes.classical.max_median import max_median
from motes.classical.tophat import top_hat
from motes.errors import CardError
from motes.inference import Backend, Detector

REFERENCE = Path(__file__).parents[1] / "reference" / "classical"
FACTS = json.loads((REFERENCE / "filters.json").read_text(encoding="utf-8"))
ORACLES = {
    "tophat_sq5": ("tophat", {}),
    "maxmedian_5": ("max-median", {"positive": False}),
    "maxmedian_istd": ("max-median", {"size": 15, "border": "replicate", "diagonals": "anti"}),
    "maxmean_5": ("max-mean", {"positive": False}),
}
OF_COUNTS = ["tophat", "max-median", "max-mean", "lcm", "mpcm", "rlcm", "tllcm"]
OF_DIFFERENCES = ["tophat", "max-median", "max-mean", "mpcm"]
WINDOWED = [*OF_COUNTS, "wslcm"]


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "case-filters.npz") as file:
        return dict(file)


@pytest.mark.parametrize("case", FACTS["outputs"])
def test_maps_of_the_public_code(case: str, cases: dict[str, np.ndarray]) -> None:
    key, image = case.split("__")
    method, options = ORACLES[key]
    frame = cases[f"x__{image}"] / FACTS["inputs"][image]["q"]
    expected = cases[case]
    response = classical_backend(method, **options).response(frame)
    assert response.dtype == np.float32
    assert np.abs(response - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", OF_COUNTS)
def test_probability_keeps_the_order_and_the_meaning_of_t(name: str) -> None:
    """p > t means map > mean + k t / (1 - t) std, and strong targets stay apart where a logistic would saturate."""
    rng = np.random.default_rng(0)
    frame = rng.normal(1000, 5, (128, 128)).astype(np.float32)
    frame[30, 40], frame[80, 90] = 9000, 18000
    backend = classical_backend(name, k=4)
    response = backend.response(frame)
    probability = Detector(backend=backend).probability(frame)
    for t in (0.2, 0.5, 0.8):
        rule = response > response.mean() + 4 * t / (1 - t) * response.std()
        np.testing.assert_array_equal(probability > t, rule)
    assert probability[30, 40] < probability[80, 90] < 1


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 3), (40, 7)])
def test_any_size_and_flat_frames_hold_no_target(name: str, size: tuple[int, int]) -> None:
    detector = Detector(name)
    assert len(detector.detect(np.full(size, 77, np.uint8))) == 0
    assert detector.probability(np.arange(size[0] * size[1], dtype=np.uint16).reshape(size)).shape == size


@pytest.mark.parametrize("name", OF_COUNTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_depth_and_gain_change_nothing_nor_does_an_offset_to_differences(name: str, dtype: type) -> None:
    frame = np.random.default_rng(1).integers(0, 60, (50, 60))
    frame[20:22, 30:32] = 120
    expected = Detector(name).probability(frame.astype(np.uint8))
    offset = 100 if name in OF_DIFFERENCES else 0
    np.testing.assert_allclose(Detector(name).probability((frame + offset).astype(dtype)), expected, atol=1e-5)
    if dtype is not np.uint8:
        np.testing.assert_allclose(Detector(name).probability((frame * 97).astype(dtype)), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_sixteen_bit_target_is_found_and_lost_through_eight_bits(seed: int) -> None:
    """Mean 7400, sigma 25, one 3x3 target + 180: visible in counts, below one grey level of the 16-bit range."""
    rng = np.random.default_rng(seed)
    counts = rng.normal(7400, 25, (256, 256))
    counts[100:103, 150:153] += 180
    counts = counts.round().astype(np.uint16)
    found = Detector("tophat").detect(counts)
    assert len(found)  # perhaps in pieces, but nowhere else
    np.testing.assert_allclose(found.centroids - [151, 101], 0, atol=1.01)
    assert found.scr[0] > 5
    flat = Detector("tophat").probability((counts >> 8).astype(np.uint8))
    target = flat[100:103, 150:153].max()
    flat[98:105, 148:155] = 0
    assert target <= flat.max()  # a grey level among others


def test_top_hat_erases_what_is_larger_than_its_square() -> None:
    frame = np.zeros((30, 30), np.uint8)
    frame[5:8, 5:8] = 9
    frame[15:21, 15:21] = 9
    response = top_hat(frame)
    assert response[6, 6] == 9
    assert not response[15:21, 15:21].any()
    assert not top_hat(frame, 3).any()


@pytest.mark.parametrize("size", [3, 5, 9])
@pytest.mark.parametrize(("border", "mode"), [("symmetric", "symmetric"), ("replicate", "edge")])
@pytest.mark.parametrize(("method", "statistic"), [(max_median, np.median), (max_mean, np.mean)])
def test_line_filters_against_their_definition(method, statistic, border: str, mode, size: int, monkeypatch) -> None:
    monkeypatch.setattr("motes.classical.windows._STRIP", 64 * 21)
    frame = np.random.default_rng(2).integers(0, 1000, (150, 21)).astype(np.float64)
    r = size // 2
    padded = np.pad(frame, r, mode=mode)
    expected = np.empty_like(frame)
    for i in range(frame.shape[0]):
        for j in range(frame.shape[1]):
            window = padded[i : i + size, j : j + size]
            lines = (window[r], window[:, r], window.diagonal(), window[:, ::-1].diagonal())
            expected[i, j] = frame[i, j] - max(statistic(line) for line in lines)
    np.testing.assert_allclose(method(frame, size, positive=False, border=border), expected, atol=1e-4)
    np.testing.assert_allclose(method(frame, size, border=border), np.maximum(expected, 0), atol=1e-4)


def test_max_median_without_the_main_diagonal() -> None:
    """A bright main diagonal is background to four lines, and a target to the three of ISTD-python."""
    frame = np.zeros((21, 21))
    np.fill_diagonal(frame, 9)
    assert max_median(frame)[10, 10] == 0
    assert max_median(frame, diagonals="anti")[10, 10] == 9


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_table_states_the_facts(method) -> None:
    assert method.card.task == "irstd"
    assert method.paper and method.venue and 1980 < method.year < 2030
    assert isinstance(classical_backend(method.name), Backend)
    assert method.card.to_json() == classical_backend(method.name).card.to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 5}, "unknown option of tophat 'sise' (did you mean 'size'?)"),
        ({"size": 4}, "must be odd and at least 3, found 4"),
        ({"size": 5.5}, "must be odd"),
        ({"k": 0}, "must be a number > 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        classical_backend("tophat", **options)
    assert message in str(caught.value)


def test_unknown_method() -> None:
    with pytest.raises(CardError, match="did you mean 'max-median'"):
        classical_backend("maxmedian")
