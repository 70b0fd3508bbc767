"""docs/scripts/mine_clutter.py: where it cuts, and what it writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from spot_network import sky

from motes.imaging import read_image, write_image


@pytest.fixture
def script(docs_script: Callable[[str], ModuleType]) -> ModuleType:
    return docs_script("mine_clutter")


def test_a_window_for_each_strong_answer_that_no_window_holds_yet(script: ModuleType) -> None:
    probability = np.zeros((400, 900), np.float32)
    for y, x, p in ((10, 20, 0.9), (60, 90, 0.8), (200, 800, 0.7), (390, 450, 0.1)):
        probability[y, x] = p
    first, second = script.hard_windows(probability)
    assert first == (slice(0, 320), slice(0, 320))  # holds the second answer too; moved into the frame
    assert second == (slice(40, 360), slice(580, 900))


def test_windows_of_frames_without_targets(
    script: ModuleType, spot_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    alone = sky(90, 120, [(40, 50)])
    mast = sky(90, 120, [])
    mast[20:70, 49:52] = 170
    mast[20:23, 49:52] = 255
    for name, frame in (("alone", alone), ("mast", mast)):
        write_image(tmp_path / "in" / f"{name}.png", frame)
    write_image(tmp_path / "out" / "images" / "old.png", sky(8, 8, []))
    monkeypatch.setattr(script, "SCALES", (1.0,))
    monkeypatch.setattr(sys, "argv", ["mine_clutter.py", *map(str, (spot_onnx, tmp_path / "in", tmp_path / "out"))])
    assert script.main() == 0
    assert capsys.readouterr().out.startswith("1 windows of 2 frames")
    (file,) = (tmp_path / "out" / "images").iterdir()
    assert file.name == "mast-1-0.png"
    assert np.array_equal(read_image(file).pixels[..., 0], mast)
