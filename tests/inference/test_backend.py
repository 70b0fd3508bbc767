"""Names and files that mean a network, and what is said of those that do not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from spot_network import CARD, make_onnx

from motes.cards import InputSpec
from motes.errors import CardError, CheckpointError, MissingExtraError, MotesError
from motes.inference import Backend, OnnxBackend, OpenVinoBackend, load_backend, read_onnx_card
from motes.inference import backend as backends
from motes.inference.onnx_card import onnx_metadata


def test_card_travels_in_the_file(spot_onnx: Path) -> None:
    assert read_onnx_card(spot_onnx) == CARD
    backend = load_backend(spot_onnx, threads=1)
    assert isinstance(backend, Backend)
    assert backend.card == CARD
    assert backend.run(np.zeros((2, 3, 9, 11), np.float32)).shape == (2, 1, 9, 11)


def test_both_readers_of_the_card_agree(spot_onnx: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(spot_onnx), providers=["CPUExecutionProvider"])
    assert onnx_metadata(spot_onnx.read_bytes(), "x") == session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tophta", "unknown model 'tophta' (did you mean 'tophat'?)"),
        ("maxmedian", "did you mean 'max-median'?"),
        ("repisdent", "did you mean 'repisdnet-sirst'?"),
        ("zzzzzz", "known: "),
        ("nowhere/spot.onnx", "nowhere/spot.onnx: no such file"),
    ],
)
def test_unknown_names_suggest_the_nearest(
    model: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "list_weights", lambda: {"repisdnet-sirst": tmp_path / "x.onnx"})
    with pytest.raises(CheckpointError) as caught:
        load_backend(model)
    assert message in str(caught.value)


def test_a_mistyped_file_suggests_its_neighbour(spot_onnx: Path) -> None:
    with pytest.raises(CheckpointError, match=r"did you mean '.*spot.onnx'"):
        load_backend(spot_onnx.with_name("spit.onnx"))


def test_the_network_name_means_its_shipped_weights(spot_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "list_weights", lambda: {"repisdnet-sirst": spot_onnx})
    assert backends.find_weights("repisdnet") == backends.find_weights("repisdnet-sirst") == spot_onnx
    monkeypatch.setattr(backends, "list_weights", lambda: {backends.DEFAULT_MODEL: spot_onnx})
    assert load_backend(None).card == CARD


def test_an_installation_without_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "list_weights", dict)
    with pytest.raises(CheckpointError, match="holds no shipped network"):
        load_backend(None)
    with pytest.raises(CheckpointError, match="no weights of 'repisdnet' are shipped"):
        load_backend("repisdnet")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an ONNX file"), (b"hello, this is text", "not an ONNX file"), (b"\x80" * 40, "not an ONNX file")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_backend(tmp_path / "x.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_network_is_refused(spot_onnx: Path, tmp_path: Path, share: float) -> None:
    data = spot_onnx.read_bytes()
    (tmp_path / "x.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MotesError, match=r"not an ONNX file|without a card"):
        load_backend(tmp_path / "x.onnx")


def test_a_damaged_graph_is_one_sentence(spot_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(spot_onnx.read_bytes().replace(b"Conv", b"Covn"))
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot load it") as caught:
        load_backend(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_a_network_without_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="without a card"):
        load_backend(make_onnx(tmp_path / "x.onnx", card=None))


def test_a_card_of_other_channels_is_refused(tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "x.onnx", CARD.replace(input=InputSpec(channels=1)), channels=3)
    with pytest.raises(CardError, match="card says 1 input channels, the network takes 3"):
        OnnxBackend(path)


def test_weights_of_the_lab_name_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="--backend torch"):
        load_backend(tmp_path / "best.safetensors")


def test_unknown_backend(spot_onnx: Path) -> None:
    with pytest.raises(MotesError, match="did you mean 'openvino'"):
        load_backend(spot_onnx, "openvin")


def test_missing_openvino_names_the_extra(spot_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"motes\[openvino\]"):
        OpenVinoBackend(spot_onnx)
