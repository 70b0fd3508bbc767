"""Reading weight files: the formats, what surrounds weights in them, and what is wrong with files that are none."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from fill import fill_state
from motes.cards import Card, InputSpec
from motes.checkpoints import read_card, read_state, write_safetensors
from motes.errors import CheckpointError

STATE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "bn.bias": np.array([0.5, -1.5], np.float64),
    "bn.num_batches_tracked": np.array(7, np.int64),
}


def tensors(prefix: str = "") -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((prefix + k, torch.from_numpy(v.copy())) for k, v in STATE.items())


def assert_is_state(found: dict[str, np.ndarray]) -> None:
    assert list(found) == list(STATE)
    for name, expected in STATE.items():
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape
        assert np.array_equal(found[name], expected)
        assert found[name].flags.writeable


SNAPSHOTS = {
    "plain": lambda: tensors(),
    "state_dict": lambda: {"epoch": 3, "state_dict": tensors(), "optimizer": {"state": {}, "lr": 0.1}},
    "numpy scalar beside it": lambda: {"mean_IOU": np.float64(0.78), "state_dict": tensors()},
    "module. prefix": lambda: {"model": tensors("module."), "global_step": 60000},
    "compiled and parallel": lambda: {"net": tensors("module._orig_mod.")},
    "nested": lambda: {"model": {"state_dict": tensors()}, "args": None},
    "unknown key": lambda: {"generator_weights": tensors(), "epoch": 1},
    "average beside it": lambda: {"ema": {k: v * 0 for k, v in tensors().items()}, "model": tensors()},
    "settings beside it": lambda: {**tensors(), "num_classes": 1},
    "parameters": lambda: OrderedDict((k, torch.nn.Parameter(v, requires_grad=False)) for k, v in tensors().items()),
    "namespace beside it": lambda: {"state_dict": tensors(), "args": __import__("argparse").Namespace(lr=0.1)},
    "path beside it": lambda: {"state_dict": tensors(), "root": Path("data")},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", SNAPSHOTS)
def test_torch_files(tmp_path: Path, content: str, zipped: bool) -> None:
    file = tmp_path / "weights.pth.tar"
    torch.save(SNAPSHOTS[content](), file, _use_new_zipfile_serialization=zipped)
    assert_is_state(read_state(file))


def test_last_ckpt_of_a_run_gives_its_moving_average(tmp_path: Path) -> None:
    """As best.safetensors would; without an average, the weights themselves."""
    raw = OrderedDict((k, v + 1) for k, v in tensors().items())
    snapshot = {"step": 3, "net": raw, "average": {"steps": 3, "state": tensors()}}
    torch.save(snapshot, tmp_path / "last.ckpt")
    assert_is_state(read_state(tmp_path / "last.ckpt"))
    torch.save(snapshot | {"average": None}, tmp_path / "last.ckpt")
    assert read_state(tmp_path / "last.ckpt")["bn.bias"].tolist() == [1.5, -0.5]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_views_and_odd_dtypes(tmp_path: Path, zipped: bool) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "row": whole[1],
        "transposed": whole.t(),
        "step": whole[::2, 1::3],
        "expanded": torch.tensor([2.0]).expand(3, 2),
        "half": torch.tensor([0.5, 2.0], dtype=torch.float16),
        "bf16": torch.tensor([0.15625, -3.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "none": torch.zeros(0, 3),
    }
    file = tmp_path / "a.pt"
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    found = read_state(file)
    for name, tensor in state.items():
        expected = (tensor.float() if name == "bf16" else tensor).numpy()
        assert found[name].dtype == expected.dtype
        assert np.array_equal(found[name], expected), name


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: OrderedDict(s), lambda s: {"state_dict": s, "best": None}])
def test_plain_pickles_of_arrays(tmp_path: Path, protocol: int, wrap) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(wrap(STATE), protocol=protocol))
    assert_is_state(read_state(file))


def test_fortran_order_and_big_endian(tmp_path: Path) -> None:
    state = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.arange(4, dtype=">f4")}
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(state, protocol=2))
    found = read_state(file)
    assert np.array_equal(found["f"], state["f"])
    assert np.array_equal(found["b"], state["b"])
    assert found["b"].dtype == np.dtype("=f4")


CARD = Card(name="repisdnet", task="irstd", input=InputSpec(channels=1), measured=({"data": "SIRST", "iou": 0.7},))


def test_safetensors_round_trip_with_card(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.safetensors"
    write_safetensors(file, STATE, CARD)
    assert_is_state({k: read_state(file)[k] for k in STATE})
    assert read_card(file) == CARD
    first = file.read_bytes()
    write_safetensors(file, tensors(), CARD)
    assert file.read_bytes() == first
    assert [p.name for p in file.parent.iterdir()] == ["a.safetensors"]


def test_safetensors_of_other_tools(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "a.safetensors"
    save_file({"w": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "h": torch.ones(2, 2).half()}, file)
    found = read_state(file)
    assert found["w"].dtype == np.float32
    assert found["w"].tolist() == [1.5, -2.0]
    assert found["h"].dtype == np.float16
    assert read_card(file) is None


def test_card_is_read_without_torch(tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "a.safetensors"
    write_safetensors(file, STATE, CARD)
    code = (
        "import sys; from motes.checkpoints import read_card, read_state;"
        f"print(read_card({str(file)!r}).name, len(read_state({str(file)!r})), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["repisdnet", "3", "False"]


def torch_bytes(content: object, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def a_zip(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


WRONG = {
    "empty": (b"", "is empty"),
    "text": (b"hello, these are no weights\n", "not a weight file (it starts with 'hello"),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML or XML page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "git lfs pull"),
    "tar": (b"weights.pth".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0", "gzip-compressed"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image, not a weight file"),
    "binary": (bytes(range(255, 0, -1)), "not a weight file (it starts with"),
    "letters that are opcodes": (b"PNG is a format", "not a weight file (it starts with 'PNG is"),
    "other zip": (a_zip(readme=b"hello"), "a zip archive that torch did not write"),
    "torchscript": (a_zip(**{"m/data.pkl": b"\x80\x02N.", "m/constants.pkl": b"\x80\x02)."}), "TorchScript"),
    "truncated zip": (torch_bytes(tensors())[:-400], "cut short or damaged"),
    "truncated legacy": (torch_bytes(tensors(), zipped=False)[:-5], "cut short or damaged"),
    "truncated pickle": (pickle.dumps(STATE)[:-20], "cut short or damaged"),
    "a list": (pickle.dumps([1, 2, 3]), "holds a list, expected a dict"),
    "no tensors": (torch_bytes({"epoch": 3, "lr": 0.1}), "found no dict of tensors"),
    "no weights": (pickle.dumps({}), "found no dict of tensors"),
    "text arrays": (pickle.dumps({"a": np.array(["x", "y"])}), "found no dict of tensors"),
    "objects": (pickle.dumps({"a": np.array([{}, None], object)}), "found no dict of tensors"),
    "header beyond the end": ((10**6).to_bytes(8, "little") + b'{"a":1}', "not a weight file"),
    "header not JSON": ((7).to_bytes(8, "little") + b"{nonsen", "not a safetensors file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_are_no_weights(tmp_path: Path, kind: str) -> None:
    content, expected = WRONG[kind]
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_state(file)
    assert expected in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no such file \(did you mean 'best.pth'"):
        read_state(tmp_path / "bst.pth")
    with pytest.raises(CheckpointError, match=r"is a folder, expected a weight file$"):
        read_state(tmp_path)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"is a folder.*its weights are .*best\.safetensors"):
        read_state(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state(tmp_path / "nowhere" / "a.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_no_damage_escapes_as_another_exception(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.bin"
    if kind == "safetensors":
        write_safetensors(file, STATE, CARD)
        good = file.read_bytes()
    elif kind == "pickle":
        good = pickle.dumps(STATE, protocol=2)
    else:
        good = torch_bytes({"state_dict": tensors(), "iou": np.float64(1)}, zipped=kind == "zip")
    rng = np.random.default_rng(0)
    refused = 0
    damages = [good[:n] for n in rng.integers(0, len(good), 40)]
    for position in rng.integers(0, len(good), 120):
        damaged = bytearray(good)
        damaged[position] ^= int(rng.integers(1, 256))
        damages.append(bytes(damaged))
    for damage in damages:
        file.write_bytes(damage)
        try:
            read_state(file)
        except CheckpointError:
            refused += 1
    assert refused >= 40


def test_reference_samples_of_torch(reference_root: Path) -> None:
    folder = reference_root / "checkpoint_formats"
    expected = fill_state(json.loads((folder / "keys.json").read_text()))
    files = [p for p in (folder / "torch").iterdir() if p.name != "whole-module.pth"]
    assert len(files) == 5
    for file in files:
        found = read_state(file)
        assert list(found) == list(expected)
        assert all(np.array_equal(found[k], expected[k]) for k in expected)
    with pytest.raises(CheckpointError, match=r"asks for '__main__.M'.*nothing was executed"):
        read_state(folder / "torch" / "whole-module.pth")
