"""Strict loading: names of both spellings, forms told apart, and what is said about the wrong file."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.checkpoints import load_network, load_published, read_state, write_safetensors
from motes.checkpoints.matching import best_fit, fitted, published_to_own
from motes.errors import CardError, CheckpointError

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"
AUTHORS = {
    None: "mIoU__RepISD_NUAA-SIRST_best.pth.tar",
    "converted": "converted.pth.tar",
    "deploy": "deploy.pth.tar",
}


def keys(variant: str | None = None) -> dict[str, list]:
    name = "keys-deploy.json" if variant == "deploy" else "keys.json"
    return json.loads((REFERENCE / name).read_text())


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    return fill_state(keys())


def test_both_spellings(state: dict[str, np.ndarray]) -> None:
    old = {name.replace("rbr_cdc.conv_cdc", "rbr_pdc.conv_pdc"): value for name, value in state.items()}
    assert old.keys() != state.keys()
    for spelling in (state, old):
        net = load_published(motes.create_model("repisdnet"), spelling)
        own = net.state_dict()
        assert all(np.array_equal(own[name].numpy(), value) for name, value in state.items())


def test_prefix_shared_by_all_names_is_stripped(state: dict[str, np.ndarray]) -> None:
    wrapped = {f"decode_head.net.{name}": value for name, value in state.items()}
    load_published(motes.create_model("repisdnet"), wrapped)
    wrapped["epoch_weights"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="have no place"):
        load_published(motes.create_model("repisdnet"), wrapped)


def test_counters_may_be_missing(state: dict[str, np.ndarray]) -> None:
    net = motes.create_model("repisdnet")
    net.cls[1].num_batches_tracked += 5
    load_published(net, {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    assert net.cls[1].num_batches_tracked == 0
    assert torch.equal(net.cls[1].weight, torch.from_numpy(state["cls.1.weight"]))


def test_float64_and_tensors_are_taken(state: dict[str, np.ndarray]) -> None:
    doubles = {k: v.astype(np.float64) if v.dtype == np.float32 else torch.from_numpy(v) for k, v in state.items()}
    net = load_published(motes.create_model("repisdnet"), doubles)
    assert net.cls[1].weight.dtype == torch.float32


def drop(state: dict, name: str) -> dict:
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: drop(s, "cls.0.weight"), "1 of the network's 216 are missing (cls.0.weight)"),
        (lambda s: {**s, "cls.9.weight": np.zeros(2)}, "1 of its 217 tensors have no place (cls.9.weight)"),
        (lambda s: {**s, "cls.4.bias": np.zeros(3)}, "1 differ in shape (cls.4.bias [3] instead of [2])"),
        (lambda s: {f"x.{i}": np.zeros(1) for i in range(9)}, "9 of its 9 tensors have no place (x.0, x.1, x.2, ...)"),
        (lambda s: {"a.rbr_pdc.conv_pdc": s["cls.4.bias"], "a.rbr_cdc.conv_cdc": s["cls.4.bias"]}, "are both called"),
        (lambda s: fill_state(keys("deploy")), "(it looks like repisdnet, variant 'deploy')"),
    ],
    ids=["missing", "extra", "shape", "nothing fits", "two spellings", "other form"],
)
def test_what_does_not_fit_is_named(state: dict[str, np.ndarray], change, expected: str) -> None:
    net = motes.create_model("repisdnet")
    before = net.cls[0].weight.clone()
    with pytest.raises(CheckpointError) as error:
        load_published(net, change(state), "best.pth")
    assert expected in str(error.value)
    assert str(error.value).startswith("best.pth: ")
    assert torch.equal(net.cls[0].weight, before)


def test_rules_of_a_network_file() -> None:
    rules = types.SimpleNamespace(
        PUBLISHED_NAMES=[(r"^head\.", "cls."), (r"gamma$", "weight")],
        UNUSED_NAMES=[r"^aux_head\."],
        from_published=lambda s: {k: v.T if k == "cls.weight" else v for k, v in s.items()},
    )
    found = published_to_own(rules, {"head.gamma": np.ones((2, 3)), "aux_head.gamma": np.ones(1)})
    assert {k: v.shape for k, v in found.items()} == {"cls.weight": (3, 2)}
    assert published_to_own(types.SimpleNamespace(), {"a": 1}) == {"a": 1}


def test_fitted_strips_only_what_all_share() -> None:
    assert fitted({"a.b.x": 1, "a.b.y": 2}, ["x", "y"]) == {"x": 1, "y": 2}
    assert fitted({"a.x": 1, "b.y": 2}, ["x", "y"]) == {"a.x": 1, "b.y": 2}
    assert fitted({"x": 1, "y.x": 2}, ["x"]) == {"x": 1, "y.x": 2}


def test_network_and_form_are_told_by_names_and_numbers(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    import pickle

    converted = dict(state)
    for name in [n for n in state if n.endswith("conv_cdc.conv1.weight")]:
        centre = converted[name].copy()
        centre[:, :, 1, 1] -= centre.sum((2, 3))
        converted[name] = centre
    for content, variant in ((state, None), (converted, "converted"), (fill_state(keys("deploy")), "deploy")):
        file = tmp_path / "weights.pkl"
        file.write_bytes(pickle.dumps(content))
        net, card = load_network(file)
        assert (card.name, card.variant, card.form) == ("repisdnet", variant, variant or "train")
        assert (net.form, net.training, len(card.source_sha256)) == (card.form, False, 64)
        assert net.card == card
    assert best_fit({"a.weight": np.zeros(3)}) is None


def test_variant_that_the_file_is_not(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    import pickle

    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match="holds repisdnet, not variant 'converted'"):
        load_network(file, "repisdnet", "converted")
    with pytest.raises(CardError, match="did you mean 'converted'"):
        load_network(file, "repisdnet", "convertd")
    with pytest.raises(CardError, match="did you mean 'repisdnet'"):
        load_network(file, "repisdet")


@pytest.mark.parametrize("name", ["factseg", "farseg"])
def test_published_weights_keep_their_authors_ids(name: str, tmp_path: Path) -> None:
    from motes.data.classes import class_table
    from motes.inference.class_run import id_order

    official = class_table("isaid")
    options = {"backbone": "resnet10t"}
    net = motes.create_model(name, **options)
    torch.save(net.state_dict(), tmp_path / "published.pth")
    write_safetensors(tmp_path / "ours.safetensors", net.state_dict(), net.card)
    loaded, card = load_network(tmp_path / "published.pth", name, options=options)
    assert loaded.card == card
    order = id_order(card.classes, official)  # what evaluation and --classes make of its ids
    assert order is not None
    assert order[:16].tolist() == [0, 1, 12, *range(3, 12), 2, 13, 14, 15]
    assert load_network(tmp_path / "ours.safetensors")[1].classes == official.names
    six = motes.create_model(name, num_classes=6, **options)
    torch.save(six.state_dict(), tmp_path / "six.pth")
    other = load_network(tmp_path / "six.pth", name, options={**options, "num_classes": 6})[1]
    assert other.classes == six.card.classes


def test_card_decides_bands_and_form(tmp_path: Path) -> None:
    net = motes.create_model("repisdnet", variant="deploy", in_channels=1)
    card = net.card.replace(threshold=0.7, training={"data": "SIRST"})
    file = tmp_path / "a.safetensors"
    write_safetensors(file, net.state_dict(), card)
    loaded, found = load_network(file)
    assert (found.threshold, found.training, found.input.channels) == (0.7, {"data": "SIRST"}, 1)
    x = torch.from_numpy(fill_input((1, 1, 32, 40)))
    with torch.inference_mode():
        assert torch.equal(loaded(x), net.eval()(x))
    write_safetensors(file, net.state_dict(), card.replace(name="other"))
    with pytest.raises(CheckpointError, match="its card says it is other, not repisdnet"):
        load_network(file, "repisdnet")


def test_unknown_network_and_onnx(tmp_path: Path) -> None:
    import pickle

    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps({"conv0.weight": np.zeros((3, 3))}))
    with pytest.raises(CheckpointError, match="of no known network"):
        load_network(file)
    with pytest.raises(CheckpointError, match="an ONNX file"):
        load_network(tmp_path / "a.onnx")


@pytest.mark.parametrize("variant", AUTHORS)
def test_authors_files(reference_root: Path, variant: str | None) -> None:
    net, card = load_network(reference_root / "repisdnet" / "weights" / AUTHORS[variant])
    assert (card.name, card.variant, net.form) == ("repisdnet", variant, variant or "train")
    sums = (reference_root / "repisdnet" / "weights" / "SHA256SUMS").read_text()
    assert f"{card.source_sha256}  {AUTHORS[variant]}" in sums.replace("*", "").replace("./", "")


def test_authors_forms_agree(reference_root: Path) -> None:
    folder = reference_root / "repisdnet" / "weights"
    x = torch.from_numpy(fill_input((1, 3, 50, 70)))
    with torch.inference_mode():
        train, converted, deploy = (load_network(folder / name)[0](x) for name in AUTHORS.values())
    assert torch.allclose(train, converted, atol=1e-4)
    assert torch.allclose(train, deploy, atol=1e-3)  # their merging drops the bias of the 1x1
    state = read_state(folder / AUTHORS["converted"])
    sums = [np.abs(v.sum((2, 3))).max() for k, v in state.items() if k.endswith("conv_pdc.conv1.weight")]
    assert len(sums) == 8
    assert max(sums) < 1e-4


def test_checkpoint_of_another_network(reference_root: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not weights of repisdnet: 134 of its 134 tensors .*looks like rdian"):
        load_network(reference_root / "rdian" / "best.pth", "repisdnet")
    torch.save({"stem.weight": torch.zeros(3, 3), "stem.bias": torch.zeros(3)}, tmp_path / "unknown.pth")
    with pytest.raises(CheckpointError, match="of no known network"):
        load_network(tmp_path / "unknown.pth")
