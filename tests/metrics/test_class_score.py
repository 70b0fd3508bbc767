"""Class scores: the reference case, hand-counted images, and what must not matter (batches, order, processes)."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from motes.errors import DataError, MotesError
from motes.metrics import CLASS_PROTOCOLS, ClassScore, class_protocol
from motes.metrics.class_report import class_notes, class_table, summary_table
from motes.metrics.report import write_metrics, write_per_image

NAMES = ("background", "ship", "plane")
REFERENCE = Path(__file__).parents[1] / "reference" / "isaid"


def pictures(count: int, classes: int = 3, seed: int = 0, absent: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """[N, 20, 24] predictions and labels, the last label without foreground; ids above ``absent`` move up by one."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.repeat(rng.integers(0, classes, (count, 5, 6)), 4, 1), 4, 2)
    label[-1] = 0
    wrong = rng.random(label.shape) < 0.3
    prediction = np.where(wrong, rng.integers(0, classes, label.shape), label)
    if absent is not None:
        label, prediction = (a + (a >= absent) for a in (label, prediction))
    label[:, 0, :3] = 255
    return prediction.astype(np.uint8), label.astype(np.uint8)


def scored(prediction: np.ndarray, label: np.ndarray, names: tuple[str, ...] = NAMES, **options: object) -> ClassScore:
    score = ClassScore(names, **options)
    for i, (p, t) in enumerate(zip(prediction, label, strict=True)):
        score.update(p, t, f"{i}")
    return score


def by_hand(prediction: np.ndarray, label: np.ndarray, classes: int) -> dict[str, list[float | None]]:
    """Per-class ratios from boolean masks, another way than a confusion matrix."""
    valid = label != 255
    rows: dict[str, list[float | None]] = {"iou": [], "precision": [], "recall": [], "f1": []}
    for c in range(classes):
        p, t = (prediction == c) & valid, label == c
        both, either = np.count_nonzero(p & t), np.count_nonzero(p | t)
        rows["iou"].append(both / either if either else None)
        rows["precision"].append(both / p.sum() if p.any() else None)
        rows["recall"].append(both / t.sum() if t.any() else None)
        rows["f1"].append(2 * both / (p.sum() + t.sum()) if either else None)
    return rows


def test_reference_case() -> None:
    """Class 10 occurs nowhere there."""
    case = np.load(REFERENCE / "metric.npz")
    names = tuple(f"c{i}" for i in range(16))
    score = scored(case["pred"], case["gt"], names)
    np.testing.assert_array_equal(score.confusion, case["confusion"])
    assert score.confusion.dtype == np.int64
    values = score.compute(intervals=False)
    for i, name in enumerate(names):
        iou = values[f"iou/{name}"].value
        assert iou is None if np.isnan(case["iou"][i]) else iou == pytest.approx(case["iou"][i], rel=1e-7)
    assert values["miou"].value == pytest.approx(float(case["mean_nan_skipped"]), rel=1e-6)
    assert values["miou"].denominator == 15
    assert values["miou_foreground"].value == pytest.approx(float(case["fg_mean_nan_skipped"]), rel=1e-6)
    assert score.facts()["absent_classes"] == ["c10"]


@pytest.mark.parametrize("absent", [None, 0, 1, 3])
def test_ratios_against_boolean_masks(absent: int | None) -> None:
    prediction, label = pictures(5, 3, absent=absent)
    label = np.where(label > 250, 255, label)
    names = ("a", "b", "c", "d")
    score = scored(prediction, label, names)
    values, expected = score.compute(), by_hand(prediction, label, 4)
    for ratio, numbers in expected.items():
        for name, number in zip(names, numbers, strict=True):
            found = values[f"{ratio}/{name}"]
            assert found.value == (None if number is None else pytest.approx(number, rel=1e-12)), (ratio, name)
            if number is not None:
                assert found.interval is not None and found.interval[0] <= number <= found.interval[1]
    known = [v for v in expected["iou"] if v is not None]
    assert values["miou"].value == pytest.approx(np.mean(known))
    known = [v for v in expected["iou"][1:] if v is not None]
    assert values["miou_foreground"].value == pytest.approx(np.mean(known))
    valid = label != 255
    assert values["oa"].value == pytest.approx(np.mean(prediction[valid] == label[valid]))
    frequency = [np.count_nonzero(label == c) for c in range(4)]
    weighted = sum(n * (v or 0) for n, v in zip(frequency, expected["iou"], strict=True)) / sum(frequency)
    assert values["fwiou"].value == pytest.approx(weighted)


