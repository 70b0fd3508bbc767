"""Targets from literal probability maps."""

from __future__ import annotations

import numpy as np
import pytest

from motes.inference import Detections, find_targets


def grid(text: str) -> np.ndarray:
    """Digits are tenths of probability, dots zero."""
    return np.array([[0 if c == "." else int(c) / 10 for c in row] for row in text.split()], np.float32)


MAP = grid("""
    ........
    .98.....
    .7......
    ...6....
    .......9
    .......9
    3....33.
""")


def test_components_are_eight_connected_and_sorted_by_score() -> None:
    found = find_targets(MAP, threshold=0.5)
    assert found.boxes.tolist() == [[1, 1, 3, 3], [7, 4, 8, 6], [3, 3, 4, 4]]
    assert found.areas.tolist() == [3, 2, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.centers[0], [4 / 3, 4 / 3])
    # without counts the centroid is weighted by probability
    np.testing.assert_allclose(
        found.centroids[0], [(0.9 + 2 * 0.8 + 0.7) / 2.4, (0.9 + 0.8 + 2 * 0.7) / 2.4], rtol=1e-6
    )
    assert np.isnan(found.scr).all()


def test_diagonal_neighbours_are_one_target() -> None:
    assert len(find_targets(grid("9.. .9. ..9"))) == 1


def test_threshold_is_exclusive() -> None:
    assert len(find_targets(np.full((3, 3), 0.5, np.float32), threshold=0.5)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5)])
def test_nothing_and_everything(shape: tuple[int, int]) -> None:
    nothing = find_targets(np.zeros(shape, np.float32), np.zeros(shape, np.uint8))
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    everything = find_targets(np.ones(shape, np.float32), np.full(shape, 7, np.uint16))
    assert everything.areas.tolist() == [shape[0] * shape[1]]
    assert np.isnan(everything.scr).all()  # no surroundings are left


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.2), (-0.45, 0.4)])
def test_centroid_follows_the_counts_not_the_mask(offset: tuple[float, float]) -> None:
    y, x = np.mgrid[:64, :64].astype(float)
    cx, cy = 30 + offset[0], 33 + offset[1]
    counts = (7000 + 3000 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.0**2))).round().astype(np.uint16)
    mask = (np.hypot(x - 30, y - 33) < 3.6).astype(np.float32)  # symmetric about the whole pixel
    found = find_targets(mask, counts)
    np.testing.assert_allclose(found.centers[0], [30, 33])
    np.testing.assert_allclose(found.centroids[0], [cx, cy], atol=0.03)


def test_dark_target_has_negative_scr_and_its_own_centroid() -> None:
    rng = np.random.default_rng(0)
    counts = rng.normal(1000, 10, (50, 50))
    probability = np.zeros((50, 50), np.float32)
    probability[20:23, 30:33] = 0.9
    counts[20:23, 30:33] -= 200
    counts[21, 32] -= 200
    found = find_targets(probability, counts.astype(np.uint16))
    assert -26 < found.scr[0] < -18
    assert found.centroids[0, 0] > 31.05


def test_scr_is_contrast_over_local_clutter() -> None:
    rng = np.random.default_rng(1)
    counts = rng.normal(7400, 25, (200, 200))
    counts[:, 120:] = rng.normal(7400, 250, (200, 80))  # far clutter does not count
    probability = np.zeros((200, 200), np.float32)
    probability[50:53, 50:53] = 1
    counts[50:53, 50:53] = 7400 + 180
    counts[48:50, 48:55] += 300  # the blur beside a target belongs to neither side
    found = find_targets(probability, counts)
    assert found.scr[0] == pytest.approx(180 / 25, rel=0.1)


def test_colour_frames_use_the_mean_of_the_channels() -> None:
    rng = np.random.default_rng(2)
    grey = rng.integers(50, 60, (40, 40))
    grey[20, 20] = 200
    rgb = np.stack([grey - 3, grey, grey + 3], axis=2).astype(np.uint8)
    probability = np.zeros((40, 40), np.float32)
    probability[19:22, 19:22] = 1
    ours, theirs = find_targets(probability, rgb), find_targets(probability, grey.astype(np.uint8))
    np.testing.assert_allclose(ours.scr, theirs.scr)
    np.testing.assert_allclose(ours.centroids, theirs.centroids)


def test_counts_of_sixteen_bits_are_not_flattened() -> None:
    counts = np.full((64, 64), 7400, np.uint16)
    counts[::2] += 1
    counts[10:13, 10:13] = 7580
    probability = np.zeros((64, 64), np.float32)
    probability[10:13, 10:13] = 1
    assert find_targets(probability, counts).scr[0] == pytest.approx(179.5 / 0.5, rel=0.01)


def test_flip_moves_targets_and_changes_nothing_else() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(100, 300, (60, 80)).astype(np.uint16)
    probability = (rng.random((60, 80)) ** 8).astype(np.float32)
    there, back = find_targets(probability, counts), find_targets(probability[:, ::-1], counts[:, ::-1])
    assert len(there) > 5
    order = np.lexsort((there.boxes[:, 0], there.boxes[:, 1]))
    mirrored = back.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [80, 0, 80, 0]
    other = np.lexsort((mirrored[:, 0], mirrored[:, 1]))
    np.testing.assert_allclose(there.boxes[order], mirrored[other])
    np.testing.assert_allclose(np.sort(there.scr), np.sort(back.scr))


FOUND = Detections(
    boxes=[[1, 2, 3, 4], [5, 6, 9, 9]],
    centroids=[[1.5, 2.5], [6.25, 7.0]],
    centers=[[1.5, 2.5], [6.5, 7.0]],
    scores=[0.9, 0.6],
    areas=[4, 10],
    scr=[5.5, np.nan],
    labels=[0, 0],
    name="a.png",
    size=(20, 30),
)


def test_detections_index_like_arrays() -> None:
    assert len(FOUND) == 2
    assert FOUND[0].boxes.tolist() == [[1, 2, 3, 4]]
    assert FOUND[FOUND.scores < 0.7].areas.tolist() == [10]
    assert FOUND[::-1].areas.tolist() == [10, 4]
    assert len(FOUND[[]]) == 0
    assert FOUND[np.zeros(2, bool)].boxes.shape == (0, 4)
    assert [len(one) for one in FOUND] == [1, 1]
    assert FOUND[1].name == "a.png"
    with pytest.raises(IndexError):
        FOUND[2]


def test_detections_rows_are_plain() -> None:
    assert FOUND.to_rows()[1] == {
        "image": "a.png", "x": 6.25, "y": 7.0, "x1": 5, "y1": 6, "x2": 9, "y2": 9,
        "area": 10, "score": 0.6, "scr": None, "label": "target",
    }  # fmt: skip


def test_detections_columns_round_trip() -> None:
    again = Detections.from_columns(FOUND.columns(), name="a.png", size=(20, 30))
    for column in ("boxes", "centroids", "centers", "scores", "areas", "scr", "labels"):
        np.testing.assert_array_equal(getattr(again, column), getattr(FOUND, column))


def test_detections_refuse_columns_of_other_lengths() -> None:
    with pytest.raises(ValueError, match=r"Detections.scores: expected shape \(1,\), found \(2,\)"):
        Detections(
            boxes=[[0, 0, 1, 1]], centroids=[[0, 0]], centers=[[0, 0]], scores=[1, 1], areas=[1], scr=[1], labels=[0]
        )
