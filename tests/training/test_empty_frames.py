"""Frames that are known to hold no target need no mask."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from miniatures import miniature
from motes.errors import DataError, MotesError
from motes.imaging import write_image
from motes.models import create_model
from motes.training.recipe import Recipe, load_recipe
from motes.training.samples import TrainingSet
from motes.training.selection import check_frames, select_frames

CLUTTER = 3


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of six frames, and three frames without masks."""
    rng = np.random.default_rng(0)
    for i in range(CLUTTER):
        write_image(tmp_path / "clutter" / "images" / f"{i}.png", rng.integers(0, 255, (40, 50, 1)).astype(np.uint8))
    return miniature(tmp_path / "set", "sirstdevkit", 6), tmp_path / "clutter"


def recipe(roots: tuple[Path, Path]) -> Recipe:
    extra = f"data.extra=[{{root: {roots[1]}, empty: true, repeat: 2}}]"
    return load_recipe("sirst_short", [f"data.root={roots[0]}", "data.train=null", extra, "transform.crop=32"])


def test_are_trained_on_as_background(roots: tuple[Path, Path]) -> None:
    chosen = recipe(roots)
    frames = select_frames(chosen)
    check_frames(frames, "native")
    bare = [s for s in frames.train if s.mask is None]
    assert len(bare) == CLUTTER and all(s.empty for s in bare)
    assert not any(s.empty for s in frames.train if s.mask is not None)
    assert frames.repeats[-CLUTTER:] == (2.0,) * CLUTTER
    data = TrainingSet(bare, create_model("acm").card.input, chosen.transform, seed=0)
    pixels, mask, _ = data[(0, 1)]
    assert pixels.shape[1:] == (32, 32) and mask.shape == (1, 32, 32) and not mask.any()
    assert np.ptp(pixels) > 0


def test_get_targets_of_other_frames(roots: tuple[Path, Path]) -> None:
    chosen = recipe(roots)
    train = select_frames(chosen).train
    part = chosen.transform.model_copy(update={"paste": 1.0, "crop": 48, "scale": (1.0, 1.0)})
    data = TrainingSet(train, create_model("acm").card.input, part, seed=0)
    last = len(train) - 1
    assert train[last].empty
    assert any(data[(epoch, last)][1].any() for epoch in range(8))


def test_a_frame_of_a_data_set_without_its_mask_is_an_error(roots: tuple[Path, Path]) -> None:
    frames = select_frames(recipe(roots))
    frame = dataclasses.replace(frames.train[0], mask=None)
    with pytest.raises(DataError, match="has no mask") as caught:
        check_frames(dataclasses.replace(frames, train=(frame,)), "native")
    assert "empty=true" in str(caught.value.hint)


def test_a_folder_without_images_says_so(roots: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no image below this folder"):
        select_frames(recipe((roots[0], tmp_path / "nothing")))


def test_an_unreadable_one_is_found_before_the_run(roots: tuple[Path, Path]) -> None:
    (roots[1] / "images" / "1.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(MotesError, match=r"1\.png"):
        check_frames(select_frames(recipe(roots)), "native")
