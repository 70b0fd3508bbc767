"""Files of Paddle and Jittor, read without either: torch's names and layouts, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fill import fill_state
from motes.checkpoints import State, load_published, read_state
from motes.checkpoints.paddle_files import INTERNAL_NAMES, SLICES
from motes.errors import CheckpointError

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.random(shape, np.float32)


STATE = {
    "conv.weight": numbers(4, 3, 3, 3),
    "bn.weight": numbers(4),
    "bn.running_mean": numbers(4),
    "bn.running_var": numbers(4),
    "fc.weight": numbers(5, 4),
    "fc.bias": numbers(5),
}
"""What a torch network holds."""

IN_PADDLE = {
    "conv.weight": STATE["conv.weight"],
    "bn.weight": STATE["bn.weight"],
    "bn._mean": STATE["bn.running_mean"],
    "bn._variance": STATE["bn.running_var"],
    "fc.weight": np.ascontiguousarray(STATE["fc.weight"].T),
    "fc.bias": STATE["fc.bias"],
}
"""What the same network holds in Paddle, written out by hand."""

INTERNAL = {
    "conv.weight": "conv2d_0.w_0",
    "bn.weight": "batch_norm2d_0.w_0",
    "bn._mean": "batch_norm2d_0.w_1",
    "bn._variance": "batch_norm2d_0.w_2",
    "fc.weight": "linear_0.w_0",
    "fc.bias": "linear_0.b_0",
}


def pair(name: str, array: np.ndarray) -> Any:
    """A tensor outside a state dict, as ``paddle.save`` pickles it."""

    class Pair:
        def __reduce__(self) -> tuple:
            return tuple, ((name, array),)

    return Pair()


def sliced(state: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """``name`` cut up as Paddle cuts tensors of more than 1 GiB."""
    flat, rest = state[name].reshape(-1), {k: v for k, v in state.items() if k != name}
    parts = {f"{name}@@.{i}": flat[i * 40 : (i + 1) * 40] for i in range(-(-flat.size // 40))}
    return {**rest, **parts, SLICES: {name: {"OriginShape": state[name].shape, "slices": list(parts)}}}


PADDLE = {
    "state dict": {**IN_PADDLE, INTERNAL_NAMES: INTERNAL},
    "plain arrays": IN_PADDLE,
    "ordered": OrderedDict(IN_PADDLE),
    "sliced": sliced({**IN_PADDLE}, "conv.weight"),
    "sliced matrix": {**sliced(IN_PADDLE, "fc.weight"), INTERNAL_NAMES: INTERNAL},
    "nested": {"model": OrderedDict((k, pair(INTERNAL[k], v)) for k, v in IN_PADDLE.items()), "epoch": 3},
    "wrapped": {"state_dict": IN_PADDLE, "LR_Scheduler": {"last_epoch": 3}},
}


def assert_is_state(found: State, expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value), name
        assert found[name].flags.c_contiguous


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("content", PADDLE)
def test_paddle(tmp_path: Path, content: str, protocol: int) -> None:
    file = tmp_path / "model.bin"  # the suffix does not tell
    file.write_bytes(pickle.dumps(PADDLE[content], protocol=protocol))
    found = read_state(file)
    assert_is_state(found, STATE)
    assert found.format == "paddle"


def test_layer_type_in_the_file_decides(tmp_path: Path) -> None:
    matrices = {
        "embedding.weight": numbers(7, 3),
        "fc.weight": numbers(3, 2),
        "query": numbers(4, 2),
        "b.weight": numbers(2, 3),
    }
    table = {"embedding.weight": "embedding_0.w_0", "fc.weight": "linear_12.w_0", "query": "create_parameter_0.w_0"}
    file = tmp_path / "a.pdparams"
    file.write_bytes(pickle.dumps({**matrices, INTERNAL_NAMES: table}))
    found = read_state(file)
    turned = {"fc.weight", "b.weight"}
    assert_is_state(found, {k: np.ascontiguousarray(v.T) if k in turned else v for k, v in matrices.items()})
    assert found.assumed == {"b.weight"}


class Mixed(nn.Module):
    """A linear layer and an embedding, both square: shapes do not tell them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.embedding = nn.Embedding(3, 3)


