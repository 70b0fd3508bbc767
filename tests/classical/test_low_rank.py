"""IPI, NRAM, RIPT, PSTNN: the numbers of the public codes, and their parts against slow definitions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import motes.classical.ipi
import motes.classical.nram
import motes.classical.pstnn
import motes.classical.ript
from motes.classical import classical_backend
from motes.classical.patches import PATCH_VALUES, PatchGrid, in_blocks, patch_grid
from motes.classical.pstnn import corner_weight
from motes.classical.ript import edge_weight
from motes.classical.rules import threshold_rule
from motes.classical.shrinkage import leading_spectrum, shrink_spectrum, shrink_tail, singular_values, weigh_spectrum
from motes.classical.structure import min_max, structure_eigenvalues
from motes.errors import CardError
from motes.imaging import write_image
from motes.inference import Detector

REFERENCE = Path(__file__).parents[1] / "reference" / "classical"
FACTS = json.loads((REFERENCE / "low-rank.json").read_text(encoding="utf-8"))
NAMES = ["ipi", "ript", "nram", "pstnn"]
ORACLES = {
    "ipi_gao": ("ipi", {}),
    "ipi_istd": ("ipi", {"solver": "alm", "combine": "shifted"}),
    "ipi_alm_mean": ("ipi", {"solver": "alm", "combine": "mean"}),
    "nram": ("nram", {}),
    "ript": ("ript", {"combine": "last"}),
    "ript_mean": ("ript", {}),
    "ript_tensoristd": ("ript", {"form": "tensoristd", "combine": "median"}),
    "pstnn": ("pstnn", {}),
    "pstnn_istd": ("pstnn", {"slices": "istd"}),
}
SOLVERS = {name: getattr(motes.classical, name).solve for name in NAMES}
MAPS = [case for case in FACTS["outputs"] if case.split("__")[0] in ORACLES]


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "case-low-rank.npz") as file:
        return dict(file)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max())


def sky(shape: tuple[int, int]) -> np.ndarray:
    i, j = np.indices(shape)
    return 90 + 15 * np.sin(i / 12) * np.cos(j / 9)


@pytest.mark.parametrize("case", MAPS)
def test_maps_of_the_public_codes(case: str, cases: dict[str, np.ndarray]) -> None:
    key, image = case.split("__")
    facts = FACTS["outputs"][case]
    method, options = ORACLES[key]
    frame = cases[f"x__{image}"] / FACTS["inputs"][image]["q"]
    response = classical_backend(method, patch=facts["patch"], step=facts["step"], **options).response(frame)
    assert response.dtype == np.float32
    if key == "pstnn_istd":  # stored as 8 bits after min-max and the frame's maximum
        np.testing.assert_array_equal(np.rint(min_max(response) * frame.max()), cases[case])
        return
    assert close(response, cases[case])
    targets = threshold_rule("mean+5std").targets(response)
    assert np.count_nonzero(targets) == facts["pixels_by_threshold_rule"]["mean+5std"]


@pytest.mark.parametrize("case", [c for c in MAPS if "iterations" in FACTS["outputs"][c]])
def test_iterations_of_the_public_codes(case: str, cases: dict[str, np.ndarray]) -> None:
    key, image = case.split("__")
    facts = FACTS["outputs"][case]
    method, given = ORACLES[key]
    options = classical_backend(method, patch=facts["patch"], step=facts["step"], **given).options
    options = {n: v for n, v in options.items() if n not in ("block", "positive")}
    _, found = SOLVERS[method](cases[f"x__{image}"] / FACTS["inputs"][image]["q"], **options)
    for name, expected in {"iterations": "iterations", "rank": "final_rank", "kept": "N", "patches": "patches"}.items():
        if expected in facts and name in found:
            assert found[name] == facts[expected], name


def test_weight_maps_of_the_public_codes(cases: dict[str, np.ndarray]) -> None:
    frame = cases["x__a"].astype(np.float64)
    assert close(edge_weight(frame), cases["ript_weight__a"])
    assert close(corner_weight(frame), cases["pstnn_weight__a"])


def test_pstnn_where_its_corner_weight_is_undefined(cases: dict[str, np.ndarray]) -> None:
    """The saturated block: 0/0 there, which stays out of the extremes and holds no target."""
    facts = FACTS["flat_case"]["pstnn"]
    frame = cases["x__f"].astype(np.float64)
    large, small = structure_eigenvalues(frame, 2.0, 9.0)
    assert np.count_nonzero(large + small == 0) == facts["weight_undefined_pixels"]
    found, solved = SOLVERS["pstnn"](frame, facts["patch"], facts["step"], 0.7, "last", "all")
    assert not found.any()
    assert (solved["iterations"], solved["kept"]) == (facts["iterations"], facts["N"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 3), (40, 7), (50, 50), (61, 83)])
def test_any_size_and_flat_frames_hold_no_target(name: str, size: tuple[int, int]) -> None:
    """No warning either: 0/0 never happens by accident. Frames below the patch take a smaller one."""
    detector = Detector(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for flat in (np.full(size, 77, np.uint8), np.zeros(size, np.uint16), np.full(size, 7.5, np.float32)):
            assert len(detector.detect(flat)) == 0
        busy = np.random.default_rng(3).integers(0, 4000, size).astype(np.uint16)
        ramp = np.arange(busy.size, dtype=np.uint16).reshape(size)
        for frame in (busy, ramp, (ramp % 2 * 255).astype(np.uint8)):
            probability = detector.probability(frame)
            assert probability.shape == size
            assert np.isfinite(probability).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("seed", range(3))
def test_planted_target_is_found_first(name: str, dtype: type, seed: int) -> None:
    """A spot of sigma 1 px, twenty times the noise, on a smooth sky: the most certain detection of the frame."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:110, :120]
    y, x = rng.uniform(15, 95, 2)
    noise, base, swing = (3.0, 90.0, 15.0) if dtype is np.uint8 else (25.0, 7400.0, 125.0)
    frame = base + swing * np.sin(i / 25) * np.cos(j / 30) + rng.normal(0, noise, i.shape)
    frame += 20 * noise * np.exp(-((i - y) ** 2 + (j - x) ** 2) / 2)
    found = Detector(name).detect(np.clip(frame.round(), 0, np.iinfo(dtype).max).astype(dtype))
    assert len(found)
    np.testing.assert_allclose(found.centroids[np.argmax(found.scores)] - [x + 0.5, y + 0.5], 0, atol=1.5)


