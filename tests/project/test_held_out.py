"""docs/scripts/held_out.py on miniatures: its sets, its rows, what it leaves out, and the way into a card."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from miniatures import miniature
from motes.data import open_dataset
from motes.data.scan import digest
from motes.imaging import read_image, read_mask, write_image
from motes.inference import Detector, read_onnx_card
from motes.metrics import components

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "scripts"
TWINS = ("synthetic_00000", "synthetic_00001", "synthetic_00002")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Loads a script by its name; what lies beside it is found."""
    monkeypatch.syspath_prepend(SCRIPTS)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # its dataclasses look themselves up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def held(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with a list of near-twins that fits the miniature of SIRST."""
    module = script("held_out")
    (tmp_path / "twins.txt").write_text("\n".join(f"{name} other 0.95" for name in TWINS), encoding="utf-8")
    monkeypatch.setattr(module, "TWINS", str(tmp_path / "twins.txt"))
    return module


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.syspath_prepend(SCRIPTS.parents[1] / "tests" / "inference")
    from spot_network import make_onnx

    return make_onnx(tmp_path / "spot.onnx", bias=-3.0)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """DATA and SIRST."""
    data = tmp_path / "data"
    miniature(data / "held8", count=3, test=0, val=0)
    miniature(data / "held8_empty", count=2, targets=(0, 0), test=0, val=0)
    for name in ("clouds_held", "urban_held"):
        miniature(data / name, count=2, seed=1, test=0, val=0)
    for seed, name in enumerate(("clouds_empty", "clouds_empty_14", "urban_empty")):
        miniature(data / name, count=1, seed=2 + seed, targets=(0, 0), test=0, val=0)
    photographs(data / "clutter_held", "meadow", "shore")
    photographs(data / "buildings_held", "tower")
    return data, miniature(tmp_path / "sirst", "sirstdevkit", count=5, seed=3)


def photographs(folder: Path, *names: str) -> None:
    """Smooth grey pictures of 120x140 px with a few lines."""
    for k, name in enumerate(names):
        picture = np.full((120, 140), 70 + 20 * k, np.uint8)
        picture[10 + k :: 40] += 9
        write_image(folder / "images" / f"{name}.png", picture)


def score(held: ModuleType, network: Path, folders: tuple[Path, Path], *options: str) -> dict[tuple[str, str], dict]:
    data, sirst = folders
    work = data.parent / "work"
    held.main([str(data), str(sirst), str(network), "--work", str(work), *options])
    (entry,) = json.loads((work / "held-out.json").read_text(encoding="utf-8"))
    assert entry["file"] == str(network)
    return {(row["data"], row["protocol"]): row for row in entry["rows"]}


