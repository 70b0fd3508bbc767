"""``motes data info``, ``check`` and ``split`` as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from motes.imaging import write_image

IDS = "abcdef"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six unlike frames with one target each and two lists."""
    root = tmp_path / "set"
    for n, name in enumerate(IDS):
        mask = np.zeros((40, 48, 1), np.uint8)
        mask[10:12, 5 + n : 8 + n] = 255
        write_image(root / "images" / f"{name}.png", np.random.default_rng(n).integers(0, 255, (40, 48, 1), np.uint8))
        write_image(root / "masks" / f"{name}.png", mask)
    (root / "mine").mkdir()
    (root / "mine" / "train.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    (root / "mine" / "test.txt").write_text("e\nf\n", encoding="utf-8")
    return root


def test_info(root: Path, motes) -> None:
    code, out, err = motes("data", "info", root)
    assert (code, err) == (0, "")
    for words in ("dnanet", "6 (6 uint8 x1)", "min 6", "mine/train"):
        assert words in out
    code, out, _ = motes("data", "info", root, "--json", "-o", root / "new" / "info.json")
    found = json.loads(out)
    assert (found["targets"], found["splits"]["mine/test"]) == (6, {"images": 2, "targets": 2, "missing": 0})
    assert json.loads((root / "new" / "info.json").read_text(encoding="utf-8")) == found


def test_check_clean_then_warning_then_error(root: Path, motes) -> None:
    code, out, _ = motes("data", "check", root)
    assert code == 0 and "6 images, nothing found" in out
    (root / "masks" / "x.png").write_bytes((root / "masks" / "a.png").read_bytes())
    code, out, _ = motes("data", "check", root)
    assert code == 0 and "mask-without-image" in out and "1 warning" in out
    (root / "masks" / "a.png").unlink()
    code, out, _ = motes("data", "check", root, "--json", "-o", root / "report.json")
    report = json.loads(out)
    assert code == 1 and report["ok"] is False
    assert report["counts"] == {"error": 1, "warning": 1, "note": 0}
    assert [f["kind"] for f in report["findings"]] == ["image-without-mask", "mask-without-image"]
    assert report["findings"][0]["names"] == ["a"]
    assert json.loads((root / "report.json").read_text(encoding="utf-8")) == report


def test_check_shows_three_of_a_kind_or_all(root: Path, motes) -> None:
    for name in IDS[:5]:
        (root / "masks" / f"{name}.png").unlink()
    _, out, _ = motes("data", "check", root)
    assert "and 2 more (--all)" in out
    _, out, _ = motes("data", "check", root, "--all")
    assert all(f"{name}: no mask for" in out for name in IDS[:5])


def test_split(root: Path, motes) -> None:
    code, out, _ = motes("data", "split", root, "--val", "0.34", "--seed", "5")
    assert code == 0 and "val.txt: 2 images" in out
    first = (root / "seed5" / "val.txt").read_bytes()
    assert motes("data", "split", root, "--val", "0.34", "--seed", "5")[0] == 0
    assert (root / "seed5" / "val.txt").read_bytes() == first and b"\r" not in first
    code, _, err = motes("data", "split", root, "--val", "0.5", "--seed", "5")
    assert code == 2 and "holds another list" in err
    code, out, _ = motes("data", "split", root, "--of", "mine/train", "--val", ".25", "-o", root / "out", "--json")
    assert code == 0 and json.loads(out)["val"] == {"file": str(root / "out" / "val.txt"), "images": 1}


def test_split_says_when_twins_make_it_smaller(root: Path, motes) -> None:
    for name in IDS[1:]:
        (root / "images" / f"{name}.png").write_bytes((root / "images" / "a.png").read_bytes())
    code, _, err = motes("data", "split", root, "--val", "0.5")
    assert code == 0 and "val has 0 images instead of 3" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "{root}/imges"), "no such folder"),
        (("check", "{root}/images"), "the folder above it looks like one"),
        (("check", "{root}", "--layout", "dnnet"), "did you mean 'dnanet'?"),
        (("check", "{root}", "--twins", "9"), "near-twin threshold of 9"),
        (("split", "{root}", "--by", "near-twin"), "did you mean 'near-twins'?"),
        (("split", "{root}", "--of", "mine/trian"), "did you mean 'mine/train'?"),
        (("split", "{root}", "--val", "1.5"), "leave nothing to train on"),
        (("info", "{root}", "--image-dir", "images", "--mask-dir", "mask"), "mask_dir: no such folder: mask"),
    ],
)
def test_bad_input_is_one_line(root: Path, motes, words: tuple[str, ...], message: str) -> None:
    code, out, err = motes("data", *(w.format(root=root) for w in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_read_only_set(root: Path, motes) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("permissions do not bind here")
    root.chmod(0o500)
    try:
        code, _, err = motes("data", "split", root)
    finally:
        root.chmod(0o700)
    assert code == 2 and err.count("\n") == 1 and str(root) in err


def test_the_installed_command_needs_no_torch(root: Path) -> None:
    block = "import sys; sys.modules['torch'] = None; from motes.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", block, "data", "check", str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_cannot_be_written(root: Path, motes) -> None:
    for words in (
        ("info", root, "-o", root / "mine" / "test.txt" / "i.json"),
        ("split", root, "-o", root / "mine" / "test.txt"),
    ):
        code, out, err = motes("data", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "test.txt" in err
    assert (root / "mine" / "test.txt").read_text(encoding="utf-8") == "e\nf\n"