@pytest.mark.parametrize("name", ["ipi", "nram"])
def test_a_gain_and_an_offset_change_nothing(name: str, cases: dict[str, np.ndarray]) -> None:
    frame = cases["x__a"].astype(np.float64)
    backend = classical_backend(name, patch=20)
    expected = backend.response(frame)
    np.testing.assert_allclose(backend.response(frame * 97 + 3000), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_find_what_the_whole_frame_holds(name: str) -> None:
    """Equal targets inside blocks, on their seams and in the corners: each at its place, all about as strong."""
    frame = sky((150, 130)) + np.random.default_rng(5).normal(0, 1, (150, 130))
    places = [(20, 20), (2, 127), (74, 64), (75, 20), (140, 65), (146, 126)]
    i, j = np.indices(frame.shape)
    for y, x in places:
        frame += 80 * np.exp(-((i - y) ** 2 + (j - x) ** 2) / 2)
    options = {"ipi": {"step": 8, "border": "flush"}, "pstnn": {"step": 16}}.get(name, {"step": 8})
    response = classical_backend(name, patch=16, block=64, **options).response(frame)
    strengths = []
    for y, x in places:
        strengths.append(response[y, x])
        response[max(y - 3, 0) : y + 4, x - 3 : x + 4] = 0
    assert min(strengths) > 0.6 * max(strengths)
    assert response.max() < 0.3 * max(strengths)


def test_blocks_share_the_scale_of_the_frame() -> None:
    """Equal targets answer equally in IPI, whether or not a brighter source widens the range of their block."""
    frame = np.full((32, 128), 50.0) + np.random.default_rng(0).normal(0, 0.5, (32, 128))
    frame[10:12, 20:22] += 100
    frame[10:12, 110:112] += 100
    frame[25:27, 100:102] += 900
    response = classical_backend("ipi", patch=16, step=4, block=64).response(frame)
    peaks = response[10:12, 20:22].max(), response[10:12, 110:112].max()
    assert peaks[0] == pytest.approx(peaks[1], rel=0.25)
    assert peaks[0] == pytest.approx(100 / 950, rel=0.25)


def test_ipi_searches_its_rim_only_with_flush_patches() -> None:
    frame = np.random.default_rng(1).normal(100, 1, (77, 78))
    frame[74:76, 74:76] += 80
    assert not classical_backend("ipi", patch=20).response(frame)[70:].any()
    flush = classical_backend("ipi", patch=20, border="flush").response(frame)
    assert np.unravel_index(flush.argmax(), flush.shape)[0] in (74, 75)


@pytest.mark.parametrize("shape", [(10, 7), (64, 64), (65, 64), (200, 131)])
@pytest.mark.parametrize(("block", "patch"), [(64, 10), (40, 20), (1000, 3)])
def test_blocks_cover_the_frame_once(shape: tuple[int, int], block: int, patch: int) -> None:
    frame = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    sides = []

    def solve(part: np.ndarray) -> np.ndarray:
        sides.extend(part.shape)
        return part

    np.testing.assert_array_equal(in_blocks(solve, frame, block, patch), frame)
    assert max(sides) <= block
    assert min(sides) >= min(patch, *shape)


@pytest.mark.parametrize(
    ("length", "border", "expected"),
    [
        (50, "flush", (0, 10, 20, 30)),
        (53, "flush", (0, 10, 20, 30, 33)),
        (53, "inside", (0, 10, 20, 30)),
        (50, "inside", (0, 10, 20, 30)),
        (50, "before", (0, 10, 20)),
        (53, "before", (0, 10, 20, 30)),
    ],
)
def test_patch_positions(length: int, border: str, expected: tuple[int, ...]) -> None:
    grid = patch_grid((length, 80), 20, 10, border=border)
    assert (grid.patch, grid.rows) == (20, expected)


@pytest.mark.parametrize(
    ("shape", "patch", "expected"), [((40, 60), 50, 20), ((40, 70), 30, 30), ((1, 9), 50, 1), ((50, 51), 50, 25)]
)
def test_small_frames_take_smaller_patches(shape: tuple[int, int], patch: int, expected: int) -> None:
    grid = patch_grid(shape, patch, 10)
    assert grid.patch == expected
    assert (grid.rows[-1] + expected, grid.columns[-1] + expected) == shape


@pytest.mark.parametrize("by_columns", [True, False])
def test_patches_by_hand(by_columns: bool) -> None:
    """A 3x3 frame in patches of 2: the centre lies in four, the edges in two."""
    frame = np.arange(9.0).reshape(3, 3)
    grid = PatchGrid((3, 3), 2, (0, 1), (0, 1), by_columns)
    patches = grid.cut(frame)
    np.testing.assert_array_equal(patches[1], [[3, 4], [6, 7]] if by_columns else [[1, 2], [4, 5]])
    for combine in ("mean", "median", "last"):
        np.testing.assert_array_equal(grid.paste(patches, combine), frame)
    changed = np.stack([np.full((2, 2), v) for v in (1.0, 2.0, 4.0, 8.0)])
    second, third = (4, 2) if by_columns else (2, 4)
    mean = [[1, (1 + second) / 2, second], [(1 + third) / 2, 15 / 4, (second + 8) / 2], [third, (third + 8) / 2, 8]]
    np.testing.assert_array_equal(grid.paste(changed, "mean"), mean)
    np.testing.assert_array_equal(grid.paste(changed, "median"), [*mean[:1], [mean[1][0], 3, mean[1][2]], mean[2]])
    np.testing.assert_array_equal(grid.paste(changed, "last"), [[1, second, second], [third, 8, 8], [third, 8, 8]])
    assert grid.paste(changed, "shifted")[1, 1] == (1 + 2 + 4) / 4


@pytest.mark.parametrize("border", ["flush", "inside", "before"])
def test_median_against_its_definition(border: str) -> None:
    rng = np.random.default_rng(4)
    grid = patch_grid((23, 31), 8, 3, border=border)
    patches = rng.normal(size=(len(grid), 8, 8))
    values: dict[tuple[int, int], list[float]] = {}
    for patch, (i, j) in zip(patches, [(i, j) for j in grid.columns for i in grid.rows], strict=True):
        for (di, dj), value in np.ndenumerate(patch):
            values.setdefault((i + di, j + dj), []).append(value)
    expected = [[np.median(values.get((i, j), [0.0])) for j in range(31)] for i in range(23)]
    np.testing.assert_allclose(grid.paste(patches, "median"), expected)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (20, 20)])