def test_the_network_decides_where_the_file_does_not(tmp_path: Path) -> None:
    theirs = {"fc.weight": numbers(3, 3), "fc.bias": numbers(3), "embedding.weight": numbers(3, 3)}
    file = tmp_path / "a.pdparams"
    file.write_bytes(pickle.dumps({f"module.{k}": v for k, v in theirs.items()}))
    state = read_state(file)
    assert state.assumed == {"fc.weight", "embedding.weight"}
    net = load_published(Mixed(), state)
    assert np.array_equal(net.fc.weight.detach(), theirs["fc.weight"].T)
    assert np.array_equal(net.embedding.weight.detach(), theirs["embedding.weight"])


def test_bfloat16(tmp_path: Path) -> None:
    file = tmp_path / "a.pdparams"
    bits = torch.tensor([0.15625, -3.0], dtype=torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    file.write_bytes(pickle.dumps({"bn._mean": bits, "bn._variance": bits}))
    found = read_state(file)
    assert found["bn.running_mean"].dtype == np.float32
    assert found["bn.running_mean"].tolist() == [0.15625, -3.0]


OPTIMISERS = {
    "momentum": {"linear_0.w_0_velocity_0": numbers(2, 2), "LR_Scheduler": {"last_epoch": 1}, INTERNAL_NAMES: {}},
    "adam": {"linear_0.w_0_moment1_0": numbers(2, 2), "linear_0.w_0_beta1_pow_acc_0": numbers(1)},
    "half precision": {"master_weights": {"linear_0.w_0": numbers(2, 2)}, "LR_Scheduler": {"last_lr": 0.1}},
    "schedule alone": {"LR_Scheduler": {"last_epoch": 1}},
}


@pytest.mark.parametrize("content", OPTIMISERS)
def test_optimisers_are_no_weights(tmp_path: Path, content: str) -> None:
    file = tmp_path / "model.pdopt"
    file.write_bytes(pickle.dumps(OPTIMISERS[content]))
    with pytest.raises(CheckpointError, match=r"state of a Paddle optimiser, not weights.*\.pdparams beside it"):
        read_state(file)


@pytest.mark.parametrize(
    "table",
    [
        {"conv.weight": {"OriginShape": (4, 3, 3, 3), "slices": ["conv.weight@@.0", "conv.weight@@.1"]}},
        {"conv.weight": {"OriginShape": (4, 3, 3, 2), "slices": ["conv.weight@@.0"]}},
        {"conv.weight": {"OriginShape": (4, 3, 3, 3)}},
        {"conv.weight": None},
        [1, 2],
    ],
)
def test_damaged_slices(tmp_path: Path, table: Any) -> None:
    file = tmp_path / "a.pdparams"
    file.write_bytes(pickle.dumps({"conv.weight@@.0": numbers(108), SLICES: table}))
    with pytest.raises(CheckpointError, match="cut short or damaged at the slices"):
        read_state(file)


def test_two_names_for_one_tensor(tmp_path: Path) -> None:
    file = tmp_path / "a.pdparams"
    file.write_bytes(pickle.dumps({"bn._mean": numbers(2), "bn._variance": numbers(2), "bn.running_mean": numbers(2)}))
    with pytest.raises(CheckpointError, match=r"both called 'bn\.running_mean'"):
        read_state(file)


@pytest.mark.parametrize("suffix", ["pdiparams", "pdmodel"])
def test_programs_for_deployment(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(bytes(64))
    with pytest.raises(CheckpointError, match=r"a Paddle program for deployment.*give the \.pdparams"):
        read_state(file)


def tailed(body: bytes) -> bytes:
    """As Jittor ends its files."""
    return body + hashlib.sha1(body).digest() + b"HCAJSLHD"


def jittor(state: dict[str, np.ndarray]) -> bytes:
    """As ``module.save`` writes: every array in a call of jittor's variable."""
    body = bytearray(b"\x80\x04}(")
    for name, array in state.items():
        inner = pickle.dumps(array, protocol=4)
        start = 11 if inner[2:3] == b"\x95" else 2  # without the header and the frame
        body += b"\x8c" + bytes([len(name)]) + name.encode()
        body += b"cjittor\njittor_core.Var\n" + inner[start:-1] + b"\x85R"
    return bytes(body + b"u.")


@pytest.mark.parametrize("tail", [True, False])
def test_jittor_variables(tmp_path: Path, tail: bool) -> None:
    file = tmp_path / "a.pkl"
    one = {"fc.weight": STATE["fc.weight"]}  # the memo of one pickle is not that of the next
    file.write_bytes(tailed(jittor(one)) if tail else jittor(one))
    found = read_state(file)
    assert_is_state(found, one)
    assert found.format == "jittor"


def test_jittor_snapshot(tmp_path: Path) -> None:
    content = {"state_dict": STATE, "optimizer": {"defaults": {"lr": 0.1}}, "epoch": 7, "mean_iu": np.float64(0.5)}
    file = tmp_path / "a.pkl"
    file.write_bytes(tailed(pickle.dumps(content, protocol=4)))
    found = read_state(file)
    assert_is_state(found, STATE)
    assert (found.format, found.facts) == ("jittor", {"epoch": 7, "mean_iu": 0.5})


def test_jittor_checksum(tmp_path: Path) -> None:
    good = tailed(pickle.dumps(STATE, protocol=4))
    file = tmp_path / "a.pkl"
    for position in (40, len(good) - 10, len(good) - 28):
        bad = bytearray(good)
        bad[position] ^= 1
        file.write_bytes(bad)
        with pytest.raises(CheckpointError, match="checksum"):
            read_state(file)
    for cut in (1, 8, 9, 27):  # part of the tail: neither a plain pickle nor a whole file
        file.write_bytes(good[:-cut])
        with pytest.raises(CheckpointError, match="cut short or damaged"):
            read_state(file)
    file.write_bytes(good[:-28])
    assert_is_state(read_state(file), STATE)


@pytest.mark.parametrize("wrap", [lambda b: b, tailed], ids=["paddle", "jittor"])
@pytest.mark.parametrize(
    "name",
    ["jittor\njittor_core.Variable", "jittor_core\nVar", "jittor\nload", "paddle\nload", "paddle.framework.io\nload"],
)
def test_other_names_of_the_frameworks_are_refused(tmp_path: Path, name: str, wrap) -> None:
    file = tmp_path / "a.pdparams"
    file.write_bytes(wrap(b"\x80\x02}U\x01ac" + name.encode() + b"\nU\x01x\x85Rs."))
    with pytest.raises(CheckpointError, match=rf"asks for '{name.replace(chr(10), '.')}'.*nothing was executed"):
        read_state(file)


def test_malicious_file_with_a_valid_checksum(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(marker),)

    file = tmp_path / "a.pkl"
    file.write_bytes(tailed(pickle.dumps({"a": Bomb()}, protocol=4)))
    with pytest.raises(CheckpointError, match=r"mkdir'.*nothing was executed"):
        read_state(file)
    file.write_bytes(tailed(b"\x80\x04cjittor\njittor_core.Var\ncos\nsystem\n\x85R."))
    with pytest.raises(CheckpointError, match="nothing was executed"):
        read_state(file)
    assert not marker.exists()


def test_a_variable_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    file.write_bytes(tailed(b"\x80\x04}U\x01acjittor\njittor_core.Var\nK\x01\x85Rs."))
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        read_state(file)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("paddle", ["model", "model-protocol2", "converted-numpy", "model-nested"]),
        ("jittor", ["module", "numpy-style", "training"]),
    ],
)
def test_reference_samples(reference_root: Path, folder: str, names: list[str]) -> None:
    root = reference_root / "checkpoint_formats"
    keys = json.loads((root / "keys.json").read_text())
    expected = {k: v for k, v in fill_state(keys).items() if not k.endswith("num_batches_tracked")}
    files = {p.stem: p for p in (root / folder).iterdir() if p.stem in names and p.suffix != ".pdopt"}
    assert sorted(files) == sorted(names)
    for file in files.values():
        found = read_state(file)
        assert_is_state(found, expected)
        assert found.format == folder
    refused = root / folder / {"paddle": "model.pdopt", "jittor": "corrupt.pkl"}[folder]
    with pytest.raises(CheckpointError, match="optimiser" if folder == "paddle" else "checksum"):
        read_state(refused)


def test_facts_of_reference_samples(reference_root: Path) -> None:
    root = reference_root / "checkpoint_formats"
    facts = read_state(root / "jittor" / "training.pkl").facts
    assert facts.keys() == {"epoch", "mean_iu", "command"}
    assert isinstance(facts["mean_iu"], float)
    assert read_state(root / "torch" / "simplecv-model-60000.pth").facts.keys() == {"global_step"}
