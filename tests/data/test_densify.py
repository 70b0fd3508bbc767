"""``motes data densify``: what is written is a data set whose boxes, masks and sky fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from motes.cli.app import app
from motes.data import open_dataset
from motes.data.annotations import boxes_of_mask, read_boxes, read_sky
from motes.data.densify import NOTES, densify
from motes.data.synthesize import write_dataset
from motes.errors import MotesError
from motes.imaging import read_image, read_mask


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sparse")
    write_dataset(
        root, "sirstdevkit", 8, seed=1, height=96, width=112, bits=8, kind="cloud", targets=(1, 2), snr=(20, 30)
    )
    return root


@pytest.fixture(scope="module")
def dense(sparse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dense") / "set"
    densify(open_dataset(sparse), out, targets=(6, 12))
    return out


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_boxes_masks_and_sky_fit(sparse: Path, dense: Path) -> None:
    before, after = open_dataset(sparse), open_dataset(dense)
    assert after.layout == "sirstdevkit" and list(after.samples) == list(before.samples)
    assert {k: v for k, v in after.splits.items() if v} == {k: v for k, v in before.splits.items() if v}
    counts = []
    for name, sample in after.samples.items():
        boxes, sky = read_boxes(sample).boxes, read_sky(sample)
        counts.append(len(boxes))
        assert np.array_equal(sky, read_sky(before.samples[name]))
        mask = read_mask(sample.mask)
        found = {tuple(b) for b in boxes_of_mask(mask).boxes.tolist()}
        assert len(found & {tuple(b) for b in boxes.tolist()}) >= len(boxes) - 1  # crowded ones may touch
        old, new = read_image(before.samples[name].image).pixels, read_image(sample.image).pixels
        inside = np.zeros(mask.shape, bool)
        for x1, y1, x2, y2 in boxes.astype(int):
            inside[y1:y2, x1:x2] = True
        assert np.array_equal(old[~inside], new[~inside]) and (new.astype(int) >= old).all()
        truth = {tuple(b) for b in read_boxes(before.samples[name]).boxes.tolist()}
        if (sky == 1).any():
            pasted = [b for b in boxes.astype(int).tolist() if tuple(map(float, b)) not in truth]
            assert 6 <= len(boxes) <= 12 and all((sky[y1:y2, x1:x2] == 1).all() for x1, y1, x2, y2 in pasted)
    assert len(set(counts)) > 1


def test_an_interrupted_set_goes_on_to_the_same_files(sparse: Path, dense: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "again", 0

    def stop(done: int, total: int) -> None:
        nonlocal seen
        seen = done
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        densify(open_dataset(sparse), out, targets=(6, 12), progress=stop)
    assert seen == 3 and len(json.loads((out / NOTES).read_text())["frames"]) == 3
    done = densify(open_dataset(sparse), out, targets=(6, 12))
    assert (done.made, done.kept) == (5, 3)
    first, second = files(dense), files(out)
    assert first == second
    shutil.rmtree(out)
    assert densify(open_dataset(sparse), out, targets=(6, 12), seed=1).made == 8
    assert files(out)["PNGImages/synthetic_00000.png"] != first["PNGImages/synthetic_00000.png"]


def run(*argv: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "densify", *map(str, argv)])
    if isinstance(done.exception, MotesError):
        return 2, str(done.exception)
    return done.exit_code, done.output


def test_without_sky_maps(sparse: Path, tmp_path: Path) -> None:
    root = tmp_path / "no sky"
    shutil.copytree(sparse, root)
    shutil.rmtree(root / "SkySeg")
    code, text = run(root, tmp_path / "out")
    assert code == 2 and "no sky maps" in text and "gaussian_clusters" in text and not (tmp_path / "out").exists()
    code, text = run(root, tmp_path / "out", "--mode", "plain", "--json")
    assert code == 0 and json.loads(text)["made"] == 8
    assert open_dataset(tmp_path / "out").samples["synthetic_00000"].sky is None


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("{root}", "{root}"), "is the data set itself"),
        (("{root}", "{other}"), "is not empty"),
        (("{root}", "{dense}"), "made with targets"),
        (("{root}", "{new}", "--mode", "gausian"), "gaussian"),
        (("{root}", "{new}", "--least", 5, "--most", 2), "5 to 2"),
        (("{new}", "{new}"), "no such folder"),
    ],
)
def test_bad_input(argv: tuple[object, ...], says: str, sparse: Path, dense: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    places = {"root": sparse, "dense": dense, "other": other, "new": tmp_path / "new"}
    code, text = run(*(str(a).format(**places) for a in argv))
    assert code == 2 and says in text