@pytest.mark.parametrize("threshold", [0.0, 1e-8, 0.5, 3.0, 1e4])
def test_shrinkage_against_the_decomposition(shape: tuple[int, int], threshold: float) -> None:
    rng = np.random.default_rng(6)
    matrix = 100 * rng.random((shape[0], 2)) @ rng.random((2, shape[1])) + rng.normal(0, 0.5, shape)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    expected = (u * np.maximum(s - threshold, 0)) @ vt
    found, rank = shrink_spectrum(matrix, threshold)
    np.testing.assert_allclose(found, expected, atol=1e-9 * s[0])
    assert rank == np.count_nonzero(s > threshold)
    np.testing.assert_allclose(singular_values(matrix), s, atol=1e-7 * s[0])


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_leading_part_against_the_decomposition(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(7).normal(size=shape)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    values, vectors = leading_spectrum(matrix, 3, s[20] + 1e-6)
    assert len(values) >= 20
    np.testing.assert_allclose(values, s[: len(values)])
    part = weigh_spectrum(matrix, vectors[:, :20], np.full(20, 0.5))
    np.testing.assert_allclose(part, (u[:, :20] * s[:20] * 0.5) @ vt[:20], atol=1e-10)


@pytest.mark.parametrize("threshold", [1e-9, 2.0, 1e3])
@pytest.mark.parametrize("keep", [1, 3])
def test_tail_shrinkage_against_the_decomposition(threshold: float, keep: int) -> None:
    rng = np.random.default_rng(8)
    slices = rng.normal(size=(5, 12, 12)) + 1j * rng.normal(size=(5, 12, 12))
    u, s, vt = np.linalg.svd(slices)
    s[:, keep:] = np.maximum(s[:, keep:] - threshold, 0)
    np.testing.assert_allclose(shrink_tail(slices, keep, threshold), (u * s[:, None]) @ vt, atol=1e-10)


def test_structure_tensor_of_a_ramp_and_of_nothing() -> None:
    """A slope of 3 down and 4 across has one direction: eigenvalues 25 and 0, away from the border."""
    i, j = np.mgrid[:9.0, :11.0]
    large, small = structure_eigenvalues(3 * i + 4 * j, 1.2, 2.0)
    np.testing.assert_allclose(large[3:-3, 3:-3], 25)
    np.testing.assert_allclose(small[3:-3, 3:-3], 0, atol=1e-12)
    flat = structure_eigenvalues(np.full((5, 6), 0.1), 1.2, 2.0)
    assert not np.any(flat)
    np.testing.assert_array_equal(min_max(np.array([np.nan, 2.0, 4.0, 3.0])), [0, 0, 1, 0.5])
    np.testing.assert_array_equal(min_max(np.array([np.nan, 2.0])), [0, 0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ipi", {"step": 60}, "ipi: step 60 is larger than patch 50"),
        ("ipi", {"block": 90}, "ipi: block 90 must be at least two patches of 50 px wide"),
        ("nram", {"step": 1}, f"and {PATCH_VALUES / 1e6:.0f} million is the limit"),
        ("ipi", {"patch": 1}, "must be a whole number, at least 2"),
        ("ipi", {"solver": "adm"}, "must be apg or alm, found 'adm'"),
        ("nram", {"combine": "shifted"}, "must be last, mean or median"),
        ("ript", {"weight": 0}, "must be a number > 0"),
        ("pstnn", {"patchs": 40}, "did you mean 'patch'?"),
    ],
)
def test_bad_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        classical_backend(name, **options)
    assert message in str(caught.value)
    if set(options) <= {"step", "block"} and "patch" not in options:  # the function alone refuses as well
        function = getattr(getattr(motes.classical, name), name)
        with pytest.raises(CardError):
            function(np.zeros((60, 60)), **options)


@pytest.mark.parametrize("name", NAMES)
def test_through_the_command(name: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from motes.cli.app import app

    frame = sky((64, 72)) + np.random.default_rng(2).normal(0, 2, (64, 72))
    frame[30:33, 40:43] += 90
    write_image(tmp_path / "frame.png", frame.round().astype(np.uint8))
    command = ["detect", str(tmp_path / "frame.png"), "-o", str(tmp_path / "out"), "--model", name, "--set", "patch=20"]
    result = CliRunner().invoke(app, [*command, "--set", "step=10"])
    assert result.exit_code == 0, result.output
    rows = (tmp_path / "out" / "targets.csv").read_text().splitlines()
    assert rows[0].startswith("image,x,y")
    x, y = map(float, rows[1].split(",")[1:3])
    assert abs(x - 41.5) < 1.5
    assert abs(y - 31.5) < 1.5
