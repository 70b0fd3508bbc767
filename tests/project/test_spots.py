"""docs/scripts/spots.py: what is painted over in frames without targets, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import cv2
import numpy as np
import pytest


@pytest.fixture
def spots(docs_script: Callable[[str], ModuleType]) -> ModuleType:
    return docs_script("spots")


def ground(noise: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(90 + noise * rng.standard_normal((120, 160)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("radius", [0, 1, 3, 6])
def test_what_stands_alone_goes_and_nothing_else_changes(spots: ModuleType, radius: int) -> None:
    frame = ground()
    cv2.circle(frame, (100, 40), radius, 180, -1)
    clean = spots.without_spots(frame)
    assert np.abs(clean[30:51, 90:111].astype(float) - 90).max() < 12
    far = np.hypot(*(np.indices(frame.shape) - np.array([40, 100])[:, None, None])) > radius + 5
    assert np.array_equal(clean[far], frame[far])


def test_once_reduced(spots: ModuleType) -> None:
    frame = ground()
    cv2.circle(frame, (100, 60), 13, 180, -1)
    assert np.array_equal(spots.without_spots(frame), frame)
    assert spots.without_spots(frame, (1, 2)).max() < 120


def test_at_the_border(spots: ModuleType) -> None:
    frame = ground()
    frame[0:2, 0:2] = 200
    assert spots.without_spots(frame).max() < 110


@pytest.mark.parametrize("what", ["mast", "edge", "large", "beside", "texture", "faint", "dark"])
def test_clutter_stays(spots: ModuleType, what: str) -> None:
    frame = ground(noise=14.0 if what == "texture" else 2.0)
    if what == "mast":
        frame[30:, 80:83] = 170
    elif what == "edge":
        frame[:, 80:] = 180
    elif what == "large":
        cv2.circle(frame, (80, 60), 14, 180, -1)
    elif what == "beside":  # one of two neighbours would be as good as the other
        frame[60:63, 80:83] = frame[60:63, 88:91] = 180
    elif what == "faint":
        frame[60:63, 80:83] += 5
    elif what == "dark":
        frame[60:63, 80:83] = 20
    assert np.array_equal(spots.without_spots(frame), frame)


def test_a_flat_frame(spots: ModuleType) -> None:
    frame = np.full((40, 50), 7, np.uint8)
    assert not spots.spots(frame).any()
    assert np.array_equal(spots.without_spots(frame), frame)
