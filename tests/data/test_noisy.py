"""A noisy copy of a data set: the noise asked for, everything else as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniatures import MINIATURE_LAYOUTS, miniature
from motes.data import open_dataset
from motes.data.noisy import add_noise, write_noisy
from motes.errors import DataError
from motes.imaging import read_image, read_mask


@pytest.mark.parametrize("layout", MINIATURE_LAYOUTS)
def test_any_layout_keeps_masks_and_splits(tmp_path: Path, layout: str) -> None:
    source = open_dataset(miniature(tmp_path / "clean", layout))
    assert write_noisy(source, tmp_path / "noisy", 20.0) == len(source.samples)
    noisy = open_dataset(tmp_path / "noisy")
    assert noisy.layout == source.layout and noisy.splits == source.splits
    for name, sample in source.samples.items():
        clean, other = read_image(sample.image).pixels, read_image(noisy.samples[name].image).pixels
        assert clean.dtype == other.dtype and clean.shape == other.shape
        middle = (clean > 80) & (clean < 175)  # where three sigma are not clipped
        if middle.sum() > 500:
            assert np.std((other.astype(float) - clean)[middle]) == pytest.approx(20.0, rel=0.1)
        assert np.array_equal(read_mask(sample.mask), read_mask(noisy.samples[name].mask))


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 250), (np.uint16, 65530), (np.uint8, 3)])
def test_clips_at_the_depth_of_the_file(dtype: type, level: int) -> None:
    noisy = add_noise(np.full((50, 50, 1), level, dtype), 30.0, np.random.default_rng(0))
    assert noisy.dtype == dtype
    edge = np.iinfo(dtype).max if level > 100 else 0
    assert 0.3 < np.mean(noisy == edge) < 0.6


def test_bands_of_a_grey_frame_stay_equal() -> None:
    noisy = add_noise(np.full((20, 20, 3), 100, np.uint8), 10.0, np.random.default_rng(0))
    assert (noisy == noisy[..., :1]).all() and noisy.std() > 5


def test_continues_and_repeats_exactly(tmp_path: Path) -> None:
    source = open_dataset(miniature(tmp_path / "clean"))
    write_noisy(source, tmp_path / "a", 10.0, seed=3)
    write_noisy(source, tmp_path / "b", 10.0, seed=3)
    write_noisy(source, tmp_path / "c", 10.0, seed=4)
    first, *_ = sorted((tmp_path / "a" / "images").iterdir())
    again, other = (tmp_path / n / "images" / first.name for n in "bc")
    before = first.read_bytes()
    assert before == again.read_bytes() != other.read_bytes()
    first.unlink()
    assert write_noisy(source, tmp_path / "a", 10.0, seed=3) == 1
    assert first.read_bytes() == before


def test_refuses_what_would_mix_or_overwrite(tmp_path: Path) -> None:
    source = open_dataset(miniature(tmp_path / "clean"))
    write_noisy(source, tmp_path / "noisy", 10.0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for out, sigma, says in (
        (tmp_path / "noisy", 20.0, "was made with"),
        (tmp_path / "clean" / "noisy", 10.0, "lie in each other"),
        (tmp_path / "clean", 10.0, "lie in each other"),
        (tmp_path / "full", 10.0, "not empty"),
        (tmp_path / "new", 0.0, "sigma"),
    ):
        with pytest.raises(DataError, match=says):
            write_noisy(source, out, sigma)
    assert (tmp_path / "full" / "mine.txt").read_text() == "x"


def test_a_linked_root_named_from_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniature(tmp_path / "elsewhere" / "clean", "plain")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "clean").symlink_to(tmp_path / "elsewhere" / "clean")
    monkeypatch.chdir(tmp_path / "here")
    source = open_dataset("clean")
    assert write_noisy(source, Path("noisy"), 20.0) == len(source.samples) == len(open_dataset("noisy").samples)