def test_every_set_is_made_and_scored_once(
    held: ModuleType, network: Path, folders: tuple[Path, Path], capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = score(held, network, folders)
    out, err = capsys.readouterr()
    sets = ["held8", "held8_empty", "clouds_held", "clouds_empty", "clouds_empty_14", "urban_held", "urban_empty"]
    sets += [
        "clutter_held",
        "buildings_held",
        "near_twins",
        "near_twins",
        "near_twins_x2",
        "pasted_held",
        "pasted_buildings",
    ]
    assert [data for data, _ in rows] == sets
    assert "infrared_held: left out: no infrared pictures in " in err
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == [f"| {name}" for name in sets]
    assert [row["frames"] for row in rows.values()] == [3, 2, 2, 1, 1, 2, 1, 2, 1, 3, 3, 3, 2, 1]
    assert rows["near_twins_x2", "native"]["megapixels"] == pytest.approx(4 * 3 * 64 * 80 / 1e6, abs=1e-4)
    assert rows["pasted_held", "native"]["targets"].endswith("/6")
    assert "pd" not in rows["held8_empty", "native"] and "iou" not in rows["clutter_held", "native"]
    repisdnet = rows["near_twins", "repisdnet"]
    assert (repisdnet["threshold"], repisdnet["target_threshold"], repisdnet["megapixels"]) == (0.5, 0.9, 0.1966)
    monkeypatch.setattr(Detector, "probability", lambda *_: pytest.fail("scored again"))
    assert score(held, network, folders) == rows


def test_a_row_says_what_evaluate_says(held: ModuleType, network: Path, folders: tuple[Path, Path], motes) -> None:
    row = score(held, network, folders, "--only", "near_twins_x2")["near_twins_x2", "native"]
    data, out = folders[0] / "near_twins_x2", folders[0] / "out"
    code, _, err = motes("evaluate", network, "--data", data, "-p", "native", "-o", out)
    assert code == 0, err
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    found, targets = map(int, row["targets"].split("/"))
    assert found > 0
    assert (metrics["pd"]["numerator"], metrics["pd"]["denominator"]) == (found, targets)
    assert metrics["iou"]["value"] == pytest.approx(row["iou"], abs=1e-6)
    assert metrics["false_alarms_per_megapixel"]["numerator"] == row["false_blobs"]


def test_the_threshold_is_the_cards(held: ModuleType, network: Path, folders: tuple[Path, Path]) -> None:
    from motes.inference.onnx_card import onnx_with_card

    strict = onnx_with_card(network.read_bytes(), read_onnx_card(network).replace(threshold=0.9))
    first = score(held, network, folders, "--only", "held8")
    network.write_bytes(strict)
    second = score(held, network, folders, "--only", "held8")
    assert [r["held8", "native"]["threshold"] for r in (first, second)] == [0.5, 0.9]


def test_enlarged_targets(held: ModuleType, folders: tuple[Path, Path]) -> None:
    data, sirst = folders
    made = held.enlarged(data, sirst)
    assert [s.name for s in made.samples] == list(TWINS)
    for sample, source in zip(made.samples, made.made_of, strict=True):
        label, small = read_mask(sample.mask), read_mask(source.mask)
        assert len(components(label)) == len(components(small))
        assert read_image(sample.image).pixels.shape[:2] == label.shape == (128, 160)
        assert 2.5 * small.sum() < label.sum() < 5 * small.sum()


def test_pasted_targets_stand_out_and_stay_when_photographs_come(held: ModuleType, folders: tuple[Path, Path]) -> None:
    data, sirst = folders
    pasted = held.pasted("pasted_held", "clutter_held")
    first = pasted(data, sirst).samples
    for sample in first:
        label, pixels = read_mask(sample.mask), read_image(sample.image).pixels[..., 0].astype(float)
        before = read_image(data / "clutter_held" / "images" / f"{sample.name}.png").pixels[..., 0]
        assert len(components(label)) == held.PASTED
        assert (pixels - before)[label].mean() > 5
        assert np.count_nonzero(pixels != before) < 0.2 * label.size
    kept = [s.image.read_bytes() for s in first]
    photographs(data / "clutter_held", "infrared-harbour")
    again = pasted(data, sirst).samples
    assert [s.name for s in again] == ["infrared-harbour", "meadow", "shore"]
    assert [s.image.read_bytes() for s in again[1:]] == kept
    assert [s.name for s in held.clutter("clutter_held", infrared=True)(data, sirst).samples] == ["infrared-harbour"]
    assert [s.name for s in held.clutter("clutter_held")(data, sirst).samples] == ["meadow", "shore"]
    assert len(open_dataset(data / "pasted_held").split(None)) == 3


def test_what_was_trained_on_is_left_out(
    held: ModuleType, network: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from motes.inference.onnx_card import onnx_with_card

    twin = open_dataset(folders[1]).samples[TWINS[1]]
    card = read_onnx_card(network).replace(training={"frames": [digest(read_image(twin.image).pixels)[:12]]})
    network.write_bytes(onnx_with_card(network.read_bytes(), card))
    rows = score(held, network, folders)
    left = {data for data, _ in rows}
    assert left.isdisjoint({"near_twins", "near_twins_x2", "pasted_held", "pasted_buildings"}) and len(left) == 9
    err = capsys.readouterr().err
    for name in ("near_twins", "near_twins_x2", "pasted_held", "pasted_buildings"):
        assert f"{name}: left out of {network}: 1 of " in err


def test_rows_go_into_the_card_and_nothing_else_changes(
    held: ModuleType, script, network: Path, folders: tuple[Path, Path], motes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from motes.inference.onnx_card import onnx_with_card

    ship = script("ship_network")
    old = ({"data": "SIRST", "split": "test_v1", "iou": 0.7}, {"split": f"{ship.CALIBRATED_ON} (not)", "iou": 0.6})
    before = read_onnx_card(network).replace(measured=old)
    network.write_bytes(onnx_with_card(network.read_bytes(), before))
    parity = network.with_suffix(".parity.json")
    parity.write_text('{"passed": true, "sha256": "old"}', encoding="utf-8")
    rows = score(held, network, folders)
    name, bare = ship.digest(network), onnx_with_card(network.read_bytes(), before)
    for _ in range(2):  # the second time the rows are replaced
        monkeypatch.setattr("sys.argv", ["ship", str(network), str(folders[0].parent / "work" / "held-out.json")])
        ship.main()
        assert read_onnx_card(network) == before.replace(measured=(old[0], *rows.values()))
    assert onnx_with_card(network.read_bytes(), before) == bare and ship.digest(network) == name
    facts = json.loads(parity.read_text(encoding="utf-8"))
    assert facts["passed"] and facts["sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()

    monkeypatch.setattr("motes.inference.backend.list_weights", lambda: {"spot-sirst": network})
    code, out, err = motes("models", "spot-sirst")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("held8 ")]
    row = rows["held8", "native"]
    assert row["about"] in line and f"{row['targets']} = " in line and f"{row['false_blobs']}/3 = " in line
    assert out.count("SIRST  test_v1") == 1
    assert f"| {row['targets']} = " in script("zoo").held_out(list(rows.values()))


def test_rows_of_another_network_are_refused(script, network: Path, tmp_path: Path) -> None:
    file, content = tmp_path / "rows.json", network.read_bytes()
    file.write_text(json.dumps([{"file": str(network), "weights": "0" * 64, "rows": [{}]}]), encoding="utf-8")
    with pytest.raises(SystemExit, match="no rows of the network"):
        script("ship_network").add_held_out(network, file)
    assert network.read_bytes() == content
