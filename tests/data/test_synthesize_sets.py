"""Synthetic data sets: every layout reads back, interrupted ones go on, nothing is half-written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from miniatures import MINIATURE_LAYOUTS, miniature
from motes.data import open_dataset
from motes.data.synthesize import scene, write_dataset
from motes.data.synthetic_sets import Shares
from motes.errors import DataError
from motes.imaging import read_image, read_mask

SMALL = {"height": 32, "width": 40, "kind": "sky"}


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("layout", MINIATURE_LAYOUTS)
def test_every_layout_reads_back(tmp_path, layout):
    root = miniature(tmp_path / "set", layout, 5, bits=14, seed=3)
    dataset = open_dataset(root)
    assert dataset.layout == layout and len(dataset.samples) == 5
    truth = json.loads((root / "targets.json").read_text(encoding="utf-8"))["frames"]
    for i, name in enumerate(truth):
        sample = dataset.samples[name]
        frame = scene(64, 80, (3, i), bits=14, targets=(1, 2), snr=(20, 40), kind="sky")
        image = read_image(sample.image)
        assert image.pixels.dtype == np.uint16 and np.array_equal(image.pixels[..., 0], frame.pixels)
        assert np.array_equal(read_mask(sample.mask), frame.mask)
        assert len(truth[name]["targets"]) == len(frame.targets) > 0
        assert truth[name]["targets"][0]["x"] == pytest.approx(frame.targets[0].x, abs=1e-4)
    train = max((s for s in dataset.splits if "train" in s), key=lambda s: len(dataset.splits[s]))
    test = next(s for s in dataset.splits if "test" in s)
    inside, outside = set(dataset.splits[train]), set(dataset.splits[test])
    assert len(outside) == 1 and not inside & outside and len(inside) >= 3


@pytest.mark.parametrize("layout", MINIATURE_LAYOUTS)
def test_check_finds_nothing_wrong(tmp_path, layout):
    from motes.data import check

    findings = check(open_dataset(miniature(tmp_path / "set", layout, 4, kind="cloud", test=0.25, val=0.25)))
    assert [f for f in findings if f.severity == "error"] == []
    assert [f for f in findings if f.kind in ("orphan", "size mismatch", "mask values", "box")] == []


def test_devkit_boxes_and_points_follow_the_real_ones(tmp_path):
    """Boxes count from 1 and end past the last pixel, points count from 1; see SIRST's README."""
    root = miniature(tmp_path / "set", "sirstdevkit", 2)
    targets = json.loads((root / "targets.json").read_text(encoding="utf-8"))["frames"]["synthetic_00000"]["targets"]
    boxes = ElementTree.parse(root / "SIRST/BBox/synthetic_00000.xml").findall(".//bndbox")
    points = ElementTree.parse(root / "SIRST/Point_label/synthetic_00000.xml").findall(".//centroid")
    for target, box, point in zip(targets, boxes, points, strict=True):
        assert [int(v.text) for v in box] == [v + 1 for v in target["box"]]
        assert float(point.find("xc").text) == pytest.approx(target["x"] + 1, abs=1e-3)
        assert float(point.find("yc").text) == pytest.approx(target["y"] + 1, abs=1e-3)
    from PIL import Image

    with Image.open(root / "SIRST/PaletteMask/synthetic_00000.png") as palette:
        assert palette.mode == "P" and set(np.unique(palette)) == {0, 1}
    assert read_mask(root / "SkySeg/BinaryMask/synthetic_00000_pixels0.png").all()


def test_interrupted_set_goes_on_to_the_same_files(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_dataset(whole, "sirstdevkit", 6, 1, **SMALL)

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(broken, "sirstdevkit", 6, 1, progress=stop, **SMALL)
    image = broken / "PNGImages" / "synthetic_00001.png"
    kept = image.stat().st_mtime_ns
    written = write_dataset(broken, "sirstdevkit", 6, 1, **SMALL)
    assert (written.made, written.kept) == (3, 3)
    assert image.stat().st_mtime_ns == kept
    assert tree(broken) == tree(whole)


def test_a_crash_that_lost_metadata_or_files_is_made_good(tmp_path):
    root = tmp_path / "set"
    write_dataset(root, "plain", 4, 1, **SMALL)
    before = tree(root)
    (root / "images" / "synthetic_00002.png").unlink()
    (root / "masks" / "synthetic_00003.png").unlink()
    file = root / "targets.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    del settings["frames"]["synthetic_00000"]
    file.write_text(json.dumps(settings), encoding="utf-8")
    written = write_dataset(root, "plain", 4, 1, **SMALL)
    assert (written.made, written.kept) == (3, 1)
    assert tree(root) == before


def test_more_frames_are_added_and_none_is_taken_away(tmp_path):
    root, fresh = tmp_path / "set", tmp_path / "fresh"
    write_dataset(root, "serankdet", 3, 1, **SMALL)
    write_dataset(root, "serankdet", 7, 1, **SMALL)
    write_dataset(fresh, "serankdet", 7, 1, **SMALL)
    assert tree(root) == tree(fresh)
    written = write_dataset(root, "serankdet", 2, 1, **SMALL)
    assert written.made == 0 and sum(written.parts.values()) == 7
    assert tree(root) == tree(fresh)


@pytest.mark.parametrize(("test", "val"), [(0.2, 0.2), (0.5, 0.0), (0.0, 0.0), (0.3, 0.7)])
def test_shares_are_met(test, val):
    parts = [Shares(test, val).part(i) for i in range(1000)]
    assert parts.count("test") == pytest.approx(1000 * test, abs=3)
    assert parts.count("val") == pytest.approx(1000 * val, abs=3)
    assert parts[:50] == [Shares(test, val).part(i) for i in range(50)]


def test_empty_frames_are_normal(tmp_path):
    root = tmp_path / "set"
    assert write_dataset(root, "sirstdevkit", 2, 0, targets=0, **SMALL).targets == 0
    for sample in open_dataset(root).samples.values():
        assert not read_mask(sample.mask).any()


@pytest.mark.parametrize(("suffix", "bits"), [(".tif", 14), (".tif", 16), (".bmp", 8), (".png", 8)])
def test_suffixes(tmp_path, suffix, bits):
    write_dataset(tmp_path / "set", "plain", 1, 0, suffix=suffix, bits=bits, **SMALL)
    image = read_image(tmp_path / "set" / "images" / f"synthetic_00000{suffix}")
    assert np.array_equal(image.pixels[..., 0], scene(32, 40, (0, 0), bits=bits, kind="sky").pixels)


def test_full_disk_is_one_sentence_and_leaves_what_was_finished(tmp_path, monkeypatch):
    root, replace = tmp_path / "set", os.replace
    write_dataset(root, "plain", 2, 0, **SMALL)
    before = tree(root)

    def full(source, target):
        if "images" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"cannot write to .*images.*: No space left on device \(what was finished is"):
        write_dataset(root, "plain", 4, 0, **SMALL)
    after = tree(root)
    assert all(after[name] == data for name, data in before.items())
    assert not [name for name in after if ".motes" in name]
    monkeypatch.undo()
    assert write_dataset(root, "plain", 4, 0, **SMALL).made == 2


