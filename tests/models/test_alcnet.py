"""ALCNet: the local contrast, its size limit, published costs, names of both code bases, training, export."""

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
from motes.checkpoints.loading import variant_of
from motes.errors import MotesError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size
from motes.models.alcnet import LEVEL_FUSIONS, SCALES, local_contrast

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "alcnet"


def published(variant: str | None) -> dict[str, np.ndarray]:
    return fill_state(json.loads((REFERENCE / f"keys{'-' + variant if variant else ''}.json").read_text()))


def filled(variant: str | None) -> torch.nn.Module:
    return load_published(motes.create_model("alcnet", variant), published(variant)).eval()


def test_local_contrast_of_every_pixel() -> None:
    x, d = np.random.default_rng(0).normal(size=(1, 2, 9, 11)), 3
    expected = np.empty_like(x)
    height, width = x.shape[2:]
    for c in range(2):
        for i in range(height):
            for j in range(width):

                def step(dy: int, dx: int, c: int = c, i: int = i, j: int = j) -> float:
                    return x[0, c, (i + dy) % height, (j + dx) % width] - x[0, c, i, j]

                pairs = [(d, d), (d, 0), (d, -d), (0, -d)]
                expected[0, c, i, j] = min(step(a, b) * step(-a, -b) for a, b in pairs)
    assert np.allclose(local_contrast(torch.from_numpy(x), d).numpy(), expected, atol=1e-12)


def test_a_point_stands_out_and_an_edge_does_not() -> None:
    point, edge = torch.zeros(1, 1, 40, 40), torch.zeros(1, 1, 40, 40)
    point[..., 20, 20] = 3
    edge[..., 20:] = 3
    assert float(local_contrast(point, 13)[..., 20, 20]) == 9
    assert float(local_contrast(point, 13).sum()) == 9
    assert not local_contrast(edge, 13).any()


@pytest.mark.parametrize(
    ("variant", "params", "at_256", "at_512"),
    [(None, 372_573, 3_610_509_312, 14_442_037_248), ("basicirstd", 426_961, 295_076_480, 1_180_304_000)],
)
def test_published_costs(variant: str | None, params: int, at_256: int, at_512: int) -> None:
    with torch.device("meta"):
        net = motes.create_model("alcnet", variant)
    small, large = complexity(net), complexity(net, 512, 512)
    assert (small.params, small.macs, large.macs) == (params, at_256, at_512)


def test_basicirstd_stores_two_stages_it_never_uses() -> None:
    keys = json.loads((REFERENCE / "keys-basicirstd.json").read_text())
    trained = {n: s for n, (s, _) in keys.items() if not n.endswith(("running_mean", "running_var", "tracked"))}
    assert sum(int(np.prod(s)) for s in trained.values()) == 519_889
    assert sum(int(np.prod(s)) for n, s in trained.items() if n.startswith("uplayer")) == 92_928
    assert not [n for n in filled("basicirstd").state_dict() if n.startswith("uplayer")]


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("keys*.json")), ids=lambda p: p.stem)
def test_names_tell_the_variant(path: Path) -> None:
    variant = path.stem.partition("-")[2] or None
    assert variant_of("alcnet", published(variant)) == variant


def test_gluon_leaf_names() -> None:
    state = published(None)
    norms = {n.rpartition(".")[0] for n in state if n.endswith("running_mean")}
    gluon = {"stem.0.gamma": np.ones(3, np.float32), "stem.0.beta": np.zeros(3, np.float32)}  # stored, never trained
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf != "num_batches_tracked":
            new = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf) if module in norms else leaf
            gluon[f"{module}.{new}"] = value
    net = load_published(motes.create_model("alcnet"), gluon).eval()
    x = torch.from_numpy(fill_input((1, 3, 70, 72)))
    assert torch.equal(net(x), filled(None)(x))


