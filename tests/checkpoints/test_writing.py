"""Weights written for other frameworks: what their loaders find, and that nothing is lost on the way there and back."""

from __future__ import annotations

import hashlib
import json
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import motes
from fill import fill_state
from motes.cards import Card
from motes.checkpoints import load_published, read_card, read_state, write_state
from motes.checkpoints.matching import is_counter, linear_weights, skeleton
from motes.checkpoints.paddle_files import to_paddle
from motes.errors import CheckpointError, MotesError
from motes.export.conversion import written_names

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


class Toy(nn.Module):
    """One of every kind of layer that another framework might store otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(4, 2, 2)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 4)
        self.wide = nn.Linear(4, 6, bias=False)
        self.embedding = nn.Embedding(4, 4)
        self.query = nn.Parameter(torch.rand(4, 4))
        self.scale = nn.Parameter(torch.tensor(0.25))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("table", torch.arange(5))
        self.fp16 = nn.Parameter(torch.rand(3).half())


@pytest.fixture
def net() -> Toy:
    torch.manual_seed(0)
    net = Toy()
    nn.init.normal_(net.bn.running_mean)
    net.bn.num_batches_tracked += 3
    return net


def state_of(net: nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy().copy() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("suffix", [".pdparams", ".pkl", ".safetensors", ".pth"])
def test_there_and_back(net: Toy, tmp_path: Path, suffix: str) -> None:
    file, before = tmp_path / f"a{suffix}", state_of(net)
    write_state(file, net.state_dict(), linear=linear_weights(net))
    found = read_state(file)
    foreign = suffix in (".pdparams", ".pkl")
    assert {k for k in before if not (foreign and is_counter(k))} == found.keys()
    after = state_of(load_published(Toy(), found))
    for name, value in before.items():
        if not is_counter(name):
            assert after[name].dtype == value.dtype
            assert after[name].tobytes() == value.tobytes(), name
    assert after["bn.num_batches_tracked"] == (0 if foreign else 3)


def test_what_paddle_finds(net: Toy, tmp_path: Path) -> None:
    write_state(tmp_path / "a.pdparams", net.state_dict(), linear=linear_weights(net))
    found = pickle.loads((tmp_path / "a.pdparams").read_bytes())
    own = state_of(net)
    assert type(found) is dict
    assert found.keys() == {
        *own.keys() - {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"},
        "bn._mean",
        "bn._variance",
    }
    turned = {"fc.weight", "wide.weight", "attention.out_proj.weight"}
    renamed = {"bn._mean": "bn.running_mean", "bn._variance": "bn.running_var"}
    for name, value in found.items():
        mine = own[renamed.get(name, name)]
        assert np.array_equal(value, mine.T if name in turned else mine), name
        assert value.dtype == mine.dtype
    assert linear_weights(net) == turned


def test_what_jittor_finds(net: Toy, tmp_path: Path) -> None:
    write_state(tmp_path / "a.pkl", net.state_dict())
    data = (tmp_path / "a.pkl").read_bytes()
    assert data.endswith(b"HCAJSLHD")
    body, checksum = data[:-28], data[-28:-8]
    assert hashlib.sha1(body).digest() == checksum
    found, own = pickle.loads(body), state_of(net)
    assert list(found) == [name for name in own if not is_counter(name)]
    assert all(np.array_equal(v, own[k]) and v.dtype == own[k].dtype for k, v in found.items())


@pytest.mark.parametrize("suffix", [".pdparams", ".pkl"])
def test_pickles_that_every_numpy_loads(net: Toy, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write_state(file, net.state_dict())
    data = file.read_bytes()
    named = {arg for op, arg, _ in pickletools.genops(data) if op.name in ("GLOBAL", "STACK_GLOBAL")}
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert data[:2] == b"\x80\x04"
    write_state(file, net.state_dict())
    assert file.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_arrays_as_they_come(tmp_path: Path) -> None:
    state = {
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "view": np.arange(10, dtype=np.float32)[::3],
        "big endian": np.arange(3, dtype=">i4"),
        "many": np.zeros(300, np.uint8),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(True),
        "Größe": np.array(2, np.int64),
    }
    write_state(tmp_path / "a.pkl", state)
    found = read_state(tmp_path / "a.pkl")
    for name, value in state.items():
        assert np.array_equal(found[name], value)
        assert found[name].shape == value.shape
    with pytest.raises(TypeError, match="no plain numbers"):
        write_state(tmp_path / "a.pkl", {"a": np.array(["x"])})


def test_card_goes_into_safetensors_alone(tmp_path: Path) -> None:
    card = Card(name="rdian", task="irstd")
    for suffix in (".safetensors", ".pdparams"):
        write_state(tmp_path / f"a{suffix}", {"a": np.ones(2, np.float32)}, card=card)
    assert read_card(tmp_path / "a.safetensors") == card
    assert read_card(tmp_path / "a.pdparams") is None
    with pytest.raises(MotesError, match=r"a\.onnx: cannot write this format \(one of \.safetensors, .*\.pdparams"):
        write_state(tmp_path / "a.onnx", {})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "fc.bias"}, "missing (fc.bias)"),
        (lambda s: {**s, "aux.weight": np.ones(2)}, "have no place (aux.weight)"),
        (lambda s: {**s, "conv._mean": np.ones(2), "conv._variance": np.ones(2)}, "have no place (conv.running_mean, "),
        (lambda s: {**s, "wide.weight": s["wide.weight"].T}, "differ in shape (wide.weight [4, 6] instead of [6, 4])"),
    ],
    ids=["missing", "left over", "statistics left over", "not transposed"],
)
def test_paddle_files_that_do_not_fit(net: Toy, tmp_path: Path, change, expected: str) -> None:
    file = tmp_path / "a.pdparams"
    state = change(to_paddle(state_of(net), linear_weights(net)))
    file.write_bytes(pickle.dumps(state, protocol=4))
    with pytest.raises(CheckpointError) as error:
        load_published(Toy(), read_state(file), str(file))
    assert expected in str(error.value)


def test_what_may_be_absent(net: Toy) -> None:
    state = state_of(net)
    given = {k: v for k, v in state.items() if not k.startswith("attention.")} | {"aux.weight": np.ones(2)}
    with pytest.raises(CheckpointError, match=r"have no place \(aux.weight\).* missing \(attention.in_proj_weight, "):
        load_published(Toy(), given)
    with pytest.raises(CheckpointError, match="are missing"):
        load_published(Toy(), given, absent=["aux.*", "attention.*_bias"])
    other = Toy()
    before = state_of(other)
    after = state_of(load_published(other, given, absent=["aux.*", "attention.*"]))
    assert all(np.array_equal(v, (before if k.startswith("attention.") else state)[k]) for k, v in after.items())
    with pytest.raises(CheckpointError, match="differ in shape"):
        load_published(Toy(), {**state, "fc.bias": np.ones(9)}, absent=["*"])


@pytest.mark.parametrize("name", ["factseg", "farseg"])
def test_names_of_paddlers(reference_root: Path, name: str) -> None:
    theirs = json.loads((reference_root / name / "paddlers_names.json").read_text())
    keys = json.loads((reference_root / name / "keys.json").read_text())
    with torch.device("meta"):
        net = motes.create_model(name)
    authors, paddle = (written_names(net, kind) for kind in ("torch", "pdparams"))
    assert set(authors.values()) == keys.keys() - {"buffer_step"}
    state = fill_state({k: v for k, v in keys.items() if k != "buffer_step"})
    own = {ours: state[published] for ours, published in authors.items()}
    written = to_paddle({paddle[ours]: value for ours, value in own.items()}, {paddle[n] for n in linear_weights(net)})
    assert written.keys() == set(theirs.values())
    assert all(np.array_equal(written[theirs[k]], state[k]) for k in theirs)


@pytest.mark.parametrize(
    ("name", "variant"),
    [("factseg", None), ("farseg", None), ("semantic_fpn", None), ("deeplabv3", None), ("unet", None)]
    + [("pfnet", v) for v in (None, "r101", "jittor-r50", "gaofen-r2n101", "upernet-r50")]
    + [(name, None) for name in ("acm", "alcnet", "rdian", "agpcnet", "dnanet", "mtunet", "uiunet", "abc")]
    + [("serankdet", None), ("repisdnet", None), ("repisdnet", "deploy")],
)
def test_written_names_are_read_back(name: str, variant: str | None) -> None:
    module, own = skeleton(name, variant)
    with torch.device("meta"):
        net = motes.create_model(name, variant)
    for kind in ("torch", "pdparams", "jittor", "safetensors"):
        assert list(written_names(net, kind)) == list(own)  # and it raises where a name would be read otherwise
    rule = [(r"^.*\.", "x.")]
    had = getattr(module, "WRITTEN_NAMES", None)
    module.WRITTEN_NAMES = {"torch": rule}
    try:
        with pytest.raises(MotesError, match="cannot be written as torch"):
            written_names(net, "torch")
    finally:
        if had is None:
            del module.WRITTEN_NAMES
        else:
            module.WRITTEN_NAMES = had


@pytest.mark.parametrize(
    ("variant", "keys"),
    [(None, "keys"), ("r101", "keys-r101"), ("jittor-r50", "keys-jittor-r50"), ("gaofen-r2n101", "keys-gaofen-r2n101")],
)
def test_authors_names_of_pfnet(reference_root: Path, variant: str | None, keys: str) -> None:
    published = json.loads((reference_root / "pfnet" / f"{keys}.json").read_text())
    with torch.device("meta"):
        names = written_names(motes.create_model("pfnet", variant), "torch").values()
    assert {n for n in names if not is_counter(n)} == {n for n in published if not is_counter(n)}