@pytest.mark.parametrize(
    ("prepare", "arguments", "said"),
    [
        (None, {"layout": "basicirst"}, "unknown layout 'basicirst' (did you mean 'basicirstd'?)"),
        (None, {"count": 0}, "count is 0"),
        (None, {"count": 2.5}, "count is 2.5"),
        (None, {"suffix": ".jpg"}, "unknown suffix '.jpg'"),
        (None, {"suffix": ".bmp"}, "unknown suffix '.bmp'"),  # 14 bits
        (None, {"test": 0.8, "val": 0.5}, "shares"),
        (None, {"snrr": 3}, "unknown option 'snrr' (did you mean 'snr'?)"),
        (None, {"bits": 10}, "bits is 10"),
        ("file", {}, "is a file"),
        ("foreign", {}, "is not empty and holds no targets.json"),
        ("broken", {}, "is not the metadata of a synthetic data set"),
        ("other", {}, "made with seed 5, not 0"),
        ("below a file", {}, "cannot write to"),
    ],
)
def test_bad_input(tmp_path, prepare, arguments, said):
    root = tmp_path / "set"
    if prepare == "file":
        root.write_text("x", encoding="utf-8")
    elif prepare == "foreign":
        root.mkdir()
        (root / "thesis.doc").write_text("x", encoding="utf-8")
    elif prepare == "broken":
        root.mkdir()
        (root / "targets.json").write_text("[1, 2", encoding="utf-8")
    elif prepare == "other":
        write_dataset(root, "plain", 1, 5, **SMALL)
    elif prepare == "below a file":
        (tmp_path / "file").write_text("x", encoding="utf-8")
        root = tmp_path / "file" / "set"
    before = tree(tmp_path)
    with pytest.raises(DataError) as e:
        write_dataset(**({"root": root, "layout": "plain", "count": 1} | SMALL | arguments))
    assert said in str(e.value) and "\n" not in str(e.value)
    assert tree(tmp_path) == before


def test_command(tmp_path, motes):
    words = ["data", "synthesize", tmp_path / "set", "--count", 3, "--seed", 2, "--size", "32x48", "--bits", 8]
    words += ["--layout", "sirst-devkit", "--scene", "sky", "--targets", 2, "--snr", "20:30"]
    code, out, err = motes(*words)
    assert (code, err) == (0, "") and "3 frames made" in out
    dataset = open_dataset(tmp_path / "set")
    assert dataset.layout == "sirstdevkit" and read_image(dataset.split(None)[0].image).pixels.shape == (32, 48, 1)
    code, out, err = motes(*words, "--json")
    assert code == 0 and json.loads(out)["kept"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "32"], "size is '32', expected height x width"),
        (["--size", "0x48"], "size 0x48: height and width must be 16 to 8192"),
        (["--bits", "12"], "bits is 12"),
        (["--layout", "irstd-1k"], "did you mean 'irstd1k'?"),
        (["--scene", "clod"], "did you mean 'cloud'?"),
        (["--snr", "9:3"], "upside down"),
        (["--snr", "loud"], "--snr is 'loud'"),
        (["--targets", "-1:3"], "targets is -1 to 3"),
        (["--netd", "-5"], "netd is"),
        (["--dead", "2"], "dead is 2"),
        (["--seed", "-3"], "seed is"),
    ],
)
def test_command_bad_input(tmp_path, motes, words, said):
    code, out, err = motes("data", "synthesize", tmp_path / "set", *words)
    assert code == 2 and out == "" and said in err
    assert err.startswith("motes: error: ") and err.count("\n") == 1
    assert not (tmp_path / "set").exists()
