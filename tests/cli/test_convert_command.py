"""``motes convert`` as installed: other frameworks and back, a backbone alone, class ids, one line for bad input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from command_line import Motes

from fill import fill_state
from motes.checkpoints import read_card, read_state, write_state

KEYS = Path(__file__).resolve().parents[1] / "reference" / "rdian" / "keys.json"
SMALL = ("--model", "factseg", "--option", "backbone=resnet10t")


def rdian() -> dict[str, np.ndarray]:
    return fill_state(json.loads(KEYS.read_text()))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RDIAN's weights as a torch file."""
    file = tmp_path_factory.mktemp("rdian") / "rdian.pth"
    write_state(file, rdian())
    return file


@pytest.fixture(scope="module")
def factseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FactSeg under the authors' names, as their snapshot wraps it."""
    import torch

    import motes
    from motes.export.conversion import written_names

    torch.manual_seed(0)
    net = motes.create_model("factseg", backbone="resnet10t")
    names = written_names(net, "torch")
    file = tmp_path_factory.mktemp("factseg") / "factseg.pth"
    torch.save({"model": {f"module.{names[k]}": v for k, v in net.state_dict().items()}, "global_step": 60000}, file)
    return file


@pytest.mark.parametrize(("to", "suffix"), [("pdparams", ".pdparams"), ("jittor", ".pkl")])
def test_to_another_framework_and_back(motes: Motes, published: Path, tmp_path: Path, to: str, suffix: str) -> None:
    done = motes("convert", published, "--to", to, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert f"written     rdian{suffix}" in done.out
    done = motes("convert", f"rdian{suffix}", "--to", "torch", "-o", "back.pth", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    found, state = read_state(tmp_path / "back.pth"), rdian()
    assert found.keys() == state.keys()
    assert all(found[k].tobytes() == v.tobytes() for k, v in state.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.pth", f"rdian{suffix}"]


def test_paddlers_names_and_class_ids(motes: Motes, factseg: Path, tmp_path: Path) -> None:
    done = motes("convert", factseg, *SMALL, "--to", "pdparams", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "classes are in the authors' order; --swap-classes puts them in the data set's" in done.out
    paddle = pickle.loads((tmp_path / "factseg.pdparams").read_bytes())
    assert {"fgfpn.inner_blocks.0.weight", "resencoder.resnet.bn1._mean", "fg_cls.weight"} <= paddle.keys()

    done = motes("convert", "factseg.pdparams", *SMALL, "--swap-classes", "-o", "a.safetensors", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    card = read_card(tmp_path / "a.safetensors")
    assert (card.classes[2], card.classes[12]) == ("storage_tank", "Roundabout")
    ours, theirs = read_state(tmp_path / "a.safetensors"), read_state(factseg)
    order = [*range(2), 12, *range(3, 12), 2, *range(13, 16)]
    for leaf in ("weight", "bias"):
        assert np.array_equal(ours[f"fg_cls.{leaf}"], theirs[f"fg_cls.{leaf}"][order])
        assert np.array_equal(ours[f"bi_cls.{leaf}"], theirs[f"bi_cls.{leaf}"])

    done = motes("convert", "a.safetensors", "-o", "as-is.pth", cwd=tmp_path)
    assert "as only .safetensors can say: read back they are taken for the authors'" in done.out
    done = motes("convert", "a.safetensors", "--swap-classes", "-o", "back.pth", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    back = read_state(tmp_path / "back.pth")
    assert back.keys() == theirs.keys()
    assert all(np.array_equal(back[k], v) for k, v in theirs.items())


def test_backbone_alone(motes: Motes, factseg: Path, tmp_path: Path) -> None:
    done = motes("convert", factseg, *SMALL, "--part", "backbone", "-o", "b.safetensors", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "backbone    resnet10t" in done.out
    state, whole = read_state(tmp_path / "b.safetensors"), read_state(factseg)
    assert all(np.array_equal(v, whole[f"resencoder.resnet.{k}"]) for k, v in state.items())
    assert len(state) == sum(k.startswith("resencoder.") for k in whole)
    done = motes("convert", "b.safetensors", "-o", "c.pth", cwd=tmp_path)
    assert done.code == 2
    assert "holds a backbone alone" in done.err


def test_what_may_be_absent(motes: Motes, tmp_path: Path) -> None:
    state = {**rdian(), "aux.weight": np.ones(2, np.float32)}
    dropped = [name for name in state if name.startswith("out_conv")] or [list(state)[-2]]
    for name in dropped:
        del state[name]
    write_state(tmp_path / "a.pth", state)
    call = ("convert", "a.pth", "--model", "rdian", "-o", "b.pth")
    done = motes(*call, cwd=tmp_path)
    assert done.code == 2
    assert "have no place (aux.weight)" in done.err
    assert f"missing ({dropped[0]}" in done.err
    done = motes(*call, *(word for name in ("aux.*", *dropped) for word in ("--absent", name)), cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert f"{len(dropped)} missing tensors keep a fresh network's numbers ({dropped[0]}" in done.out
    assert "1 tensors left out (aux.weight)" in done.out


BAD = {
    "unknown format": (["{rdian}", "--to", "pdparam"], "unknown format 'pdparam' (did you mean 'pdparams'?)"),
    "no output": (["{rdian}"], "no output named (give -o FILE, or --to FORMAT)"),
    "suffix of another format": (
        ["{rdian}", "--to", "pdparams", "-o", "a.pth"],
        "a.pth: its suffix is not of the format",
    ),
    "onto itself": (["{rdian}", "-o", "{rdian}"], "is the file that is read"),
    "unknown part": (
        ["{rdian}", "--part", "backbon", "-o", "a.pth"],
        "unknown part 'backbon' (did you mean 'backbone'?)",
    ),
    "no backbone": (["{rdian}", "--part", "backbone", "-o", "a.pth"], "rdian has no backbone"),
    "nothing to swap": (["{rdian}", "--swap-classes", "-o", "a.pth"], "rdian: its authors number the classes as"),
    "not for backbones": (["{rdian}", "--part", "backbone", "--swap-classes", "-o", "a.pth"], "about whole networks"),
    "option without a value": (["{rdian}", "--option", "backbone", "-o", "a.pth"], "expected NAME=VALUE"),
    "option without a network": (["{rdian}", "--option", "a=1", "-o", "a.pth"], "give it with --model"),
    "unknown option": (
        ["{rdian}", "--model", "rdian", "--option", "bloks=1", "-o", "a.pth"],
        "unknown option of rdian",
    ),
    "optimiser": (["{optimiser}", "-o", "a.pth"], "holds the state of a Paddle optimiser, not weights"),
    "bad checksum": (["{corrupt}", "-o", "a.pth"], "damaged, its checksum (SHA-1) is not that"),
    "cut MXNet file": (["{mxnet}", "-o", "a.pth"], "MXNet file cut short or damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(motes: Motes, published: Path, tmp_path: Path, kind: str) -> None:
    from motes.checkpoints.pickle_writing import dumps

    files = {
        "rdian": published,
        "optimiser": tmp_path / "m.pdopt",
        "corrupt": tmp_path / "c.pkl",
        "mxnet": tmp_path / "m.params",
    }
    files["optimiser"].write_bytes(dumps({"linear_0.w_0_velocity_0": np.ones(2)}))
    files["corrupt"].write_bytes(dumps({"a": np.ones(2)}) + bytes(20) + b"HCAJSLHD")
    files["mxnet"].write_bytes((0x112).to_bytes(8, "little") + bytes(8) + b"\1")
    argv, expected = BAD[kind]
    before = sorted(p.name for p in tmp_path.iterdir())
    done = motes("convert", *(a.format(**files) for a in argv), cwd=tmp_path)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert expected in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == before
