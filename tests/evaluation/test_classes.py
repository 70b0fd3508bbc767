"""``motes evaluate`` for aerial networks: protocols, sizes, files, pictures, shards, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from class_network import CARD, NAMES, Colours, field, make_onnx
from motes.data import Sample, open_dataset
from motes.data.classes import ClassTable
from motes.data.labels import write_labels
from motes.errors import DataError, MotesError
from motes.evaluation import evaluate_classes, score_classes
from motes.evaluation.class_gallery import missed_objects
from motes.imaging import read_image, resize, write_image
from motes.inference import Segmenter
from motes.metrics import ClassScore, class_protocol

TABLE = ClassTable("colours", NAMES, ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))
LIST = "background 0 0 0\nred 255 0 0\ngreen 0 255 0\nblue 0 0 255\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of different sizes (an odd number), the last without foreground, one with ignored pixels."""
    root = tmp_path_factory.mktemp("aerial") / "fields"
    for i, size in enumerate(((60, 70), (130, 100), (64, 64), (40, 96), (50, 50))):
        image, ids = field(*size, seed=i)
        if i == 4:
            image[:], ids[:] = 90, 0
        if i == 2:
            ids[:10] = 255
        write_image(root / "images" / f"f{i}.png", image)
        (root / "masks").mkdir(exist_ok=True)
        write_labels(root / "masks" / f"f{i}.png", ids)
    (root / "classes.txt").write_text(LIST, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def samples(root: Path) -> list[Sample]:
    return open_dataset(root).split(None)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_onnx(tmp_path_factory.mktemp("network") / "colours.onnx")


def ids_of(sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    return read_image(sample.mask).pixels[:, :, 0]


def test_score_is_that_of_the_maps(samples: list[Sample]) -> None:
    expected = ClassScore(NAMES)
    for s in samples:
        expected.update(Segmenter(backend=Colours()).labels(read_image(s.image)), ids_of(s), s.name)
    found = score_classes(Colours(), samples, TABLE)
    assert found.compute() == expected.compute()
    assert found.compute()["miou"].value > 0.7  # type: ignore[operator]
    assert found.facts()["images_without_foreground"] == 1 and found.facts()["pixels_ignored"] == 640


@pytest.mark.parametrize("batch", [2, 5])
def test_any_batch_size(samples: list[Sample], batch: int) -> None:
    rule = class_protocol("window").replace(window=32, stride=16)
    one, several = (score_classes(Colours(), samples, TABLE, rule, batch=b) for b in (1, batch))
    assert several.compute() == one.compute()


def test_two_processes_equal_one(samples: list[Sample]) -> None:
    """An odd number of images, one of them without foreground."""
    whole = score_classes(Colours(), samples, TABLE)
    shards = [score_classes(Colours(), samples[i::2], TABLE).state() for i in range(2)]
    total = ClassScore(NAMES)
    for state in shards:
        total.merge(ClassScore.from_state(state))
    assert total.compute() == whole.compute()


def test_classes_in_another_order(samples: list[Sample]) -> None:
    """FactSeg's weights exchange two ids; their masks need not."""
    table = ClassTable("own", ("background", "red", "green", "blue"), TABLE.colours)
    order = ("green", "background", "Blue", "RED")

    class Exchanged(Colours):
        card = CARD.replace(classes=order)

        def __init__(self) -> None:
            super().__init__(CARD.replace(classes=order))

        def run(self, batch: np.ndarray) -> np.ndarray:
            return super().run(batch)[:, [2, 0, 3, 1]]

    assert score_classes(Exchanged(), samples, table).compute() == score_classes(Colours(), samples, TABLE).compute()
    with pytest.raises(MotesError, match="class table 'x' has no class 'red'"):
        score_classes(Colours(), samples, ClassTable("x", ("background", "b"), TABLE.colours[:2]))


def test_patches_of_pfnet(tmp_path: Path) -> None:
    """Whole images are cut by rule "split", overlaps counted repeatedly; each patch is scored at 896x896."""
    rule = class_protocol("pfnet").replace(resolution=(48, 48), cut=("split", 32, 16))
    image, ids = field(40, 70)
    write_image(tmp_path / "images" / "a.png", image)
    (tmp_path / "masks").mkdir()
    write_labels(tmp_path / "masks" / "a.png", ids)
    sample = Sample("a", tmp_path / "images" / "a.png", tmp_path / "masks" / "a.png")
    expected = ClassScore(NAMES)
    for x in (0, 16, 32, 38):
        for y in (0, 8):
            patch = resize(image[y : y + 32, x : x + 32], (48, 48), "bicubic")
            truth = resize(ids[y : y + 32, x : x + 32], (48, 48), "nearest")
            expected.update(Segmenter(backend=Colours(), protocol="patch").labels(patch), truth)
    found = score_classes(Colours(), [sample], TABLE, rule)
    assert found.images[:3] == ["a_0_32_0_32", "a_8_40_0_32", "a_0_32_16_48"]
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    flat = class_protocol("pfnet").replace(resolution=(48, 48), cut=("split", 64, 32))  # 40 is below 64: stays whole
    assert score_classes(Colours(), [sample], TABLE, flat).images == ["a"]


def test_files_and_pictures(root: Path, samples: list[Sample], tmp_path: Path) -> None:
    class Blind(Colours):
        """Finds no blue."""

        def run(self, batch: np.ndarray) -> np.ndarray:
            logits = super().run(batch)
            logits[:, 3] = -9
            return logits

    steps: list[int] = []
    result = evaluate_classes(
        Blind(), samples, TABLE, data="fields", split=None, out=tmp_path, show=tmp_path / "show", labels=True,
        advance=lambda: steps.append(1),
    )  # fmt: skip
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["metrics"]["iou/blue"]["value"] == 0
    assert stored["run"]["protocol"] == "native" and stored["run"]["rules"]["blend"] == "ramp"
    assert stored["run"]["classes"] == list(NAMES) and stored["run"]["class_table"] == "colours"
    with (tmp_path / "per_image.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"f{i}" for i in range(5)]
    labels = read_image(tmp_path / "labels" / "f1.png").pixels[:, :, 0]
    np.testing.assert_array_equal(labels, Segmenter(backend=Blind()).labels(read_image(samples[1].image)))
    assert len(steps) == len(list((tmp_path / "show" / "overlays").iterdir())) == 5
    gallery = read_image(tmp_path / "show" / "gallery.png").pixels
    assert gallery.shape[0] > 200
    missed = result.metrics["object_recall"].denominator - result.metrics["object_recall"].numerator
    found = [
        (s, missed_objects(Segmenter(backend=Blind()).labels(read_image(s.image)), ids_of(s), 4, 0)) for s in samples
    ]
    assert sum(len(rows) for _, rows in found) == missed
    assert {row[0] for _, rows in found for row in rows} >= {3}


def test_command(motes_run, root: Path, network: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = motes_run(
        "evaluate", network, "--data", root, "-o", tmp_path, "-p", "window", "--window", 32, "--stride", 16
    )
    assert done.returncode == 0, done.stderr
    assert "mIoU, all classes" in done.stdout and "mIoU, foreground" in done.stdout
    assert "1 of 5 images have no foreground" in done.stdout
    run = json.loads((tmp_path / "metrics.json").read_text())["run"]
    assert run["protocol"] == "window*" and run["rules"]["window"] == 32 and len(run["weights_sha256"]) == 64
    done = motes_run("evaluate", network, "--data", root, "-o", tmp_path, "--json", "--save-labels", "--show")
    assert json.loads(done.stdout)["metrics"]["miou"]["denominator"] == 4
    assert (network.parent / "show" / "gallery.png").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-p dnanet", "unknown protocol for class maps 'dnanet'"),
        ("-p windw", "unknown protocol 'windw' (did you mean 'window'?)"),
        ("--threshold 0.3", "--threshold is for networks that find targets"),
        ("--save-prob", "--save-prob is for networks that find targets"),
        ("--scales x", "--scales x: expected numbers"),
        ("--classes isaid", "class table 'isaid' has no class 'red'"),
        ("--split val", "has no split lists"),
    ],
)
def test_refused_by_the_command(motes_run, root: Path, network: Path, tmp_path: Path, words: str, says: str) -> None:  # type: ignore[no-untyped-def]
    done = motes_run("evaluate", network, "--data", root, "-o", tmp_path / "out", *words.split())
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_window_options_are_for_aerial_networks(motes_run, root: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = motes_run("evaluate", "tophat", "--data", root, "-o", tmp_path / "out", "--flip")
    assert done.returncode == 2 and "--flip is for aerial networks" in done.stderr
    done = motes_run("evaluate", "tophat", "--data", root, "-o", tmp_path / "out", "-p", "pfnet")
    assert done.returncode == 2 and "unknown protocol 'pfnet'" in done.stderr


def test_pairs_are_checked_before_anything_runs(samples: list[Sample], tmp_path: Path) -> None:
    class Never(Colours):
        def run(self, batch: np.ndarray) -> np.ndarray:
            raise AssertionError

    write_labels(tmp_path / "small.png", np.zeros((9, 9), np.uint8))
    options = {"data": "x", "split": None}
    with pytest.raises(DataError, match=r"f3.png has no mask, so it cannot be scored; so have 1 others of 5"):
        bare = [Sample(s.name, s.image, None if i > 2 else s.mask) for i, s in enumerate(samples)]
        evaluate_classes(Never(), bare, TABLE, **options)
    with pytest.raises(DataError, match=r"is 50x50 and its mask .*small\.png 9x9"):
        evaluate_classes(Never(), samples, TABLE, masks={"f4": tmp_path / "small.png"}, **options)


def test_every_checkpoint_of_a_run(motes_run, tmp_path: Path, root: Path) -> None:  # type: ignore[no-untyped-def]
    import torch

    import motes
    from motes.checkpoints import write_safetensors

    if "semantic_fpn" not in motes.list_models(task="aerial"):
        pytest.skip("no small aerial network yet")
    torch.manual_seed(0)
    net = motes.create_model("semantic_fpn", num_classes=4, backbone="resnet18")
    card = net.card.replace(classes=NAMES)
    for name in ("best", "step-0000010"):
        write_safetensors(tmp_path / f"{name}.safetensors", {k: v.numpy() for k, v in net.state_dict().items()}, card)
    (tmp_path / "two.txt").write_text("f2\nf4\n", encoding="utf-8")
    done = motes_run("evaluate", tmp_path, "--all", "--data", root, "--split", tmp_path / "two.txt")
    assert done.returncode == 0, done.stderr
    written = sorted(tmp_path.glob("evaluate/*/*/metrics.json"))
    assert [p.parent.name for p in written] == ["best", "step-0000010"]
    first, second = (json.loads(p.read_text())["metrics"] for p in written)
    assert first == second
