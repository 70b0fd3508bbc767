"""``motes calibrate``: its numbers are those of ``motes detect``, where its network runs; what goes wrong is said."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from spot_boxes import Spots, frame
from spot_network import CARD, SPEC, make_onnx, sky

from motes.data import Sample
from motes.errors import DataError
from motes.imaging import read_image, write_image
from motes.inference import Detector, read_onnx_card
from motes.inference.box_detector import BoxDetector
from motes.inference.calibration_files import Calibration
from motes.inference.calibration_run import CalibrationRun
from motes.inference.sources import frames_of

Motes = Callable[..., tuple[int, str, str]]


def cluttered(seed: int, height: int = 70, width: int = 90, faint: int = 8) -> np.ndarray:
    """A sky with spots of 3 to 25 grey levels: answers from almost none to sure."""
    rng = np.random.default_rng(seed)
    pixels = sky(height, width, [], seed=seed)
    for _ in range(faint):
        y, x = rng.integers(5, height - 5), rng.integers(5, width - 5)
        pixels[y - 1 : y + 2, x - 1 : x + 2] += np.uint8(rng.integers(3, 25))
    return pixels


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Twenty frames without targets, with things that look like some."""
    for i in range(20):
        write_image(tmp_path / "empty" / f"f{i:02d}.png", cluttered(i, 70 if i else 130))
    return tmp_path / "empty"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure takes a second; one test draws it."""
    monkeypatch.setattr("motes.inference.calibration_files.draw_curve", lambda path, found: None)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three frames with two bright targets each, and their masks."""
    for i in range(3):
        spots = [(20 + i, 30), (50, 40 + i)]
        mask = np.zeros((60, 70), np.uint8)
        for x, y in spots:
            mask[y - 1 : y + 2, x - 1 : x + 2] = 255
        write_image(tmp_path / "set" / "images" / f"{i}.png", sky(60, 70, spots, seed=i))
        write_image(tmp_path / "set" / "masks" / f"{i}.png", mask)
    return tmp_path / "set"


def facts_of(out: Path) -> dict:
    return dict(json.loads((out / "calibration.json").read_text(encoding="utf-8")))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("tiles", [(), ("--tile", 48), ("--tile", 40, "--overlap", 8)])
@pytest.mark.usefixtures("undrawn")
def test_counts_are_those_of_detect(motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path, tiles: tuple) -> None:
    assert motes("calibrate", empty, "-o", tmp_path / "c", "-m", spot_onnx, *tiles)[0] == 0
    table = rows_of(tmp_path / "c" / "calibration.csv")
    chosen = facts_of(tmp_path / "c")["chosen"]["threshold"]
    seen = set()
    for threshold in (0.01, 0.2942, 0.5, chosen, 0.9999):
        k = int(np.abs([float(row["threshold"]) - threshold for row in table]).argmin())
        found = tmp_path / f"d{threshold}"
        assert motes(
            *("detect", empty, "-o", found, "-m", spot_onnx, "-t", table[k]["threshold"], "--no-overlay", *tiles)
        )[0] == 0  # fmt: skip
        assert int(table[k]["false_alarms"]) == len(rows_of(found / "targets.csv"))
        seen.add(table[k]["false_alarms"])
    assert len(seen) > 2


@pytest.mark.parametrize("per", ["frame", "megapixel"])
@pytest.mark.usefixtures("undrawn")
def test_the_network_it_writes(motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path, per: str) -> None:
    out, rate = tmp_path / "c", {"frame": 0.2, "megapixel": 30.0}[per]
    code, said, _ = motes("calibrate", empty, "-o", out, "-m", spot_onnx, "--rate", rate, "--per", per)
    assert code == 0
    facts, network = facts_of(out), out / "spot-calibrated.onnx"
    card = read_onnx_card(network)
    assert card.threshold == facts["chosen"]["threshold"] > 0.5
    assert card.replace(threshold=CARD.threshold, calibration=CARD.calibration) == CARD
    command = next(line for line in said.splitlines() if line.startswith("use it: "))
    words = command.removeprefix("use it: ").replace("FRAMES", str(empty)).replace("OUT", str(tmp_path / "d")).split()
    assert words[0] == "motes" and str(network) in words
    assert motes(*words[1:], "--no-overlay")[0] == 0
    alarms, exposure = len(rows_of(tmp_path / "d" / "targets.csv")), facts["frames" if per == "frame" else "megapixels"]
    assert alarms == facts["chosen"]["false_alarms"] > 0
    assert alarms / exposure <= rate
    # One step below the rate is exceeded.
    k = facts["curve"]["threshold"].index(card.threshold)
    assert facts["curve"][f"per_{per}"][k - 1] > rate
    assert facts["curve"][f"per_{per}_upper"][k] > facts["curve"][f"per_{per}"][k] > 0
    # --fa reads the new curve.
    assert motes("detect", empty, "-o", tmp_path / "e", "-m", network, "--fa", 30, "--no-overlay")[0] == 0
    assert len(rows_of(tmp_path / "e" / "targets.csv")) / facts["megapixels"] <= 30


