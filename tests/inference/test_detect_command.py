"""``motes detect`` as installed: files, exit codes, one-line errors, resuming."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spot_network import CARD, make_onnx, sky

from motes.imaging import read_image, read_mask, write_image
from motes.inference import Detector
from motes.inference.records import read_record
from motes.inference.run import FolderRun
from motes.inference.sources import frames_of

Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """a.png (8 bit, one target), b.tif (16 bit, two), c.png (none)."""
    folder = tmp_path / "in"
    write_image(folder / "a.png", sky(80, 100, [(20, 30)]))
    write_image(folder / "b.tif", sky(90, 70, [(40, 10), (50, 50)], np.uint16))
    write_image(folder / "c.png", sky(64, 64, []))
    return folder


def table(out: Path) -> list[dict[str, str]]:
    with (out / "targets.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def bytes_of(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_what_a_run_writes(run_motes: Command, images: Path, tmp_path: Path, spot_onnx: Path) -> None:
    out = tmp_path / "out"
    done = run_motes("detect", images, "-o", out, "-m", spot_onnx, "--save-prob", "-f", "json,coco,yolo,voc")
    assert done.returncode == 0, done.stderr
    assert [row["image"] for row in table(out)] == ["a.png", "b.tif", "b.tif"]
    first = table(out)[0]
    assert abs(float(first["x"]) - 20) < 0.2 and abs(float(first["y"]) - 30) < 0.2
    for stem, size in (("a", (80, 100)), ("b", (90, 70)), ("c", (64, 64))):
        mask = read_image(out / "masks" / f"{stem}.png").pixels
        assert mask.shape == (*size, 1)
        assert set(np.unique(mask)) <= {0, 255}
        probability = read_image(out / "probability" / f"{stem}.tif").pixels[:, :, 0]
        assert probability.dtype == np.float32
        np.testing.assert_array_equal(probability > 0.5, read_mask(out / "masks" / f"{stem}.png"))
        assert (out / "overlays" / f"{stem}.png").is_file()
        assert (out / "yolo" / "labels" / f"{stem}.txt").is_file()
        assert (out / "voc" / f"{stem}.xml").is_file()
    assert len(json.loads((out / "coco.json").read_text(encoding="utf-8"))["annotations"]) == 3
    assert not list(out.rglob(".motes-*"))  # no temporary file is left
    assert "3 targets in 3 images" in done.stdout
    assert done.stderr.count("uint16 counts") == 1  # said once


def test_two_runs_are_byte_equal(run_motes: Command, images: Path, tmp_path: Path, spot_onnx: Path) -> None:
    for name in ("one", "two"):
        assert run_motes("detect", images, "-o", tmp_path / name, "-m", spot_onnx, "--tile", 48).returncode == 0
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_finished_images_are_skipped(run_motes: Command, images: Path, tmp_path: Path, spot_onnx: Path) -> None:
    out = tmp_path / "out"
    command = ("detect", images, "-o", out, "-m", spot_onnx)
    run_motes(*command)
    before = bytes_of(out)
    times = {p: p.stat().st_mtime_ns for p in (out / "masks").iterdir()}
    (out / "masks" / "b.png").unlink()
    (out / "targets.csv").unlink()
    again = run_motes(*command)
    assert again.returncode == 0
    assert "2 of 3 images are finished already" in again.stderr
    assert bytes_of(out) == before
    assert (out / "masks" / "a.png").stat().st_mtime_ns == times[out / "masks" / "a.png"]

    write_image(images / "a.png", sky(80, 100, [(70, 60), (20, 30)], seed=5))  # a changed source is done again
    assert "2 of 3" in run_motes(*command).stderr
    assert [row["image"] for row in table(out)] == ["a.png", "a.png", "b.tif", "b.tif"]

    changed = run_motes(*command, "--threshold", 0.9)
    assert "settings changed (threshold 0.5 -> 0.9)" in changed.stderr
    assert "finished already" not in changed.stderr
    record = read_record(out / ".motes", "c")
    assert record is not None and record.settings["threshold"] == 0.9


def test_a_run_stopped_in_the_middle_goes_on(images: Path, tmp_path: Path, spot_onnx: Path) -> None:
    out = tmp_path / "out"
    detector, frames = Detector(spot_onnx), frames_of([images])

    def stops_after_two(items):
        yield from items[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FolderRun(detector, out).run(frames, stops_after_two)
    assert [row["image"] for row in table(out)] == ["a.png", "b.tif", "b.tif"]  # what is done is there
    assert not (out / "masks" / "c.png").exists()
    said: list[str] = []
    summary = FolderRun(detector, out, say=said.append).run(frames)
    assert summary.skipped == 2
    assert any("2 of 3" in text for text in said)
    FolderRun(detector, tmp_path / "straight").run(frames)
    assert bytes_of(out) == bytes_of(tmp_path / "straight")


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process on Windows")
def test_ctrl_c_is_one_line_and_130(tmp_path: Path, spot_onnx: Path) -> None:
    write_image(tmp_path / "in" / "0.png", sky(64, 64, [(20, 30)]))
    for i in range(1, 2000):  # so many that a busy machine cannot be done with them before the signal comes
        os.link(tmp_path / "in" / "0.png", tmp_path / "in" / f"{i}.png")
    out = tmp_path / "out"
    command = [
        str(Path(sys.executable).with_name("motes")),
        "detect",
        str(tmp_path / "in"),
        "-o",
        str(out),
        "-m",
        str(spot_onnx),
    ]
    # Programs that a shell starts in the background inherit "ignore SIGINT", and so would this one from pytest.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list((out / ".motes").glob("[0-9]*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.startswith("motes: error: interrupted") and errors.count("\n") == 1
    finished = {row["image"] for row in table(out)}
    assert 2 <= len(finished) < 2000
    assert not list(out.rglob(".motes-*"))


def test_bad_files_are_listed_and_the_others_done(
    run_motes: Command, images: Path, tmp_path: Path, spot_onnx: Path
) -> None:
    (images / "bad1.png").write_bytes((images / "a.png").read_bytes()[:200])
    (images / "bad2.tif").write_bytes(b"")
    (images / "bad3.jpg").write_text("no image", encoding="utf-8")
    np.save(images / "bad4.npy", np.full((20, 20), np.nan, np.float32))
    np.save(images / "bad5.npy", np.zeros((20, 20, 7), np.uint8))
    done = run_motes("detect", images, "-o", tmp_path / "out", "-m", spot_onnx)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    start = lines.index("motes: 5 files could not be read:")
    assert [Path(line.strip().split(":")[0]).name for line in lines[start + 1 :]] == [
        "bad1.png", "bad2.tif", "bad3.jpg", "bad4.npy", "bad5.npy",
    ]  # fmt: skip
    assert [row["image"] for row in table(tmp_path / "out")] == ["a.png", "b.tif", "b.tif"]
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "b.png", "c.png"]
    assert "Traceback" not in done.stderr


def error_of(done: subprocess.CompletedProcess) -> str:
    """The one line of a run that could not start."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("motes: error: ") and done.stderr.count("\n") == 1, done.stderr
    return str(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in/aa.png"], "did you mean 'in/a.png'"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "no images in this folder"),
        (["in/*.jpeg"], "the pattern matches no image"),
        (["text.png"], "text.png"),
        (["in", "--format", "cocoa"], "did you mean 'coco'"),
        (["in", "--model", "tophatt"], "did you mean 'tophat'"),
        (["in", "--model", "text.png"], "not an ONNX file"),
        (["in", "--model", "bare.onnx"], "without a card"),
        (["in", "--backend", "torhc"], "did you mean 'torch'"),
        (["in", "--model", "spot.onnx", "--threshold", "2"], "probability in [0, 1)"),
        (["in", "--model", "spot.onnx", "--threshold", ".2", "--fa", "1"], "exclude each other"),
        (["in", "--model", "spot.onnx", "--fa", "0.1"], "asked for 0.1"),
        (["in", "--model", "tophat", "--fa", "1"], "has no calibration curve"),
        (["in", "--model", "tophat", "--set", "sise=7"], "did you mean 'size'"),
        (["in", "--model", "tophat", "--set", "size"], "expected NAME=VALUE"),
        (["in", "--model", "spot.onnx", "--set", "size=7"], "has no option 'size'"),
        (["in", "--model", "spot.onnx", "--tile", "32", "--overlap", "30"], "does not fit"),
        (["in", "-o", "text.png", "--model", "tophat"], "text.png"),
    ],
)
def test_bad_input_is_one_line(
    run_motes: Command, images: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello", encoding="utf-8")
    make_onnx(tmp_path / "spot.onnx")
    make_onnx(tmp_path / "bare.onnx", card=None)
    model = [] if "--model" in arguments else ["--model", "tophat"]
    out = [] if "-o" in arguments else ["-o", "out"]
    assert message in error_of(run_motes("detect", *arguments, *out, *model, cwd=tmp_path))
    assert not (tmp_path / "out" / "targets.csv").exists()


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run_motes: Command, images: Path, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    assert "shut" in error_of(run_motes("detect", images, "-o", tmp_path / "shut" / "out", "-m", "tophat"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half-written file, no record that would make the next run skip the image."""
    from motes.inference import run as runs

    def full(path: Path, *_: object, **__: object) -> None:
        if path.parent.name == "overlays":
            raise OSError(28, "No space left on device", str(path))
        write_image(path, *_, **__)

    monkeypatch.setattr(runs, "write_image", full)
    with pytest.raises(OSError, match="No space left"):
        FolderRun(Detector("tophat"), tmp_path / "out").run(frames_of([images]))
    assert not (tmp_path / "out" / ".motes" / "a.json").exists()


def test_a_list_on_stdin(run_motes: Command, images: Path, tmp_path: Path) -> None:
    listed = f"{images}/c.png\n{images}/gone.png\n{images}/a.png\n"
    done = run_motes("detect", "-", "-o", tmp_path / "out", "-m", "tophat", stdin=listed)
    assert done.returncode == 1
    assert "gone.png: no such file" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "c.png"]
    assert "stdin" in error_of(run_motes("detect", "-", "-o", tmp_path / "o2", "-m", "tophat", stdin="\n"))


def test_equal_names_do_not_overwrite_each_other(run_motes: Command, tmp_path: Path, spot_onnx: Path) -> None:
    write_image(tmp_path / "left" / "x.png", sky(64, 64, [(20, 30)]))
    write_image(tmp_path / "right" / "x.png", sky(64, 64, [(20, 30), (50, 50)]))
    out = tmp_path / "out"
    run_motes("detect", tmp_path / "left", tmp_path / "right", "-o", out, "-m", spot_onnx)
    assert [row["image"] for row in table(out)] == ["left/x.png", "right/x.png", "right/x.png"]
    assert sorted(p.name for p in (out / "masks").iterdir()) == ["left_x.png", "right_x.png"]

    run_motes("detect", tmp_path / "left", "-o", tmp_path / "o2", "-m", spot_onnx)
    other = ("detect", tmp_path / "right", "-o", tmp_path / "o2", "-m", spot_onnx)
    assert "already holds results of" in error_of(run_motes(*other))
    assert len(table(tmp_path / "o2")) == 1
    assert run_motes(*other, "--overwrite").returncode == 0
    assert len(table(tmp_path / "o2")) == 2


def test_pages_are_frames(run_motes: Command, tmp_path: Path, spot_onnx: Path) -> None:
    import tifffile

    pages = np.stack([sky(64, 64, spots, np.uint16) for spots in ([(20, 30)], [], [(20, 30), (50, 50)])])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    out = tmp_path / "out"
    assert run_motes("detect", tmp_path / "stack.tif", "-o", out, "-m", spot_onnx).returncode == 0
    assert [row["image"] for row in table(out)] == ["stack_p0001.tif", "stack_p0003.tif", "stack_p0003.tif"]
    assert sorted(p.stem for p in (out / "masks").iterdir()) == ["stack_p0001", "stack_p0002", "stack_p0003"]
    assert "is finished already" in run_motes("detect", tmp_path / "stack.tif", "-o", out, "-m", spot_onnx).stderr


def test_detection_never_imports_the_lab(images: Path, tmp_path: Path, spot_onnx: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'matplotlib', 'lightning', 'safetensors'): sys.modules[name] = None\n"
        f"sys.argv = ['motes', 'detect', {str(images)!r}, '-o', {str(tmp_path / 'out')!r}, '-m', {str(spot_onnx)!r}]\n"
        "from motes.cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_whole_number_scene_reads_the_same_through_any_container(
    run_motes: Command, tmp_path: Path, spot_onnx: Path
) -> None:
    """16-bit PNG, TIFF and .npy of the same counts: the same masks, byte for byte."""
    counts = sky(80, 90, [(20, 30), (60, 50)], np.uint16)
    for suffix in ("png", "tif", "npy"):
        write_image(tmp_path / f"{suffix}.{suffix}", counts)
    done = run_motes("detect", f"{tmp_path}/*.*", "-o", tmp_path / "out", "-m", spot_onnx, "--no-overlay")
    assert done.returncode == 0, done.stderr
    masks = {(tmp_path / "out" / "masks" / f"{s}.png").read_bytes() for s in ("png", "tif", "npy")}
    assert len(masks) == 1
    assert not (tmp_path / "out" / "overlays").exists()


def test_the_card_decides_the_threshold(tmp_path: Path) -> None:
    make_onnx(tmp_path / "shy.onnx", CARD.replace(threshold=0.97))
    assert Detector(tmp_path / "shy.onnx").threshold == 0.97
