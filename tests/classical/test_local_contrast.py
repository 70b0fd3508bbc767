"""LCM, RLCM, MPCM, TLLCM, WSLCM: the numbers of the public code, planted targets, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from motes.classical import classical_backend
from motes.classical.lcm import lcm
from motes.classical.mpcm import mpcm
from motes.classical.rlcm import rlcm
from motes.classical.tllcm import tllcm
from motes.classical.windows import top_means, with_border
from motes.classical.wslcm import wslcm
from motes.errors import CardError
from motes.imaging import write_image
from motes.inference import Detector

REFERENCE = Path(__file__).parents[1] / "reference" / "classical"
FACTS = json.loads((REFERENCE / "local-contrast.json").read_text(encoding="utf-8"))
ORACLES = {
    "lcm": ("lcm", {}),
    "lcm_istd": ("lcm", {"border": "replicate"}),
    "mpcm_357": ("mpcm", {"sizes": (3, 5, 7)}),
    "mpcm_istd": ("mpcm", {"border": "replicate"}),
    "rlcm": ("rlcm", {}),
    "tllcm": ("tllcm", {"sizes": 9}),
    "tllcm_579": ("tllcm", {}),
    "wslcm": ("wslcm", {}),
}
METHODS = ["lcm", "mpcm", "rlcm", "tllcm", "wslcm"]
FUNCTIONS = [lcm, mpcm, rlcm, tllcm, wslcm]
WITH_FILTERS = ["tophat", "max-median", "max-mean", *METHODS]


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "case-local-contrast.npz") as file:
        return dict(file)


def noise(height: int = 96, width: int = 120, level: float = 90, sigma: float = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, sigma, (height, width))


def spot(frame: np.ndarray, y: int, x: int, amplitude: float, sigma: float = 1.2) -> np.ndarray:
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return frame + amplitude * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("case", FACTS["outputs"])
def test_maps_of_the_public_code(case: str, cases: dict[str, np.ndarray]) -> None:
    key, image = case.split("__")
    method, options = ORACLES[key]
    response = classical_backend(method, **options).response(cases[f"x__{image}"] / FACTS["inputs"][image]["q"])
    assert response.dtype == np.float32
    assert np.abs(response - cases[case]).max() <= 1e-5 * np.abs(cases[case]).max()


def test_every_oracle_of_the_family_is_tested() -> None:
    assert {case.split("__")[0] for case in FACTS["outputs"]} == set(ORACLES)


@pytest.mark.parametrize("border", ["symmetric", "edge", "constant"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (90, 7)])
def test_border_of_rows_is_that_of_the_frame(shape: tuple[int, int], border) -> None:
    frame = np.random.default_rng(0).integers(1, 99, shape).astype(np.float32)
    padded = np.pad(frame, 6, mode=border)
    name = {"symmetric": "symmetric", "edge": "replicate", "constant": "zero"}[border]
    for top, bottom in ((0, shape[0]), (0, 1), (shape[0] // 2, shape[0]), (shape[0] // 3, shape[0] // 2 + 1)):
        np.testing.assert_array_equal(with_border(frame, 6, name, top, bottom), padded[top : bottom + 12])


@pytest.mark.parametrize("size", [3, 5, 7, 9, 11, 13])
def test_means_of_the_largest_values(size: int) -> None:
    """Against sorting every window; counts around the powers of two, ties included."""
    values = np.random.default_rng(size).integers(0, 60, (30 + size, 25 + size)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, (size, size)).reshape(31, 26, -1)
    descending = np.sort(windows, axis=-1)[..., ::-1]
    for counts in ([1], [9], [2, 4, 5, 9], [3, 7, min(16, size * size)], [size * size]):
        for k, found in zip(counts, top_means(values, size, counts), strict=True):
            np.testing.assert_allclose(found, descending[..., :k].mean(-1), rtol=1e-6)


@pytest.mark.parametrize("method", FUNCTIONS, ids=lambda f: f.__name__)
def test_strips_leave_no_trace(method, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = noise(150, 30)
    whole = method(frame)
    monkeypatch.setattr("motes.classical.windows._STRIP", 64 * 30)
    np.testing.assert_allclose(method(frame), whole, rtol=1e-5, atol=1e-5 * whole.max())


@pytest.mark.parametrize("name", WITH_FILTERS)
@pytest.mark.parametrize(
    ("dtype", "gain", "level"), [(np.uint8, 1, 0), (np.uint16, 40, 3000), (np.float32, 1 / 255, 0)]
)
def test_planted_targets_are_found_and_nothing_else(name: str, dtype: type, gain: float, level: float) -> None:
    frame = spot(spot(noise(), 30, 40, 90), 70, 85, 75)
    counts = np.clip(frame, 0, 255) * gain + level
    frame = counts.astype(dtype) if dtype is np.float32 else counts.round().astype(dtype)
    found = Detector(name, rule="mean+6std").detect(frame)
    centres = {tuple(np.round(c / 5).astype(int)) for c in found.centroids[:2]}
    assert centres == {(8, 6), (17, 14)}  # (40, 30) and (85, 70) in steps of 5 px
    assert len(found) == 2 or name in ("max-median", "max-mean")  # these leave the noise in


def test_mpcm_answers_to_dark_targets_unless_told_otherwise() -> None:
    frame = spot(noise(), 48, 60, -60)
    published, bright = mpcm(frame), mpcm(frame, bright=True)
    assert published[48, 60] == published.max() > 500
    assert bright[48, 60] == 0
    frame = spot(noise(), 48, 60, 60)
    np.testing.assert_array_equal(mpcm(frame)[46:51, 58:63], mpcm(frame, bright=True)[46:51, 58:63])


def test_lcm_by_hand() -> None:
    """A pixel of 30 on 10: L^2 / m = 900 / 10 in its 3x3 cell; 3 px beside it, its cell is the brightest around."""
    frame = np.full((15, 15), 10.0)
    frame[7, 7] = 30
    response = lcm(frame, sizes=(3,))
    np.testing.assert_allclose(response[6:9, 6:9], 90, rtol=1e-6)
    assert response[7, 10] == pytest.approx(100 / ((8 * 10 + 30) / 9))
    assert response[0, 0] == pytest.approx(10)


def test_rlcm_by_hand() -> None:
    """Two pixels of 40 on 10, K1 = K2 = 2: A = 40, B = 10, A^2 / B - A = 120; beside the cell it is negative, so 0."""
    frame = np.full((60, 60), 10.0)
    frame[30, 30:32] = 40
    response = rlcm(frame, size=5, pairs=((2, 2),))
    assert response[30, 30] == 120
    assert response[30, 36] == 0 and response[10, 10] == 0


def test_wslcm_floor_and_median() -> None:
    one = noise(60, 60)
    one[30, 30] += 120
    assert wslcm(one)[28:33, 28:33].max() == 0  # a single pixel does not outlast the median
    assert wslcm(one, median=False)[30, 30] > 0
    frame = spot(noise(60, 60), 30, 30, 90)
    np.testing.assert_allclose(wslcm(frame, floor=100) * 2, wslcm(frame, floor=50), rtol=1e-5)


@pytest.mark.parametrize("method", FUNCTIONS, ids=lambda f: f.__name__)
def test_black_sky_gives_finite_maps(method) -> None:
    frame = np.zeros((64, 64), np.uint8)
    assert not method(frame).any()
    frame[30:33, 30:33] = 200
    response = method(frame)
    assert np.isfinite(response).all()
    assert response[31, 31] == response.max() > 0
    assert np.isfinite(method(frame.astype(np.float32) - 50)).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lcm", {"size": 5}, "unknown option of lcm 'size' (did you mean 'sizes'?)"),
        ("lcm", {"sizes": (3, 4)}, "lcm: sizes (sides of a cell, px) must be odd and at least 3, found (3, 4)"),
        ("lcm", {"sizes": ()}, "must be one or more different values"),
        ("mpcm", {"sizes": (3, 3)}, "must be one or more different values"),
        ("mpcm", {"bright": 1}, "must be true or false, found 1"),
        ("mpcm", {"border": "zero"}, "must be symmetric or replicate, found 'zero'"),
        ("rlcm", {"pairs": (2, 4, 5)}, "must be pairs of numbers, found (2, 4, 5)"),
        ("rlcm", {"pairs": (2, 0)}, "must be a whole number, at least 1"),
        ("rlcm", {"size": 3}, "16 largest values do not fit a cell of 3 x 3 px"),
        ("tllcm", {"sizes": 3, "values": 10}, "10 largest values do not fit a cell of 3 x 3 px"),
        ("wslcm", {"floor": 0}, "must be a number > 0, found 0"),
        ("wslcm", {"floor": float("nan")}, "must be a number > 0, found nan"),
        ("wslcm", {"values": 2.5}, "must be a whole number, at least 1, found 2.5"),
        ("max-mean", {"size": True}, "must be odd and at least 3, found True"),
        ("max-median", {"diagonals": "main"}, "must be both or anti, found 'main'"),
    ],
)
def test_bad_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        classical_backend(name, **options)
    assert message in str(caught.value)


def test_pairs_in_one_row_are_the_nested_ones() -> None:
    assert classical_backend("rlcm", pairs=(2, 4, 5, 9)).options["pairs"] == ((2, 4), (5, 9))


def motes(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from motes.cli.app import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_through_the_commands(tmp_path: Path) -> None:
    """A method of grey levels on 16-bit counts, with settings: detect says how it scales, evaluate keeps the rule."""
    frame = (spot(noise(64, 64), 20, 40, 90) * 30).round().astype(np.uint16)
    write_image(tmp_path / "images" / "a.png", frame[:, :, None])
    truth = np.zeros((64, 64, 1), np.uint8)
    truth[19:22, 39:42] = 255
    write_image(tmp_path / "masks" / "a.png", truth)
    settings = ("--set", "rule=lambda_0.5", "--set", "sizes=5,7")
    done = motes("detect", tmp_path / "images" / "a.png", "-o", tmp_path / "out", "-m", "wslcm", *settings)
    assert done.returncode == 0, done.stderr
    assert "grey levels" in done.stderr and "4.0 sigma below to 6.0 sigma above" in done.stderr
    with (tmp_path / "out" / "targets.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["x"]) - 40) < 1 and abs(float(row["y"]) - 20) < 1
    frames = ("--image-dir", tmp_path / "images", "--mask-dir", tmp_path / "masks")
    done = motes("evaluate", "wslcm", *frames, "-o", tmp_path / "scores", *settings)
    assert done.returncode == 0, done.stderr
    assert "target: lambda_0.5" in done.stdout
    stored = json.loads((tmp_path / "scores" / "metrics.json").read_text(encoding="utf-8"))
    assert stored["metrics"]["pd"]["value"] == 1
    assert stored["run"]["options"]["rule"] == "lambda_0.5" and stored["run"]["options"]["sizes"] == [5, 7]