@pytest.mark.usefixtures("undrawn")
def test_the_threshold_of_a_method(motes: Motes, empty: Path, tmp_path: Path) -> None:
    code, said, _ = motes("calibrate", empty, "-o", tmp_path / "c", "-m", "tophat", "--set", "size=7", "--rate", 1)
    assert code == 0 and not list((tmp_path / "c").glob("*.onnx"))
    command = next(line for line in said.splitlines() if line.startswith("use it: "))
    words = command.removeprefix("use it: ").replace("FRAMES", str(empty)).replace("OUT", str(tmp_path / "d")).split()
    assert motes(*words[1:], "--no-overlay")[0] == 0
    assert len(rows_of(tmp_path / "d" / "targets.csv")) == facts_of(tmp_path / "c")["chosen"]["false_alarms"] <= 20


class VariedSpots(Spots):
    """The brighter the pixel, the better the score."""

    def candidates(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        found = super().candidates(batch)
        found["scores"] = (found["scores"] * np.linspace(0.3, 1, found["scores"].shape[1])[None, :, None]).astype("f4")
        return found


def test_boxes(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png", frame(64, 96, [(20, 30), (50, 60), (10, 80), (40, 10)]))
    write_image(tmp_path / "in" / "b.png", frame(64, 96, []))
    detector = BoxDetector(backend=VariedSpots())
    counts = CalibrationRun(detector, tmp_path / "c").run(frames_of([tmp_path / "in"]))
    curve = counts.curve()
    for k in range(0, len(curve.thresholds), 5):
        strict = BoxDetector(backend=VariedSpots(), threshold=float(curve.thresholds[k]))
        assert curve.alarms[k] == len(strict.detect(read_image(tmp_path / "in" / "a.png")))
    assert len(set(curve.alarms.tolist())) == 5
    found = Calibration(detector, counts, 1.0, "frame")
    assert found.row(found.k or 0)["false_alarms"] == 2
    assert {(round(s.x - 0.5), round(s.y - 0.5)) for s in found.strongest} == {(30, 20), (60, 50), (80, 10), (10, 40)}
    with pytest.raises(DataError, match="answers with boxes"):
        CalibrationRun(detector, tmp_path / "c").run([], [Sample("a", tmp_path / "in" / "a.png")])


def test_labelled_frames(motes: Motes, empty: Path, labelled: Path, tmp_path: Path, spot_onnx: Path) -> None:
    pytest.importorskip("matplotlib")
    code, said, _ = motes("calibrate", empty, "-o", tmp_path / "c", "-m", spot_onnx, "--labelled", labelled)
    assert code == 0
    chosen = facts_of(tmp_path / "c")["chosen"]
    assert (chosen["detected"], chosen["targets"], chosen["pd"]) == (6, 6, 1.0)
    assert chosen["pd_lower"] < 0.9
    assert "1.000 (6/6)" in said
    assert read_image(tmp_path / "c" / "calibration.png").pixels.std() > 5
    assert "pd" in read_onnx_card(tmp_path / "c" / "spot-calibrated.onnx").calibration


@pytest.mark.usefixtures("undrawn")
def test_strongest_answers_are_listed(motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path) -> None:
    for i in (4, 9):  # a target that nobody saw, at one place
        pixels = cluttered(i, faint=0)
        pixels[40:43, 60:63] += 80
        write_image(empty / f"f{i:02d}.png", pixels)
    _, _, warned = motes("calibrate", empty, "-o", tmp_path / "c", "-m", spot_onnx)
    table = rows_of(tmp_path / "c" / "strongest.csv")
    assert (table[0]["image"], table[0]["images_at_this_place"]) == ("f04.png", "2")
    assert (float(table[0]["x"]), float(table[0]["y"])) == (61, 41)
    assert [float(row["score"]) for row in table] == sorted((float(row["score"]) for row in table), reverse=True)
    assert "look at strongest.png" in warned
    assert read_image(tmp_path / "c" / "strongest.png").pixels.shape[1] == 6 * 206


@pytest.mark.usefixtures("undrawn")
def test_one_frame_is_in_the_singular(motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path) -> None:
    _, _, said = motes("calibrate", min(empty.iterdir()), "-o", tmp_path / "c", "-m", spot_onnx, "--rate", 0.2)
    assert "1 frame is too few to show 0.2 a frame: even no false alarm in it leaves up to 3 a frame possible" in said
    assert "take at least 15 frames" in said


@pytest.mark.parametrize(("frames", "rate", "warned"), [(5, 0.2, True), (16, 0.2, False), (5, 0.7, False)])
@pytest.mark.usefixtures("undrawn")
def test_too_few_frames(
    motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path, frames: int, rate: float, warned: bool
) -> None:
    sources = sorted(empty.iterdir())[:frames]
    _, _, said = motes("calibrate", *sources, "-o", tmp_path / "c", "-m", spot_onnx, "--rate", rate)
    sentence = "5 frames are too few to show 0.2 a frame: even no false alarm in them leaves up to 0.6 a frame possible"
    assert (sentence in said) == warned
    assert any("too few" in text for text in facts_of(tmp_path / "c")["warnings"]) == warned


@pytest.mark.usefixtures("undrawn")
def test_no_threshold_is_enough(motes: Motes, tmp_path: Path, spot_onnx: Path) -> None:
    for i in range(3):
        write_image(tmp_path / "in" / f"{i}.png", sky(64, 64, [(30, 30)], seed=i))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "spot-calibrated.onnx").write_bytes(b"of an easier rate")
    code, _, said = motes("calibrate", tmp_path / "in", "-o", tmp_path / "c", "-m", spot_onnx)
    assert code == 2
    assert "no threshold brings these 3 frames down to 0.2 false alarms a frame: 1 are above" in said
    assert not list((tmp_path / "c").glob("*.onnx"))
    assert facts_of(tmp_path / "c")["chosen"] is None
    assert rows_of(tmp_path / "c" / "strongest.csv")[0]["images_at_this_place"] == "3"


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_found_anywhere(motes: Motes, tmp_path: Path) -> None:
    network = make_onnx(tmp_path / "x.onnx", bias=-6)
    for i in range(16):
        write_image(tmp_path / "in" / f"{i}.png", np.full((40, 40), 90, np.uint8))
    code, _, said = motes("calibrate", tmp_path / "in", "-o", tmp_path / "c", "-m", network)
    assert code == 0 and "even the lowest threshold" in said
    assert facts_of(tmp_path / "c")["chosen"]["threshold"] == 0.01
    assert rows_of(tmp_path / "c" / "strongest.csv") == [] and not (tmp_path / "c" / "strongest.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_it_goes_on_where_it_stopped(
    motes: Motes, empty: Path, labelled: Path, tmp_path: Path, spot_onnx: Path
) -> None:
    out = tmp_path / "c"
    frames, done = frames_of([empty]), 0

    def stops_after_seven() -> None:
        nonlocal done
        done += 1
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CalibrationRun(Detector(spot_onnx), out).run(frames, advance=stops_after_seven)
    assert [p.name for p in out.iterdir()] == [".calibration"]
    command = ("calibrate", empty, "-m", spot_onnx, "--labelled", labelled)
    assert "7 of 23 images were counted already" in motes(*command, "-o", out)[2]
    motes(*command, "-o", tmp_path / "straight")
    names = ["calibration.csv", "strongest.csv", "strongest.png", "spot-calibrated.onnx"]
    assert [(out / n).read_bytes() for n in names] == [(tmp_path / "straight" / n).read_bytes() for n in names]
    assert not list(out.rglob(".motes-*"))

    assert "23 of 23" in motes(*command, "-o", out, "--rate", 2)[2]  # another rate counts nothing again
    assert "counted already" not in motes(*command, "-o", out, "--overwrite")[2]
    write_image(empty / "f03.png", cluttered(99))
    (out / ".calibration" / "f05.json").write_text("{", encoding="utf-8")
    assert "21 of 23" in motes(*command, "-o", out)[2]
    assert "already" not in motes(*command, "-o", out, "--tile", 48)[2]  # other settings


@pytest.mark.usefixtures("undrawn")
def test_unreadable_files_are_left_out(motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path) -> None:
    np.save(empty / "nan.npy", np.full((20, 20), np.nan, np.float32))
    (empty / "broken.png").write_bytes((empty / "f00.png").read_bytes()[:100])
    code, _, said = motes("calibrate", empty, "-o", tmp_path / "c", "-m", spot_onnx)
    assert code == 1
    assert "2 files could not be read" in said
    facts = facts_of(tmp_path / "c")
    assert (facts["frames"], len(facts["left_out"]), len(facts["images"])) == (20, 2, 20)


@pytest.mark.usefixtures("undrawn")
def test_a_network_that_answers_nan(motes: Motes, empty: Path, tmp_path: Path) -> None:
    network = make_onnx(tmp_path / "nan.onnx", bias=float("nan"))
    code, _, said = motes("calibrate", empty / "f00.png", "-o", tmp_path / "c", "-m", network)
    assert code == 2 and "answers with NaN" in said


@pytest.mark.usefixtures("undrawn")
def test_frames_from_the_training_are_told(motes: Motes, empty: Path, tmp_path: Path) -> None:
    from motes.data.scan import digest

    known = [digest(read_image(empty / "f02.png").pixels)[:12]]
    network = make_onnx(tmp_path / "x.onnx", CARD.replace(training={"frames": known}))
    _, _, said = motes("calibrate", empty, "-o", tmp_path / "c", "-m", network)
    assert "1 of 20 frames were trained on, for instance f02.png" in said


def test_without_matplotlib(
    motes: Motes, empty: Path, tmp_path: Path, spot_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, said = motes("calibrate", empty, "-o", tmp_path / "c", "-m", spot_onnx)
    assert code == 0
    assert "calibration.png needs packages that are not installed (pip install 'motes[plot]')" in said
    assert (tmp_path / "c" / "spot-calibrated.onnx").is_file() and not (tmp_path / "c" / "calibration.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["hollow"], "no images in this folder"),
        (["bad.png"], "bad.png"),
        (["nan.npy"], "nan.npy"),
        (["bad.png", "nan.npy"], "none of 2 files could be read; the first: bad.png"),
        (["empty", "--rate", "0"], "a false-alarm rate is above 0 per frame, found 0"),
        (["empty", "--rate", "-3"], "found -3"),
        (["empty", "--rate", "x"], "--rate"),
        (["empty", "--per", "frames"], "did you mean 'frame'"),
        (["empty", "-m", "tophatt"], "did you mean 'tophat'"),
        (["empty", "-m", "repisdnet-sirt"], "did you mean 'repisdnet-sirst'"),
        (["empty", "-m", "bad.png"], "not an ONNX file"),
        (["empty", "-m", "aerial.onnx"], "detection needs 'irstd'"),
        (["empty", "--backend", "torch"], "unknown backend 'torch'"),
        (["empty", "--split", "test"], "--split goes with --labelled"),
        (["empty", "--labelled", "sett"], "did you mean"),
        (["empty", "--labelled", "set", "--split", "tset"], "there is no split 'tset'"),
        (["empty", "--labelled", "unlabelled"], "has no mask"),
        (["empty", "--labelled", "wrong"], "is 5x5 px, its image 60x70"),
        (["empty", "--resize", "64x64"], "is for networks that answer with boxes"),
        (["empty", "--tile", "4"], "tiles of 4 px are too small"),
        (["empty", "-o", "bad.png"], "bad.png"),
    ],
)
def test_bad_input_is_one_line(
    motes: Motes, empty: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hollow").mkdir()
    (tmp_path / "bad.png").write_text("hello", encoding="utf-8")
    np.save(tmp_path / "nan.npy", np.full((20, 20), np.nan, np.float32))
    make_onnx(tmp_path / "spot.onnx")
    make_onnx(tmp_path / "aerial.onnx", CARD.replace(task="aerial", input=SPEC))
    write_image(tmp_path / "unlabelled" / "images" / "a.png", sky(20, 20, []))
    (tmp_path / "unlabelled" / "masks").mkdir()
    for i in range(3):
        write_image(tmp_path / "wrong" / "images" / f"{i}.png", sky(60, 70, []))
        write_image(tmp_path / "wrong" / "masks" / f"{i}.png", np.zeros((5, 5), np.uint8))
    model = [] if "-m" in arguments else ["-m", "spot.onnx"]
    out = [] if "-o" in arguments else ["-o", "out"]
    code, _, said = motes("calibrate", *arguments, *out, *model)
    assert code == 2, said
    assert said.startswith("motes: error: ") and said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "out").exists() or [p.name for p in (tmp_path / "out").iterdir()] in ([], [".calibration"])
