"""`motes align`: equal numbers pass, every kind of difference fails, and the files of others are read and written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fill as oracle
import motes
from motes.benchmark.alignment import Given, align, compare_files, save
from motes.benchmark.differences import Limits, compare
from motes.checkpoints import filled, load_published
from motes.checkpoints.references import read_reference, write_reference
from motes.errors import MotesError
from motes.losses import create_loss
from motes.metrics import SegmentationScore

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problems(report) -> dict[str, str]:
    return {r.name: r.problem for r in report.rows if r.problem}


def changed(source: Path, path: Path, **changes: np.ndarray | None) -> Path:
    """A copy of an .npz with other entries; None leaves one out."""
    with np.load(source) as stored:
        arrays = {**{k: stored[k] for k in stored.files}, **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_fills_as_the_references_do() -> None:
    keys = json.loads((REFERENCE / "repisdnet" / "keys.json").read_text())
    keys |= {"alpha": [[], "float32"], "table": [[3, 5], "float32"], "gain": [[7], "float64"]}
    expected = oracle.fill_state(keys)
    found = filled.fill_state(keys)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name
    for shape in ((1, 3, 8, 9), (2, 1, 5, 4)):
        assert np.array_equal(filled.fill_input(shape), oracle.fill_input(shape))
        assert np.array_equal(filled.fill_input(shape, "target"), oracle.fill_input(shape, "target"))


@pytest.mark.parametrize("case", ["case-train-50x70", "case-deploy-64x96", "case-converted-64x64"])
def test_the_authors_numbers(case: str) -> None:
    report = align("repisdnet", REFERENCE / "repisdnet" / f"{case}.npz")
    assert report.passed, report.rows
    assert [r.name for r in report.rows] == ["out0", "logits0"]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    for name in ("keys.json", "case-train-64x64.npz"):
        shutil.copy(REFERENCE / "repisdnet" / name, tmp_path)
    return tmp_path / "case-train-64x64.npz"


def one_pixel(value: np.ndarray, amount: float) -> np.ndarray:
    value = value.copy()
    value[0, 1, 30, 30] += amount * np.abs(value).max()
    return value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda v: one_pixel(v, 1e-3), "over the limit"),
        (lambda v: one_pixel(v, np.nan), "not finite"),
        (lambda v: v[:, :, :, :-1], "shape here 1x2x64x64"),
        (lambda v: v[:, :1], "shape here 1x2x64x64"),  # would broadcast
        (lambda v: v.transpose(0, 2, 3, 1), "shape here 1x2x64x64"),
        (lambda v: np.ascontiguousarray(v.reshape(2, 64, 64)), "shape here 1x2x64x64"),
    ],
)
def test_what_differs_fails(case: Path, tmp_path: Path, change, problem: str) -> None:
    with np.load(case) as stored:
        other = change(stored["logits0"])
    report = align("repisdnet", changed(case, tmp_path / "other.npz", logits0=other))
    assert not report.passed
    assert problems(report) == {"logits0": problem}


def test_equal_sides_transposed_are_not_equal() -> None:
    """reprod_log transposes where a transposed shape fits; here a square map must not pass either way round."""
    value = np.arange(12.0).reshape(3, 4)
    (row,) = compare({"a": value}, {"a": value.T}, Limits())
    assert row.problem == "shape here 3x4"
    (row,) = compare({"a": np.ones((1, 4))}, {"a": np.ones(4)}, Limits())
    assert row.problem == "shape here 1x4"


def test_a_name_that_is_missing_here_fails(case: Path, tmp_path: Path) -> None:
    with np.load(case) as stored:
        other = changed(case, tmp_path / "other.npz", out1=stored["out0"])
    assert problems(align("repisdnet", other)) == {"out1": "missing here, nearest is 'out0'"}


@pytest.mark.parametrize(
    ("limits", "passes"), [(Limits(1e-2), True), (Limits(1e-4), False), (Limits(1e-2, mean=1e-9), False)]
)
def test_limits(case: Path, tmp_path: Path, limits: Limits, passes: bool) -> None:
    with np.load(case) as stored:
        other = changed(case, tmp_path / "other.npz", logits0=one_pixel(stored["logits0"], 1e-3))
    assert align("repisdnet", other, limits=limits).passed is passes


def test_differences_are_those_of_the_definition() -> None:
    theirs, ours = np.array([1.0, -4.0, 2.0, 0.0]), np.array([1.5, -4.0, 2.0, -0.1])
    (row,) = compare({"a": ours}, {"a": theirs}, Limits(0.2))
    assert row.largest == 4.0
    assert row.max_difference == 0.5
    assert row.mean_difference == pytest.approx(0.15)
    assert row.limit == pytest.approx(0.8)
    assert not row.problem


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference as somebody else would write it: a plain loop, numpy's own file formats, the weights beside it."""
    folder = tmp_path_factory.mktemp("theirs")
    keys = json.loads((REFERENCE / "repisdnet" / "keys.json").read_text())
    net = load_published(motes.create_model("repisdnet"), oracle.fill_state(keys)).eval()
    torch.save(net.state_dict(), folder / "weights.pth")
    images = oracle.fill_input((2, 3, 32, 40))
    target = (oracle.fill_input((2, 1, 32, 40), "target") > 0.6).astype(np.float32)
    np.save(folder / "x.npy", images)
    np.save(folder / "y.npy", target)
    x, y = torch.from_numpy(images), torch.from_numpy(target)
    values: dict[str, np.ndarray] = {"output": net(x).detach().numpy()}
    score = SegmentationScore("native")
    for probability, label in zip(torch.sigmoid(net(x)).detach().numpy()[:, 0], target[:, 0] > 0, strict=True):
        score.update(probability, label)
    values["iou"] = np.array(score.compute()["iou"].value)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4)
    for k in range(4):
        optimizer.param_groups[0]["lr"] = lr = 0.001 * (1 - k / 4) ** 0.9
        p = torch.sigmoid(net(x))
        both = (p * y).sum()
        soft_iou = 1 - (both + 1) / (p.sum() + y.sum() - both + 1)
        loss = torch.nn.functional.binary_cross_entropy(p, y) + soft_iou
        optimizer.zero_grad()
        loss.backward()
        if k == 0:
            values["loss"] = np.array(loss.item())
            values["grad_norm"] = np.array(sum(float(p.grad.square().sum()) for p in net.parameters()) ** 0.5)
        optimizer.step()
        values |= {f"loss_{k}": np.array([loss.item()])[0], f"lr_{k}": np.array(lr)}
    np.save(folder / "theirs.npy", values)
    return folder / "theirs.npy"


