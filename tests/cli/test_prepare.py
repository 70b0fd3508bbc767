"""``motes data prepare`` as it is typed: what it prints, bad input, a full disk, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import Motes, errors, files

from motes.data import open_dataset
from motes.data.aerial_scenes import write_aerial
from motes.data.labels import read_labels
from motes.imaging import read_image, write_image

COLOURS = "_instance_color_RGB.png"
OPTIONS = ("--patch", "48", "--stride", "32")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="set in a fork")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three images for training, two for validation, one to test."""
    write_aerial(tmp_path / "iSAID", "isaid", 6, (70, 90))
    return tmp_path / "iSAID"


def names(root: Path) -> set[str]:
    return {name for name in files(root) if name.endswith(".png")}


def test_from_raw_files_to_a_data_set(motes: Motes, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = motes("data", "prepare", "isaid", source, out, *OPTIONS, "--rule", "split")
    assert (done.code, done.err) == (0, "")
    expected = [f"{out}/train: 18 patches of 3 images", f"{out}/val: 12 patches of 2 images", "30 patches written"]
    assert done.out.splitlines() == expected
    again = motes("data", "prepare", "isaid", source, out, *OPTIONS, "--rule", "split")
    assert again.out.splitlines()[-1] == "0 patches written, 30 were there"
    found = motes("data", "info", out, "--json")
    report = json.loads(found.out)
    assert (report["layout"], report["images"], report["mask_forms"]) == ("patches", 30, {"grey": 30})
    checked = motes("data", "check", out)
    assert checked.code == 0 and "18 patches of 3 images; the whole of iSAID" in checked.out
    shown = motes("data", "info", source)
    assert "Small_Vehicle" in shown.out and "isaid" in shown.out


def test_the_test_split_and_other_kinds(motes: Motes, source: Path, tmp_path: Path) -> None:
    done = motes("data", "prepare", "isaid", source, tmp_path / "a", *OPTIONS, "--split", "test")
    assert done.code == 0 and "6 patches of 1 images" in done.out
    for layout, kind in (("potsdam", "potsdam"), ("gaofen-sar", "gaofen"), ("classes", "isaid")):
        root = tmp_path / layout
        assert motes("data", "synthesize", root, "--layout", layout, "--count", "4", "--size", "70x90").code == 0
        folders = ("--image-dir", root / "images", "--mask-dir", root / "masks") if layout == "classes" else ()
        done = motes("data", "prepare", kind, root, tmp_path / f"{layout} out", *OPTIONS, *folders)
        assert done.code == 0, done.err
        assert open_dataset(tmp_path / f"{layout} out").classes is not None


def bad(source: Path, case: str) -> str:
    """Spoils P0000; returns what must be said about it."""
    image, mask = (source / "train" / "images" / f"P0000{e}" for e in (".png", COLOURS))
    if case == "no mask":
        mask.unlink()
        return f"motes: not prepared: {image}: has no mask"
    if case == "another size":
        write_image(mask, np.zeros((4, 8, 3), np.uint8))
        return f"motes: not prepared: {image} is 90x70 and its mask {mask} 8x4 (width x height)"
    if case == "zero bytes":
        image.write_bytes(b"")
        return f"motes: not prepared: {image}: is empty (0 bytes), expected an image"
    if case == "16 bits":
        write_image(image, np.zeros((70, 90, 3), np.uint16))
        return f"motes: not prepared: {image}: has 3 bands of uint16, expected 1 (grey) or 3 (RGB) of uint8"
    rgb = read_image(mask).pixels.copy()
    rgb[0, :7], rgb[0, 7] = (255, 0, 0), (1, 2, 3)
    write_image(mask, rgb)
    shown = "2 colours that are no class's: (255, 0, 0) x 7 px, (1, 2, 3) x 1 px"
    return f"motes: {mask}: {shown}; made background"


@pytest.mark.parametrize("case", ["no mask", "another size", "zero bytes", "16 bits", "unknown colours"])
def test_one_bad_file_is_one_line_and_the_rest_is_done(motes: Motes, source: Path, tmp_path: Path, case: str) -> None:
    expected = bad(source, case)
    done = motes("data", "prepare", "isaid", source, tmp_path / "out", *OPTIONS)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith(expected)
    images = 3 if case == "unknown colours" else 2
    assert len([n for n in names(tmp_path / "out") if n.startswith("train/images")]) == images * 6
    assert len([n for n in names(tmp_path / "out") if n.startswith("val/masks")]) == 12
    checked = motes("data", "check", source)
    assert checked.code == 1 and "P0000" in checked.out


def test_a_tiff_of_four_bands_among_sound_ones(motes: Motes, tmp_path: Path) -> None:
    root = tmp_path / "potsdam"
    write_aerial(root, "potsdam", 4, (70, 90))
    image = open_dataset(root).split("train")[0].image
    write_image(image, np.zeros((70, 90, 4), np.uint8))
    done = motes("data", "prepare", "potsdam", root, tmp_path / "out", *OPTIONS)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith(f"motes: not prepared: {image}: has 4 bands of uint8, expected 1 (grey) or 3 (RGB) of uint8")
    assert "3 images" not in done.out and "patches of 2 images" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("isiad", "{s}", "{o}"), "unknown class table 'isiad' (did you mean 'isaid'?)"),
        (("isaid", "{s}x", "{o}"), "no such folder or archive: {s}x (did you mean {s}?)"),
        (("isaid", "{e}", "{o}"), "no images in {e}"),
        (("isaid", "{s}", "{s}/out"), "{s}/out and {s} lie in each other"),
        (("isaid", "{s}", "{o}", "--rule", "padsplit"), "unknown cutting rule 'padsplit' (did you mean 'pad-split'?)"),
        (("isaid", "{s}", "{o}", "--stride", "1000"), "patch 896 and stride 1000 px"),
        (("isaid", "{s}", "{o}", "--split", "tset"), "{s} has no images of tset (it has test, train, val)"),
        (("potsdam", "{e}", "{o}"), "{e} is in no known data set layout"),
        (("gaofen", "{s}", "{o}"), "{s} is not in the layout 'gaofen'"),
        (("isaid", "{s}/train/images/P0000.png", "{o}"), "is not a zip archive"),
    ],
)
def test_bad_words(motes: Motes, source: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty").mkdir()
    known = {"s": source, "e": tmp_path / "empty", "o": tmp_path / "out"}
    done = motes("data", "prepare", *(w.format(**known) for w in words))
    assert done.code == 2
    (line,) = errors(done)
    assert message.format(**known) in line
    assert not (tmp_path / "out").exists()


def test_nothing_could_be_prepared(motes: Motes, source: Path, tmp_path: Path) -> None:
    for path in source.rglob(f"*{COLOURS}"):
        path.unlink()
    done = motes("data", "prepare", "isaid", source, tmp_path / "out", *OPTIONS)
    assert done.code == 2
    (line,) = errors(done)
    assert "none of 5 images could be prepared; the first: " in line and "P0000.png: has no mask" in line


@needs_fork
def test_a_full_disk(motes: Motes, source: Path, tmp_path: Path) -> None:
    done = motes("data", "prepare", "isaid", source, tmp_path / "out", *OPTIONS, limit=4000)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert str(tmp_path / "out") in line and "the same command goes on from there" in line
    assert not [n for n in files(tmp_path / "out") if ".motes-" in n]
    for name in names(tmp_path / "out"):
        read_image(tmp_path / "out" / name)
    again = motes("data", "prepare", "isaid", source, tmp_path / "out", *OPTIONS)
    assert again.code == 0 and len(names(tmp_path / "out")) == 60


@pytest.mark.parametrize("tiny_disk", [96], indirect=True)
def test_a_disk_that_is_really_full_and_then_is_not(motes: Motes, source: Path, tiny_disk: Path) -> None:
    command = ("data", "prepare", "isaid", source, tiny_disk / "out", *OPTIONS)
    done = motes(*command)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert "No space left on device" in line and str(tiny_disk / "out") in line
    finished = {p: p.stat().st_mtime_ns for p in (tiny_disk / "out").rglob("P*.png")}
    assert finished and not list((tiny_disk / "out").rglob(".motes-*"))
    subprocess.run(["mount", "-o", "remount,size=4m", tiny_disk], check=True)
    again = motes(*command)
    assert again.code == 0, again.err
    images = {p: t for p, t in finished.items() if p.parent.name == "images"}
    assert {p: p.stat().st_mtime_ns for p in images} == images
    assert len(names(tiny_disk / "out")) == 60


@needs_fork
def test_ctrl_c_and_on(motes: Motes, source: Path, tmp_path: Path) -> None:
    images = source / "train" / "images"
    for n in range(100, 300):
        for ending in (".png", COLOURS):
            os.link(images / f"P0000{ending}", images / f"P{n:04d}{ending}")
    command = ("data", "prepare", "isaid", source, tmp_path / "out", *OPTIONS)
    out = tmp_path / "out"
    for seconds in (0.7, 1.5, 3, 6):  # until it was long enough for this machine to begin
        done = motes(*command, interrupt=seconds)
        assert done.code == 130, done.err
        (line,) = errors(done)
        assert "interrupted" in line
        assert not list(out.rglob(".motes-*"))
        written = {p: p.stat().st_mtime_ns for p in out.rglob("images/*.png")}
        if written:
            break
    assert written
    assert motes(*command).code == 0
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert len(names(out)) == (200 + 5) * 6 * 2
    shutil.rmtree(out)


def test_the_real_sample(motes: Motes, data_root: Path, tmp_path: Path) -> None:
    root = data_root / "isaid_sample"
    if not root.is_dir():
        pytest.skip(f"no iSAID sample at {root}")
    out = tmp_path / "out"
    done = motes("data", "prepare", "isaid", root, out, "--rule", "pad-split")
    assert done.code == 0, done.err
    assert f"{out}/train: 2 patches of 1 images" in done.out and f"{out}/val: 7 patches of 2 images" in done.out
    data = open_dataset(out)
    assert data.classes is not None
    used = {
        data.classes.names[i]
        for sample in data.split("val")
        if sample.mask
        for i in np.unique(read_labels(sample.mask, data.classes))
        if i < 16
    }
    assert used == {"background", "storage_tank", "Large_Vehicle", "Small_Vehicle"}