def test_a_class_that_is_only_predicted_has_iou_zero_and_counts() -> None:
    label = np.zeros((4, 4), np.uint8)
    prediction = label.copy()
    prediction[0, 0] = 2
    score = scored(prediction[None], label[None])
    values = score.compute(intervals=False)
    assert values["iou/plane"].value == 0
    assert values["iou/ship"].value is None
    assert values["recall/plane"].value is None and values["precision/plane"].value == 0
    assert values["miou"].value == pytest.approx((15 / 16 + 0) / 2)
    assert score.facts()["absent_classes"] == ["ship"]
    assert score.facts()["images_without_foreground"] == 1


def test_nothing_counted_yet_has_no_value() -> None:
    empty = ClassScore(NAMES)
    values = empty.compute()
    assert all(v.value is None and v.interval is None for v in values.values())
    everything_ignored = scored(np.zeros((1, 3, 3), np.uint8), np.full((1, 3, 3), 255, np.uint8))
    assert everything_ignored.compute()["oa"].value is None
    assert everything_ignored.facts()["pixels_ignored"] == 9


def test_no_sum_saturates() -> None:
    """Published code adds float32 up to 2**24 a cell; here 2**24 + 2**20 pixels are all there."""
    score = ClassScore(2)
    score.update(np.zeros((1 << 12, (1 << 12) + 256), np.uint8), np.zeros((1 << 12, (1 << 12) + 256), np.uint8))
    score.update(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    assert score.confusion[0, 0] == 2**24 + 2**20 + 1


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_any_batch_size(batch: int) -> None:
    prediction, label = pictures(7)
    whole, batches = scored(prediction, label), ClassScore(NAMES)
    for start in range(0, 7, batch):
        part = slice(start, start + batch)
        batches.update(prediction[part], label[part], [str(i) for i in range(7)][part])
    assert batches.compute() == whole.compute()
    assert batches.per_image() == whole.per_image()


@pytest.mark.parametrize("processes", [2, 3])
def test_shards_equal_one_process(processes: int) -> None:
    prediction, label = pictures(7)
    shards = [scored(prediction[i::processes], label[i::processes]) for i in range(processes)]
    total = ClassScore.from_state(shards[-1].state())
    for shard in shards[:-1]:
        total.merge(ClassScore.from_state(shard.state()))
    whole = scored(prediction, label)
    assert total.compute() == whole.compute()  # intervals too
    assert total.facts() == whole.facts()


def test_state_survives_a_file(tmp_path: Path) -> None:
    score = scored(*pictures(4), background=None)
    np.savez(tmp_path / "state.npz", **score.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        again = ClassScore.from_state(dict(state))
    assert again.compute() == score.compute() and "miou_foreground" not in again.compute()
    assert ClassScore.from_state(ClassScore(NAMES).state()).compute() == ClassScore(NAMES).compute()


def test_objects_by_size() -> None:
    """Six objects; found are those of which at least half of the pixels are right."""
    label, prediction = np.zeros((200, 240), np.uint8), np.zeros((200, 240), np.uint8)
    label[0:2, 0:2] = 1  # 4 px, 2 right: found
    prediction[0, 0:2] = 1
    label[0:2, 10:12] = 1  # 4 px, 1 right: missed
    prediction[0, 10] = 1
    label[10:22, 0:12] = 1  # 144 px, all right: found, no longer tiny
    prediction[10:22, 0:12] = 1
    label[2, 2] = 1  # joins the first one by its corner: 5 px, 2 right is less than half
    label[40:72, 0:32] = 2  # 1024 px, all of it called ship: missed
    prediction[40:72, 0:32] = 1
    label[100:196, 0:96] = 2  # 9216 px, found
    prediction[100:196, 0:96] = 2
    values = scored(prediction[None], label[None]).compute()
    counted = {k: (v.numerator, v.denominator) for k, v in values.items() if k.startswith("object_recall")}
    assert counted == {
        "object_recall": (2, 5),
        "object_recall/tiny": (0, 2),
        "object_recall/small": (1, 1),
        "object_recall/medium": (0, 1),
        "object_recall/large": (1, 1),
    }
    label[2, 2] = 0
    again = scored(prediction[None], label[None]).compute()
    assert again["object_recall/tiny"].value == 0.5 and again["object_recall/tiny"].interval is not None


def test_without_background_every_class_is_an_object() -> None:
    label = np.zeros((20, 20), np.uint8)
    assert scored(label[None], label[None], background=None).compute()["object_recall"].denominator == 1
    assert scored(label[None], label[None]).compute()["object_recall"].value is None


@pytest.mark.parametrize(
    ("prediction", "label", "says"),
    [
        (np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8), "is 3x4 and its label 4x3"),
        (np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint8), "float32, expected integer class ids"),
        (np.full((3, 3), 3, np.uint8), np.zeros((3, 3), np.uint8), "prediction of 'x' holds the id 3, expected 0 to 2"),
        (np.zeros((3, 3), np.uint8), np.full((3, 3), 9, np.uint8), "label of 'x' holds the id 9, expected 0 to 2"),
        (np.zeros((3, 3), np.int64), np.full((3, 3), -1), "holds the id -1"),
        (np.zeros((3, 3), np.int64), np.full((3, 3), 256), "holds the id 256"),
        (np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.uint8), "has no pixels"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint8), "1 names for a batch of 2"),
    ],
)
def test_what_is_refused(prediction: np.ndarray, label: np.ndarray, says: str) -> None:
    score = ClassScore(NAMES)
    with pytest.raises(DataError, match=says):
        score.update(prediction, label, "x")
    assert len(score) == 0  # nothing half counted


