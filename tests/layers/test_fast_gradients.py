"""The ways around slow gradients against the plain operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import motes
from motes.layers import fast_gradients
from motes.layers.fast_gradients import FrameMean, enlarged, gated, joined, mean_and_largest, pooled
from motes.layers.residual import InputNorm

SIZES = [(2, 16, 8, 12), (2, 5, 3, 7), (3, 1, 4, 4), (2, 8, 1, 1), (1, 4, 1, 6)]


def values(shape: tuple[int, ...], seed: int = 0, memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(memory_format=memory_format)
    return x.requires_grad_()


def gradients(f: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The result of ``f``, and its gradients along a fixed direction."""
    out = f(*inputs)
    return out, *torch.autograd.grad(out, inputs, values(tuple(out.shape), 9).detach())


WAYS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], int]] = {
    "joined": (lambda a, b: joined([a, b, a]), lambda a, b: torch.cat([a, b, a], 1), 2),
    "pooled": (
        lambda x: torch.cat(pooled(x)),
        lambda x: torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)]),
        1,
    ),
    "mean_and_largest": (
        mean_and_largest,
        lambda x: torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1),
        1,
    ),
    "frame_mean": (FrameMean(), lambda x: x.mean((2, 3), keepdim=True), 1),
    "gated": (lambda x, y: gated(x, y[:, :1]), lambda x, y: x * y[:, :1], 2),
}


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients_of_the_plain_operation(
    way: str, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    fast, plain, count = WAYS[way]
    inputs = [values(shape, seed, memory_format) for seed in range(count)]
    for found, expected in zip(gradients(fast, *inputs), gradients(plain, *inputs), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("way", WAYS)
def test_channels_last_takes_the_other_way_and_keeps_the_layout(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _, count = WAYS[way]
    taken = []
    real = fast_gradients.worthwhile
    monkeypatch.setattr(fast_gradients, "worthwhile", lambda x: taken.append(real(x)) or taken[-1])
    inputs = [values((2, 16, 8, 12), seed) for seed in range(count)]
    _, found, *_ = gradients(fast, *inputs)
    assert taken and all(taken)
    assert found.is_contiguous(memory_format=torch.channels_last)
    taken.clear()
    with torch.no_grad():
        fast(*inputs)
    fast(*(x.detach() for x in inputs))
    assert taken and not any(taken)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(12, 20), (7, 6), (13, 5), (3, 5), (2, 9)])
def test_one_channel_is_enlarged_as_interpolation_does(size: tuple[int, int], align_corners: bool) -> None:
    x = values((2, 1, 3, 5), 4)
    plain = gradients(lambda x: F.interpolate(x, size, mode="bilinear", align_corners=align_corners), x)
    for found, expected in zip(gradients(lambda x: enlarged(x, size, align_corners), x), plain, strict=True):
        torch.testing.assert_close(found, expected)


def test_norm_of_images_in_either_layout() -> None:
    images = 3 * values((2, 3, 8, 6)).detach() + 1
    norm, plain = InputNorm(3), torch.nn.BatchNorm2d(3)
    torch.testing.assert_close(norm(images), plain(images.contiguous()))
    torch.testing.assert_close(norm.running_var, plain.running_var)
    torch.testing.assert_close(norm.eval()(images), plain.eval()(images))


def test_slices_of_a_gradient_arrive_dense() -> None:
    a, b = values((2, 16, 8, 8), 0), values((2, 32, 8, 8), 1)
    seen = []
    twice = a * 2
    twice.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last)))
    joined([twice, b]).sum().backward()
    assert seen == [True]


def test_equal_maxima_of_a_pixel_share_the_gradient() -> None:
    x = torch.tensor([1.0, 3.0, 3.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    mean_and_largest(x)[:, 1].sum().backward()
    assert x.grad is not None and x.grad[0, :, 1, 0].tolist() == [0.0, 0.5, 0.5, 0.0]


def test_one_of_a_frames_equal_maxima_takes_the_gradient() -> None:
    x = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    pooled(x)[1].sum().backward()
    assert x.grad is not None and x.grad.sum((2, 3)).tolist() == [[1.0] * 3] * 2
    assert x.grad.amax((2, 3)).tolist() == [[1.0] * 3] * 2


def test_mixed_precision_gives_what_the_plain_operation_gives() -> None:
    x = values((2, 16, 8, 12)).detach().bfloat16().requires_grad_()
    gate = torch.rand(2, 1, 8, 12).bfloat16().requires_grad_()
    for fast, plain in (WAYS["mean_and_largest"][:2], (lambda x: gated(x, gate), lambda x: x * gate)):
        with torch.autocast("cpu", torch.bfloat16):
            found, expected = gradients(fast, x), gradients(plain, x)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.bfloat16
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("network", "options"), [("dnanet", {"backbone": "resnet10", "channels": "two"}), ("acm", {})])
def test_networks_have_the_gradients_of_the_plain_operations(
    network: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    net = motes.create_model(network, **options).double().train().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 48).double().to(memory_format=torch.channels_last)
    found = []
    for plainly in (False, True):
        if plainly:
            monkeypatch.setattr(fast_gradients, "worthwhile", lambda x: False)
        torch.manual_seed(6)  # dropout
        outputs = net(images)
        net.zero_grad()
        sum((out.sigmoid() * images[:, :1]).sum() for out in outputs).backward()
        found.append([*(o.detach().double() for o in outputs), *(p.grad for p in net.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