def given_with(theirs: Path, **more: object) -> Given:
    folder = theirs.parent
    files = {"weights": folder / "weights.pth", "input": folder / "x.npy", "target": folder / "y.npy"}
    return Given(**{**files, "rename": {"output": "logits"}, **more})


def test_forward_loss_metric_and_steps_of_a_plain_loop(theirs: Path) -> None:
    report = align("repisdnet", theirs, given_with(theirs))
    assert report.passed, problems(report)
    names = {r.name for r in report.rows}
    assert {"logits", "loss", "iou", "grad_norm", "loss_3", "lr_3", "loss from stored logits"} <= names


@pytest.mark.parametrize(
    ("more", "failing"),
    [
        ({"lr": 0.002}, {"lr_0", "lr_1", "loss_1", "loss_2"}),
        ({"loss": "bce"}, {"loss", "loss_0", "grad_norm", "loss from stored logits"}),
        ({"rename": {}}, {"output"}),
    ],
)
def test_another_setting_is_noticed(theirs: Path, more: dict[str, object], failing: set[str]) -> None:
    found = set(problems(align("repisdnet", theirs, given_with(theirs, **more))))
    assert failing <= found
    assert not found & {"logits", "iou"}


def test_loss_and_metric_alone_from_stored_logits(theirs: Path, tmp_path: Path) -> None:
    """R3 of the protocol: no input and no weights, so the network is left out."""
    values = np.load(theirs, allow_pickle=True).tolist()
    stored = {"logits": values["output"], "loss": values["loss"], "iou": values["iou"], "loss_1": values["loss_1"]}
    np.savez(tmp_path / "logits.npz", target=np.load(theirs.parent / "y.npy"), **stored)
    report = align("repisdnet", tmp_path / "logits.npz")
    assert report.passed
    assert [r.name for r in report.rows] == ["loss from stored logits", "iou from stored logits"]
    report = align("repisdnet", changed(tmp_path / "logits.npz", tmp_path / "off.npz", loss=values["loss"] + 0.01))
    assert set(problems(report)) == {"loss from stored logits"}