def test_basicirstd_file(tmp_path: Path) -> None:
    state = {f"module.model.{n}": torch.from_numpy(np.asarray(v)) for n, v in published("basicirstd").items()}
    torch.save({"state_dict": state, "epoch": 400}, tmp_path / "ALCNet_400.pth.tar")
    net, card = load_network(tmp_path / "ALCNet_400.pth.tar", "alcnet")
    assert (card.variant, card.input.channels, card.input.stride) == ("basicirstd", 1, 16)
    x = torch.from_numpy(fill_input((1, 1, 32, 32)))
    assert torch.equal(net(x), filled("basicirstd")(x))


@pytest.mark.parametrize(
    ("variant", "options", "stride", "smallest"),
    [
        (None, {}, 1, 69),
        ("single-add", {}, 1, 53),
        ("single-add", {"shift": 17}, 1, 69),
        ("single-add", {"shift": 5}, 1, 21),
        ("basicirstd", {}, 16, 16),
    ],
)
def test_any_size_pads_to_the_limit(variant: str | None, options: dict, stride: int, smallest: int) -> None:
    net = motes.create_model("alcnet", variant, **options).eval()
    spec = net.card.input
    assert (spec.stride, spec.min_size) == (stride, smallest)
    if variant != "basicirstd":  # the deepest level is longer than the largest distance, and one px less would not be
        deepest = [(side + 3) // 4 for side in (smallest, smallest - 1)]
        assert deepest[0] > options.get("shift", 13 if variant == "single-add" else 17) >= deepest[1]
    with torch.inference_mode():
        for size in ((smallest, smallest + 16), (1, 1), (37, 90)):
            assert any_size(net)(torch.zeros(1, spec.channels, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("variant", [None, "globalsk-globalsk", "basicirstd"])
def test_a_frame_does_not_depend_on_its_batch(variant: str | None) -> None:
    net = filled(variant)
    x = torch.from_numpy(fill_input((2, net.card.input.channels, 80, 96)))
    with torch.inference_mode():
        both, alone = net(x), torch.cat([net(x[:1]), net(x[1:])])
    assert torch.allclose(both, alone, atol=2e-5 * float(alone.abs().max()))


PAIRS = [("multiple", fusion) for fusion in LEVEL_FUSIONS] + [(scale, "bottomuplocal") for scale in SCALES]


@pytest.mark.parametrize(("scale", "fusion"), PAIRS)
def test_trains(scale: str, fusion: str) -> None:
    trains(motes.create_model("alcnet", scale=scale, fusion=fusion, blocks=1), (72, 80))


def test_basicirstd_trains() -> None:
    trains(motes.create_model("alcnet", "basicirstd"), (32, 48))


def trains(net: torch.nn.Module, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    target = torch.zeros(2, 1, *size)  # the second frame has none
    target[0, 0, 10:13, 20:23] = 1
    out = net.train()(torch.randn(2, net.card.input.channels, *size))
    assert [o.shape for o in out] == [target.shape]
    create_loss("acm.soft_iou")(out, target).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


@pytest.mark.parametrize("variant", [None, "add-bottomuplocal", "basicirstd"])
def test_exports(variant: str | None, tmp_path: Path) -> None:
    net = filled(variant)
    tiles = synthetic_tiles(net.card, ((70, 81), (96, 72), (96, 72)))
    report = export_onnx(net, net.card, tmp_path / "alcnet.onnx", tiles)
    assert [row.shape[0] for row in report.rows] == [1, 2]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"scale": "multple"}, "multiple"),
        ({"fusion": "bottomup"}, "bottomuplocal"),
        ({"blocks": 0}, "blocks must be at least 1, found 0"),
        ({"scale": "single", "shift": 0}, "shift must be at least 1"),
        ({"contrast": False, "fusion": "add"}, "fusion"),
        ({"variant": "multiple"}, "variant of alcnet"),
    ],
)
def test_bad_options(options: dict, hint: str) -> None:
    with pytest.raises(MotesError, match=hint):
        motes.create_model("alcnet", **options)
