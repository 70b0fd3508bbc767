"""UperNet, the baseline in PFNet's repository: its authors' numbers, costs, training, files, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_network, load_published
from motes.errors import CardError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "pfnet"
KEYS = json.loads((REFERENCE / "keys-upernet-r50.json").read_text())
SMALL = {"backbone": "resnet18", "num_classes": 5}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_equals_the_authors_code() -> None:
    nets = [motes.create_model("upernet"), motes.create_model("pfnet", "upernet-r50")]
    for net in nets:
        load_published(net, fill_state(KEYS)).eval()
    for case in ("64x64", "logits-128x160"):
        stored = np.load(REFERENCE / f"case-upernet-{case}.npz")
        x = torch.from_numpy(fill_input(tuple(stored["shape"].tolist())))
        with torch.inference_mode():
            outputs, other = (net.published_outputs(x) for net in nets)
        assert list(outputs) == list(other) == ["out0", "logits0"]
        for key in (k for k in stored.files if k != "shape"):
            assert torch.equal(outputs[key], other[key])
            assert np.abs(outputs[key].numpy() - stored[key]).max() <= 2e-5 * np.abs(stored[key]).max()


def test_stores_and_costs_what_is_published() -> None:
    with torch.device("meta"):
        net = motes.create_model("upernet")
    assert len(net.state_dict()) == len(KEYS) == 407
    costs = [complexity(net, n, n) for n in (256, 512, 896)]
    assert costs[0].params == 31_113_936
    assert [f"{c.macs / 1e9:.3f}" for c in costs] == ["20.506", "81.945", "250.903"]


def test_a_file_is_known_by_its_names(tmp_path: Path) -> None:
    file = tmp_path / "upernet.pth"
    state = {f"module.{k}": torch.from_numpy(np.asarray(v)) for k, v in fill_state(KEYS).items()}
    torch.save({"state_dict": state}, file)
    net, card = load_network(file)
    assert (card.name, card.variant, len(card.classes)) == ("upernet", None, 16)
    assert torch.equal(net.head.conv_last[1].bias, state["module.head.conv_last.1.bias"])


def test_trains_takes_any_size_and_exports(tmp_path: Path) -> None:
    net = motes.create_model("upernet", **SMALL).train()
    (logits,) = net(torch.from_numpy(fill_input((2, 3, 64, 32))))
    assert logits.shape == (2, 5, 64, 32)
    create_loss("pfnet.joint")((logits,), torch.zeros(2, 64, 32, dtype=torch.long)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    net.eval()
    with torch.inference_mode():
        assert any_size(net)(torch.zeros(1, 3, 20, 70)).shape == (1, 5, 20, 70)
    tiles = synthetic_tiles(net.card, ((32, 32), (64, 96), (64, 96)))
    assert export_onnx(net, net.card, tmp_path / "upernet.onnx", tiles).passed


def test_wrong_backbone() -> None:
    with pytest.raises(CardError, match="resnet50s"):
        motes.create_model("upernet", backbone="resnet50_s")