def test_other_classes_are_not_merged() -> None:
    with pytest.raises(DataError, match="cannot merge"):
        ClassScore(NAMES).merge(ClassScore(("background", "plane", "ship")))
    with pytest.raises(DataError, match="expected 2 to 255 different ones"):
        ClassScore(("a", "a"))
    with pytest.raises(DataError, match="ids of 3 classes are 0 to 2"):
        ClassScore(NAMES, ignore=2)


def test_files_and_tables(tmp_path: Path) -> None:
    prediction, label = pictures(4, absent=1)
    score = scored(prediction, label, ("background", "pool", "ship", "plane"))
    facts, values = score.facts(), score.compute()
    write_metrics(tmp_path / "metrics.json", facts, values)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["metrics"]["iou/pool"] == {"value": None, "numerator": 0, "denominator": 0, "interval": None}
    assert stored["metrics"]["miou"]["denominator"] == 3
    write_per_image(tmp_path / "per_image.csv", score)
    with (tmp_path / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[3]["foreground"] == "0" and rows[0]["iou/pool"] == "" and rows[0]["ignored"] == "3"
    out = io.StringIO()
    console = Console(file=out, width=150)
    console.print(summary_table(values, facts))
    console.print(class_table(values, facts))
    text = out.getvalue()
    assert f"{values['miou_foreground'].value:.4f}" in text and f"{values['iou/ship'].value:.4f}" in text
    assert any(line.startswith("pool occurs neither") for line in class_notes(facts))
    assert "1 of 4 images have no foreground" in class_notes(facts)


def test_protocols() -> None:
    assert set(CLASS_PROTOCOLS) >= {"native", "window", "patch", "pfnet", "multiscale", "gaofen"}
    changed = class_protocol("window").replace(window=256, flip=None)
    assert (changed.window, changed.stride, changed.name) == (256, 146, "window*")
    assert class_protocol("patch").replace(window=70).stride == 40
    assert class_protocol("window").replace(window=896) is class_protocol("window")
    with pytest.raises(MotesError, match="did you mean 'window'"):
        class_protocol("windw")
    with pytest.raises(MotesError, match="do not cover"):
        class_protocol("window").replace(stride=1000)
    with pytest.raises(MotesError, match="scales"):
        class_protocol("window").replace(scales=(0.0,))
