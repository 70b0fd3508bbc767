"""DeepLabV3 and U-Net: torchvision's numbers, decoder sizes by hand, other backbones, training, sizes, export."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.segmentation import deeplabv3_resnet50

import motes
from fill import fill, fill_input
from motes.checkpoints import load_network
from motes.errors import CardError
from motes.export import export_onnx, synthetic_tiles
from motes.losses import create_loss
from motes.models import any_size

NAMES = ["deeplabv3", "unet"]
SMALL = {"backbone": "resnet18", "num_classes": 5}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {name: motes.create_model(name, **SMALL).eval() for name in NAMES}


def test_deeplabv3_is_torchvisions(tmp_path: Path) -> None:
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
    state = {n: fill(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in theirs.state_dict().items()}
    theirs.load_state_dict({n: torch.from_numpy(np.asarray(v)) for n, v in state.items()})
    file = tmp_path / "deeplabv3_resnet50_coco.pth"
    torch.save(theirs.state_dict(), file)
    ours, card = load_network(file)
    assert (card.name, card.variant, len(card.classes)) == ("deeplabv3", "torchvision", 21)
    for shape in ((1, 3, 64, 96), (1, 3, 65, 50)):
        x = torch.from_numpy(fill_input(shape))
        with torch.inference_mode():
            expected, found = theirs(x)["out"], ours.published_outputs(x)["out0"]
        assert torch.allclose(found, expected, atol=2e-5 * float(expected.abs().max()))
    head = sum(p.numel() for p in theirs.aux_classifier.parameters())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) - head


def test_unet_decoder_by_hand() -> None:
    """Two 3x3 convolutions with norms at every level, fed with what is above and the backbone's map."""
    with torch.device("meta"):
        net = motes.create_model("unet", **SMALL)
    levels = [(512 + 256, 256), (256 + 128, 128), (128 + 64, 64), (64 + 64, 32), (32, 16)]
    expected = sum(9 * into * width + 9 * width * width + 4 * width for into, width in levels)
    assert sum(p.numel() for p in net.decoder.parameters()) == expected
    assert sum(p.numel() for p in net.head.parameters()) == 9 * 16 * 5 + 5


def test_every_map_of_the_backbone_reaches_the_unet(small: dict[str, torch.nn.Module]) -> None:
    net, x = small["unet"], torch.from_numpy(fill_input((1, 3, 64, 64)))
    maps: list[torch.Tensor] = []
    hook = net.backbone.register_forward_hook(lambda module, given, made: maps.extend(made))
    logits = net(x)
    hook.remove()
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    grads = torch.autograd.grad(logits.square().sum(), maps, allow_unused=True)
    assert all(g is not None and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize(("stride", "side"), [(8, 8), (16, 4), (32, 2)])
def test_output_stride_of_deeplabv3(stride: int, side: int) -> None:
    net = motes.create_model("deeplabv3", backbone="resnet18", num_classes=2, output_stride=stride).eval()
    with torch.inference_mode():
        assert net.backbone(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 512, side, side)
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv3", {"backbone": "convnext_atto", "output_stride": 32}),
        ("unet", {"backbone": "convnext_atto"}),
        ("unet", {"backbone": "mobilenetv3_small_050", "in_channels": 1}),
    ],
)
def test_other_backbones(name: str, options: dict) -> None:
    net = motes.create_model(name, num_classes=3, **options).eval()
    with torch.inference_mode():
        logits = net(torch.zeros(1, options.get("in_channels", 3), 64, 96))
    assert logits.shape == (1, 3, 64, 96) and torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_a_frame_stands_alone(name: str) -> None:
    torch.manual_seed(0)
    net = motes.create_model(name, **SMALL).train()
    labels = torch.zeros(2, 64, 32, dtype=torch.long)
    labels[0, 5:9, 8:20] = 4
    x = torch.from_numpy(fill_input((2, 3, 64, 32)))
    (logits,) = net(x)
    assert logits.shape == (2, 5, 64, 32)
    create_loss("cross_entropy")((logits,), labels).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    net.eval()
    with torch.inference_mode():
        together, alone = net(x), net(x[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5 * float(alone.abs().max()))
    assert torch.equal(net.published_outputs(x[:1])["out0"], alone)


@pytest.mark.parametrize("name", NAMES)
def test_takes_any_size_and_exports(name: str, small: dict[str, torch.nn.Module], tmp_path: Path) -> None:
    net = small[name]
    with torch.inference_mode():
        assert any_size(net)(torch.zeros(1, 3, 20, 70)).shape == (1, 5, 20, 70)
    tiles = synthetic_tiles(net.card, ((32, 32), (64, 96), (64, 96)))
    report = export_onnx(net, net.card, tmp_path / f"{name}.onnx", tiles)
    assert report.passed and [row.shape[0] for row in report.rows] == [1, 2]


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("deeplabv3", {"output_stride": 4}, "8, 16 or 32"),
        ("deeplabv3", {"backbone": "resnet_18"}, "resnet18"),
        ("deeplabv3", {"backbone": "swin_tiny_patch4_window7_224"}, "timm cannot make"),
        ("unet", {"backbone": "rsnet34"}, "resnet34"),
        ("unet", {"backbone": "vit_tiny_patch16_224"}, "strides|timm cannot make"),
    ],
)
def test_bad_options(name: str, options: dict, hint: str) -> None:
    with pytest.raises(CardError) as error:
        motes.create_model(name, **options)
    assert re.search(hint, f"{error.value} {error.value.hint}")
