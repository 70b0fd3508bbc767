"""``motes predict``: files, exit codes, resuming, bad files, protocols, colours and statistics."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Motes, files
from PIL import Image as PillowImage

from class_network import CARD, NAMES, Colours, field, make_onnx
from motes.data.classes import TABLES, ClassTable
from motes.errors import MotesError
from motes.imaging import read_image, write_image
from motes.inference.class_overlay import draw_classes, vivid_colours
from motes.inference.class_run import ClassFolderRun, background_of, id_order, open_image
from motes.inference.class_statistics import class_statistics
from motes.inference.class_writers import MASKS, table_for
from motes.inference.segmenter import Segmenter
from motes.inference.sources import frames_of

COLOURS = {"background": (0, 0, 0), "red": (128, 0, 0), "green": (0, 128, 0), "blue": (128, 128, 0)}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_onnx(tmp_path_factory.mktemp("network") / "colours.onnx")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png and b.tif with rectangles of three colours, c.png bare ground."""
    folder = tmp_path_factory.mktemp("in")
    write_image(folder / "a.png", field(120, 150, 0)[0])
    write_image(folder / "b.tif", field(90, 100, 1)[0])
    write_image(folder / "c.png", np.full((40, 30, 3), 90, np.uint8))
    return folder


def statistics(out: Path) -> list[dict[str, str]]:
    with (out / "classes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_run_writes(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    done = motes("predict", images, "-m", network, "-o", tmp_path, "--masks", "id,palette,colour", "--batch", 2)
    assert done.code == 0, done.err
    table = statistics(tmp_path)
    for k, name in enumerate(("a.png", "b.tif", "c.png")):
        stem = Path(name).stem
        expected = Segmenter(backend=Colours()).labels(read_image(images / name))
        with PillowImage.open(tmp_path / "id" / f"{stem}.png") as ids:
            assert ids.mode == "L"
            assert (np.array(ids) == expected).mean() > 0.999
            expected = np.array(ids)
        with PillowImage.open(tmp_path / "palette" / f"{stem}.png") as palette:
            assert palette.mode == "P"
            np.testing.assert_array_equal(np.array(palette), expected)
            shown = np.array(palette.convert("RGB"))
        colours = read_image(tmp_path / "colour" / f"{stem}.png").pixels
        np.testing.assert_array_equal(shown, colours)
        np.testing.assert_array_equal(colours, np.array([*COLOURS.values()], np.uint8)[expected])
        rows = table[4 * k : 4 * k + 4]
        assert [r["class"] for r in rows] == list(NAMES) and {r["image"] for r in rows} == {name}
        assert [int(r["pixels"]) for r in rows] == np.bincount(expected.ravel(), minlength=4).tolist()
        assert (tmp_path / "overlays" / f"{stem}.png").is_file()
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["protocol"]["name"] == "native" and run["classes"] == list(NAMES) and len(run["model_sha256"]) == 64
    assert not list(tmp_path.rglob(".motes-*"))
    assert "3 images" in done.out and "megapixel/s" in done.out


def test_finished_images_are_skipped(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    command = ("predict", images, "-m", network, "-o", tmp_path)
    motes(*command)
    before = files(tmp_path)
    stamp = (tmp_path / "id" / "a.png").stat().st_mtime_ns
    done = motes(*command)
    assert "3 of 3 images are finished already" in done.err
    assert files(tmp_path) == before and (tmp_path / "id" / "a.png").stat().st_mtime_ns == stamp
    (tmp_path / "colour" / "b.png").unlink()
    assert "2 of 3" in motes(*command).err
    assert files(tmp_path) == before
    done = motes(*command, "--window", 64, "--stride", 32)  # other settings: done again
    assert "finished" not in done.err
    assert json.loads((tmp_path / "run.json").read_text())["protocol"]["window"] == 64
    assert motes(*command, "--overwrite").code == 0


def test_interrupted_runs_go_on(images: Path, tmp_path: Path) -> None:
    class Interrupted(Colours):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(self.shapes) == 2:
                raise KeyboardInterrupt
            return super().run(batch)

    frames = frames_of([images])
    with pytest.raises(KeyboardInterrupt):
        ClassFolderRun(Segmenter(backend=Interrupted()), tmp_path).run(frames)
    assert {row["image"] for row in statistics(tmp_path)} == {"a.png", "b.tif"}  # the table of what is done

    class Same(Interrupted):
        run = Colours.run

    Same.__name__ = "Interrupted"  # the backend's name is one of the settings
    backend = Same()
    parts: list[float] = []
    summary = ClassFolderRun(Segmenter(backend=backend), tmp_path).run(frames, parts.append)
    assert summary.skipped == 2 and len(backend.shapes) == 1
    assert sum(parts) == pytest.approx(3)


def test_bad_files_are_listed_and_the_others_done(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((images / "a.png").read_bytes())
    (folder / "zero.png").touch()
    (folder / "cut.png").write_bytes((images / "a.png").read_bytes()[:300])
    write_image(folder / "four.tif", np.zeros((20, 20, 4), np.uint16))
    deep = field(50, 60, 3)[0].astype(np.uint16) * 256
    write_image(folder / "deep.tif", deep)
    done = motes("predict", folder, "-m", network, "-o", tmp_path / "out")
    assert done.code == 1
    assert "3 files could not be read" in done.err
    for says in ("zero.png: is empty", "cut.png: is a PNG cut short", "four.tif: has 4 channels, the network takes 3"):
        assert says in done.err
    assert done.err.count("uint16 counts") == 1
    assert sorted(p.name for p in (tmp_path / "out" / "id").iterdir()) == ["deep.png", "good.png"]


def test_results_of_other_images_are_not_overwritten(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        write_image(tmp_path / name / "x.png", field(40, 40 + seed)[0])
    assert motes("predict", tmp_path / "one", "-m", network, "-o", tmp_path / "out").code == 0
    done = motes("predict", tmp_path / "two", "-m", network, "-o", tmp_path / "out")
    assert done.code == 2 and "already holds results of" in done.err
    assert motes("predict", tmp_path / "two", "-m", network, "-o", tmp_path / "out", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("{i} -o {o}", "no network for classes is shipped"),
        ("{i} -o {o} -m {n} -p windw", "did you mean 'window'?"),
        ("{i} -o {o} -m {n} --masks colur", "did you mean 'colour'?"),
        ("{i} -o {o} -m {n} --scales big", "--scales big: expected numbers"),
        ("{i} -o {o} -m {n} --stride 1000", "do not cover an image"),
        ("{i} -o {o} -m {n} --classes potsdm", "did you mean 'potsdam'?"),
        ("{i} -o {o} -m {n} --classes potsdam", "has no class 'background'"),
        ("{i}/nothing.png -o {o} -m {n}", "no such file or folder"),
        ("{i} -o {o} -m repisdnet-sirst", "class maps need 'aerial' (motes detect finds targets)"),
        ("{i} -o {o} -m {n} --backend onx", "did you mean 'onnx'?"),
    ],
)
def test_mistakes_are_one_sentence(
    motes: Motes, network: Path, images: Path, tmp_path: Path, words: str, says: str
) -> None:
    done = motes("predict", *words.format(i=images, o=tmp_path / "out", n=network).split())
    assert done.code == 2 and says in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_protocols_and_scales(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    options = ("-m", network, "--masks", "id", "--no-overlay")
    done = motes("predict", images / "a.png", *options, "-o", tmp_path / "a", "--scales", "0.5,1", "--flip")
    assert done.code == 0, done.err
    run = json.loads((tmp_path / "a" / "run.json").read_text())["protocol"]
    assert run["scales"] == [0.5, 1.0] and run["flip"] is True and run["name"] == "native*"
    expected = Segmenter(backend=Colours(), scales=(0.5, 1.0), flip=True).labels(read_image(images / "a.png"))
    assert (read_image(tmp_path / "a" / "id" / "a.png").pixels[:, :, 0] == expected).mean() > 0.999
    assert not (tmp_path / "a" / "overlays").exists()


def test_labels_beside_images_are_no_images(motes: Motes, network: Path, images: Path, tmp_path: Path) -> None:
    """The official layout of iSAID."""
    for name in ("P1", "P1_instance_color_RGB", "P1_instance_id_RGB", "P2_instance_id_RGB"):
        write_image(tmp_path / "in" / f"{name}.png", field(40, 40)[0])
    done = motes("predict", tmp_path / "in", "-m", network, "-o", tmp_path / "out", "--no-overlay")
    assert sorted(p.stem for p in (tmp_path / "out" / "id").iterdir()) == ["P1", "P2_instance_id_RGB"]
    assert "2 label files" in done.err


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    import tifffile

    pages = np.stack([field(40, 50, seed)[0] for seed in (1, 2)])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="rgb")
    summary = ClassFolderRun(Segmenter(backend=Colours()), tmp_path / "out").run(frames_of([tmp_path / "stack.tif"]))
    assert [r.stem for r in summary.records] == ["stack_p0001", "stack_p0002"]
    again = ClassFolderRun(Segmenter(backend=Colours()), tmp_path / "out").run(frames_of([tmp_path / "stack.tif"]))
    assert again.skipped == 1 and len(again.records) == 2


def test_classes_in_another_order(tmp_path: Path) -> None:
    """Weights of FactSeg order the classes in their own way; ids in files are those of the table that is asked for."""
    table = ClassTable("own", ("background", "Blue", "green", "red"), tuple(COLOURS.values()))
    write_image(tmp_path / "a.png", field(60, 70)[0])
    plain = Segmenter(backend=Colours()).labels(read_image(tmp_path / "a.png"))
    ClassFolderRun(Segmenter(backend=Colours()), tmp_path / "out", table).run(frames_of([tmp_path / "a.png"]))
    written = read_image(tmp_path / "out" / "id" / "a.png").pixels[:, :, 0]
    np.testing.assert_array_equal(written, np.array([0, 3, 2, 1], np.uint8)[plain])
    with pytest.raises(MotesError, match="no class 'red'"):
        id_order(NAMES, TABLES["isaid"])


def test_colours_by_the_names() -> None:
    isaid = TABLES["isaid"]
    assert table_for([n.upper().replace("_", " ") for n in isaid.names]).colours == isaid.colours
    exchanged = list(isaid.names)
    exchanged[2], exchanged[12] = exchanged[12], exchanged[2]
    assert table_for(exchanged).colours[2] == (0, 191, 127)
    assert table_for(["background", "plane"]).colours == ((0, 0, 0), (0, 127, 255))
    assert len(set(table_for([f"x{i}" for i in range(100)]).colours)) == 100
    assert background_of(isaid.names) == 0 and background_of(TABLES["potsdam"].names) is None


@pytest.mark.parametrize("height", [50, 1024, 2500])
def test_statistics_do_not_depend_on_bands(height: int) -> None:
    rng = np.random.default_rng(height)
    ids = np.kron(rng.integers(0, 3, (-(-height // 5), 12)), np.ones((5, 5))).astype(np.uint8)[:height]
    pixels, objects = class_statistics(ids, 4)
    for k in range(4):
        assert pixels[k] == (ids == k).sum()
        assert objects[k] == cv2.connectedComponents((ids == k).astype(np.uint8), connectivity=8)[0] - 1


def test_one_object_over_all_bands() -> None:
    """A spiral-like shape that is many parts in every band, and one in all."""
    ids = np.zeros((3000, 40), np.uint8)
    ids[:, ::4] = 1
    ids[-1] = 1
    assert class_statistics(ids, 2)[1].tolist() == [10, 1]
    ids[:, 0] = ids[-1] = 0
    ids[::2, 20] = 0  # a dotted line: only its neighbours hold dots together, and there are none
    assert class_statistics(ids, 2)[1][1] == 8 + len(range(1, 2999, 2))


def test_masks_of_any_width(tmp_path: Path) -> None:
    table = table_for(NAMES)
    ids = np.random.default_rng(0).integers(0, 4, (1500, 3001)).astype(np.uint8)  # two bands of rows
    for kind, write in MASKS.items():
        write(tmp_path / f"{kind}.png", ids, table)
    np.testing.assert_array_equal(read_image(tmp_path / "id.png").pixels[:, :, 0], ids)
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png").pixels, np.array(table.colours, np.uint8)[ids])


def test_overlay_keeps_small_objects() -> None:
    """An object of one pixel in an image that is reduced nine times."""
    ids = np.zeros((900, 1800), np.uint8)
    ids[451, 902] = 3
    picture = draw_classes(np.zeros((900, 1800, 3), np.uint8), ids, NAMES, large=200, caption="x")
    assert picture.dtype == np.uint8 and 200 < picture.shape[1] < 400
    red, green, blue = vivid_colours(4)[3].astype(int)
    cell = picture[50, 100].astype(int)
    assert np.abs(cell - (np.array([red, green, blue]) * 0.9)).max() < 2
    whole = draw_classes(
        np.zeros((9, 9), np.uint16), np.zeros((9, 9), np.uint8), NAMES, truth=np.ones((9, 9), np.uint8)
    )
    assert whole.shape[1] > 2 * 480


def test_large_tiffs_are_read_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from motes.inference import class_run

    image = field(200, 150)[0]
    write_image(tmp_path / "a.tif", image)
    expected = Segmenter(backend=Colours(), window=64, stride=32).labels(image)
    monkeypatch.setattr(class_run, "BY_ROWS", 1000)
    opened = open_image(tmp_path / "a.tif")
    assert not isinstance(opened.pixels, np.ndarray)
    np.testing.assert_array_equal(Segmenter(backend=Colours(), window=64, stride=32).labels(opened), expected)
    run = ClassFolderRun(Segmenter(backend=Colours(), window=64, stride=32), tmp_path / "out")
    assert not run.run(frames_of([tmp_path / "a.tif"])).failed
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "id" / "a.png").pixels[:, :, 0], expected)


def test_without_torch(network: Path, images: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None; sys.modules['matplotlib'] = None;"
        "from motes.cli.app import main; main()"
    )
    command = [sys.executable, "-c", code, "predict", images, "-m", network, "-o", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_card_is_checked(tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "x.onnx", CARD.replace(classes=("a", "b", "c")))
    with pytest.raises(MotesError, match="expected one logit for each of 3 classes"):
        Segmenter(path).labels(np.zeros((20, 20, 3), np.uint8))
