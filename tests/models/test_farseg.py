"""FarSeg and Semantic FPN: sensitive cases, relations, costs, Paddle's names, training, their export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state
from motes.benchmark import complexity
from motes.checkpoints import load_published
from motes.data.classes import class_table
from motes.errors import CheckpointError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size
from motes.models.class_order import reorder_classes
from motes.models.farseg import PUBLISHED_CLASSES

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "farseg"


def published_weights() -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / "keys.json").read_text()))


def small(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(3)
    return motes.create_model(name, num_classes=4, backbone="resnet18", **options).eval()


@pytest.mark.parametrize(
    ("case", "logits", "probabilities"),
    # With the plain filling a relation of the first two lies near its threshold, where float32 itself is off by 1.2e-3.
    [("case-64x64", 5e-3, 1e-3), ("case-logits-b2-96x64", 5e-3, 1e-3), ("case-scaled-64x64", 3e-4, 1e-4)],
)
def test_equals_the_authors_code(case: str, logits: float, probabilities: float) -> None:
    stored = np.load(REFERENCE / f"{case}.npz")
    state = published_weights()
    if "scaled" in stored:
        for name in stored["scaled"]:
            state[str(name)] = state[str(name)] * np.float32(stored["factor"])
    net = load_published(motes.create_model("farseg"), state).eval()
    with torch.inference_mode():
        outputs = net.published_outputs(torch.from_numpy(fill_input(tuple(int(n) for n in stored["shape"]))))
    for key in set(stored.files) - {"shape", "scaled", "factor"}:
        found, expected = outputs[key].numpy(), stored[key]
        assert found.shape == expected.shape
        atol = {"l": logits, "o": probabilities, "r": 1e-2}[key[0]]
        assert np.allclose(found, expected, rtol=1e-4 if key[0] == "r" else 0, atol=atol), key


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("farseg", {}, 31_370_064),
        # One scene encoder instead of four, each of 2048 x 256 + 256 + 256 x 256 + 256 numbers.
        ("farseg", {"scale_aware": False}, 31_370_064 - 3 * 590_336),
        # No relation: 4 scene encoders and 8 encoders of 256 x 256 + 256 + 512 fewer.
        ("farseg", {"relation": False}, 31_370_064 - 4 * 590_336 - 8 * 66_304),
        ("semantic_fpn", {}, 31_370_064 - 4 * 590_336 - 8 * 66_304),
    ],
)
def test_parameters(name: str, options: dict[str, bool], params: int) -> None:
    with torch.device("meta"):
        net = motes.create_model(name, **options)
    assert sum(p.numel() for p in net.parameters()) == params


def test_costs_what_is_published() -> None:
    with torch.device("meta"):
        net = motes.create_model("farseg")
    assert [round(complexity(net, n, n).macs / 1e9, 2) for n in (256, 512, 896)] == [11.72, 46.87, 143.52]


def test_without_relation_it_is_semantic_fpn() -> None:
    plain, baseline = small("farseg", relation=False), small("semantic_fpn")
    baseline.load_state_dict(plain.state_dict())
    x = torch.from_numpy(fill_input((1, 3, 32, 64)))
    with torch.inference_mode():
        assert torch.equal(plain(x), baseline(x))
    assert set(plain.published_outputs(x)) == {"out0", "logits0"}


def test_relations_scale_the_reencoded_levels() -> None:
    torch.manual_seed(0)
    sr = small("farseg", scale_aware=False).sr
    assert "scene_encoder.0.weight" in sr.state_dict()  # the published names of the shared one
    coarsest, pyramid = torch.randn(2, 512, 1, 2), [torch.randn(2, 256, 8 // 2**i, 16 // 2**i) for i in range(4)]
    with torch.inference_mode():
        refined, relations = sr(coarsest, pyramid)
        scene = sr.scene_encoder(coarsest.mean((2, 3), keepdim=True))
        for i, (r, relation) in enumerate(zip(refined, relations, strict=True)):
            expected = torch.einsum("bc,bchw->bhw", scene[..., 0, 0], sr.content_encoders[i](pyramid[i]))
            assert torch.allclose(relation[:, 0], expected, rtol=1e-3, atol=1e-4)
            reencoded = sr.feature_reencoders[i](pyramid[i])
            assert torch.allclose(r, reencoded * torch.sigmoid(relation), atol=1e-5)


def test_a_batch_of_two_and_odd_sizes() -> None:
    net = small("farseg")
    x = torch.from_numpy(fill_input((2, 3, 64, 64)))
    with torch.inference_mode():
        assert (net(x)[:1] - net(x[:1])).abs().max() < 1e-4
        assert any_size(net)(x[..., :33, :45]).shape == (2, 4, 33, 45)


@pytest.mark.parametrize(("name", "loss"), [("farseg", "farseg.focal"), ("semantic_fpn", "cross_entropy")])
def test_it_learns_from_a_batch_with_an_image_without_target(name: str, loss: str) -> None:
    net = small(name).train()
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[0, 10:20, 10:20] = 3
    labels[1, :, 40:] = 255
    outputs = net(torch.randn(2, 3, 64, 64))
    assert isinstance(outputs, tuple) and len(outputs) == 1
    create_loss(loss)(outputs, labels).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("form", ["module.", "paddle"])
def test_the_forms_of_its_published_files_load(form: str) -> None:
    state = published_weights()
    expected = load_published(motes.create_model("farseg"), state).state_dict()
    if form == "paddle":  # no counters, other names, and an unused classifier
        names = json.loads((REFERENCE / "paddlers_names.json").read_text())
        given = {names[k]: v for k, v in state.items() if k in names}
        given["encoder.resnet.fc.bias"] = np.zeros(1000, "float32")
    else:
        given = {form + k: v for k, v in state.items()}
    found = load_published(motes.create_model("farseg"), given).state_dict()
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_weights_of_farseg_are_not_those_of_semantic_fpn() -> None:
    with pytest.raises(CheckpointError, match=r"not weights of semantic_fpn: .*it looks like farseg"):
        load_published(motes.create_model("semantic_fpn"), published_weights())


def test_published_weights_can_be_put_in_the_order_of_the_data_sets_ids() -> None:
    net = motes.create_model("farseg", backbone="resnet18").eval()
    net.card = net.card.replace(classes=PUBLISHED_CLASSES)
    x = torch.from_numpy(fill_input((1, 3, 32, 32)))
    with torch.inference_mode():
        before = net(x)
        after = reorder_classes(net, class_table("isaid").names)(x)
    order = list(range(16))
    order[2], order[12] = 12, 2
    assert torch.allclose(after, before[:, order], atol=1e-5)


@pytest.mark.parametrize("name", ["farseg", "semantic_fpn"])
def test_it_exports(name: str, tmp_path: Path) -> None:
    net = small(name)
    tiles = synthetic_tiles(net.card, ((32, 32), (50, 90), (50, 90)))
    report = export_onnx(net, net.card, tmp_path / f"{name}.onnx", tiles)
    assert report.passed
    assert [r.shape for r in report.rows] == [(1, 3, 32, 32), (2, 3, 64, 96)]
