"""``motes leaderboard`` of detectors, as installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import Motes

import motes as package
from miniatures import miniature
from motes.checkpoints import write_safetensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    files = []
    for name in ("fcos", "atss"):
        torch.manual_seed(0)
        net = package.create_model(name, "small", backbone="test_resnet", width=32)
        files.append(tmp_path_factory.mktemp("weights") / f"{name}.safetensors")
        write_safetensors(files[-1], {k: v.numpy() for k, v in net.state_dict().items()}, net.card)
    return files


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature(tmp_path_factory.mktemp("data") / "kit", "sirstdevkit", 4)


def test_two_detectors(motes: Motes, weights: list[Path], kit: Path, tmp_path: Path) -> None:
    first = motes("leaderboard", weights[0], "--data", kit, "-o", tmp_path / "out")
    assert (first.code, first.err) == (0, "")
    before = (tmp_path / "out" / "rows" / "kit-all-exact" / "fcos" / "row.npz").stat().st_mtime_ns
    both = motes("leaderboard", *weights, "--data", kit, "-o", tmp_path / "out")
    assert (both.code, both.err) == (0, "")
    assert "protocol exact" in both.out and both.out.count("recall") == 2
    assert (tmp_path / "out" / "rows" / "kit-all-exact" / "fcos" / "row.npz").stat().st_mtime_ns == before
    text = (tmp_path / "out" / "kit.md").read_text(encoding="utf-8")
    assert "**FCOS**" in text and "**ATSS**" in text and "Published" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tophat"], "'FCOS' gives boxes and 'Top-Hat' maps of targets, which cannot stand in one leaderboard"),
        (["-p", "dnanet"], "protocol 'dnanet' is not for boxes, which these entries give (known: exact, deepir)"),
    ],
)
def test_bad_input(motes: Motes, words: list[str], says: str, weights: list[Path], kit: Path, tmp_path: Path) -> None:
    done = motes("leaderboard", weights[0], *words, "--data", kit, "-o", tmp_path / "out")
    assert done.code == 2 and says in done.err and done.err.count("\n") == 1 and not done.out
    assert not (tmp_path / "out").exists()