def test_saves_what_it_can_compare_with(tmp_path: Path) -> None:
    file = tmp_path / "ours.npz"
    values = save("repisdnet", file, Given(variant="deploy"), steps=3, size=(20, 28), batch=2)
    assert {"out0", "logits", "loss", "iou", "grad_norms", "loss_2", "lr_2"} <= values.keys()
    with np.load(file, allow_pickle=False) as stored:  # no Python objects in it
        facts = json.loads(str(stored["settings"]))
        assert stored["input"].shape == (2, 3, 20, 28)
        assert len(facts["parameters"]) == len(stored["grad_norms"])
    assert align("repisdnet", file).passed
    norms = values["grad_norms"].copy()
    norms[5] *= 1.01
    other = changed(file, tmp_path / "other.npz", grad_norms=norms, loss_2=values["loss_2"] + 1e-3)
    assert set(problems(align("repisdnet", other))) == {"loss_2"} | (
        {"grad_norms"} if norms[5] * 0.01 > 2e-5 * norms.max() else set()
    )
    with pytest.raises(MotesError, match="reference of repisdnet, not of"):
        align(next(n for n in [*motes.list_models(), "x"] if n != "repisdnet"), file)


def test_saved_weights_are_enough_for_others(tmp_path: Path) -> None:
    """What is in the file, and only that, gives its outputs: input, weights, names."""
    file = tmp_path / "ours.npz"
    save("repisdnet", file, Given(loss="dice"), steps=1, size=(16, 16), batch=1, carry_weights=True)
    with np.load(file) as stored:
        state = {k[len("weights/") :]: torch.from_numpy(stored[k]) for k in stored.files if k.startswith("weights/")}
        net = motes.create_model("repisdnet").eval()
        net.load_state_dict(state)
        out = net(torch.from_numpy(stored["input"])).detach()
        assert np.allclose(out.numpy(), stored["logits"], atol=1e-5)
        assert float(create_loss("dice")(out, torch.from_numpy(stored["target"]))) == pytest.approx(
            float(stored["loss"]), rel=1e-5
        )
    assert align("repisdnet", file).passed


def test_saves_a_dictionary_for_reprod_log(tmp_path: Path) -> None:
    file = tmp_path / "ours.npy"
    values = save("repisdnet", file, Given(), steps=2, size=(16, 16), batch=1)
    loaded = np.load(file, allow_pickle=True).tolist()  # as that package reads it
    assert loaded.keys() == values.keys()
    assert all(np.array_equal(loaded[k], v) for k, v in values.items())
    beside = {n: tmp_path / f"ours.{n}.npy" for n in ("input", "target")}
    assert align("repisdnet", file, Given(weights=tmp_path / "ours.safetensors", **beside)).passed
    assert compare_files(file, file).passed


def test_two_files(tmp_path: Path) -> None:
    a, b = {"x": np.ones(3), "y": np.zeros((2, 2))}, {"x": np.ones(3), "z": np.array(1.0)}
    np.save(tmp_path / "a.npy", {"outer": a})
    write_reference(tmp_path / "b.npz", {}, {f"outer/{k}": v for k, v in b.items()})
    report = compare_files(tmp_path / "a.npy", tmp_path / "b.npz")
    assert set(problems(report)) == {"outer/y", "outer/z"}


def test_nothing_in_a_dictionary_is_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "executed"),)

    np.save(tmp_path / "bomb.npy", {"out0": np.ones(2), "b": Bomb()})
    with pytest.raises(MotesError, match="nothing was executed"):
        read_reference(tmp_path / "bomb.npy")
    (tmp_path / "plain.npy").write_bytes(pickle.dumps({"out0": Bomb()}))
    with pytest.raises(MotesError):
        read_reference(tmp_path / "plain.npy")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "case", "limit"),
    [
        ("rdian", "case-fixed-64x64", 2e-5),  # keeps what a fresh network has in some places
        ("rdian", "case-trained-scene", 2e-5),  # an image, statistics and a weight file
        ("serankdet", "case-tiefree-80x112", 1e-4),  # weights that are changed after filling
        ("acm", "case-fpn-tiny-64x64", 2e-5),  # names its file of parameter names
        ("farseg", "case-scaled-64x64", 2e-5),  # some weights are scaled after filling
    ],
)
def test_the_other_kinds_of_case(reference_root: Path, name: str, case: str, limit: float) -> None:
    if name not in motes.list_models():
        pytest.skip(f"{name} is not there")
    report = align(name, reference_root / name / f"{case}.npz", limits=Limits(limit))
    assert report.passed, problems(report)
