"""motes_seg: its cost, its forms, and what it says of sizes that it cannot take."""

from __future__ import annotations

import pytest
import torch

import motes
from fill import fill_state
from motes.benchmark.complexity import complexity
from motes.errors import MotesError
from motes.export import reparameterize
from motes.models.motes_seg import AROUND, LOUD, REACH, local_contrast

REPISDNET = 6402617856
"""MACs of RepISD-Net's merged form on a frame of 256x256 px, from its card."""


def network(variant: str | None, **options: object) -> torch.nn.Module:
    """With weights and statistics unlike those of a fresh one."""
    net = motes.create_model("motes_seg", variant, **options)
    keys = {k: [tuple(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in net.state_dict().items()}
    net.load_state_dict({k: torch.as_tensor(v) for k, v in fill_state(keys).items()})
    return net.eval()


@pytest.mark.parametrize(("variant", "share"), [(None, 1.0), ("s", 0.25)])
def test_costs_no_more_than_it_may(variant: str | None, share: float) -> None:
    net = motes.create_model("motes_seg", variant)
    assert complexity(net, 256, 256).macs <= share * REPISDNET
    card = motes.model_card("motes_seg").complexity
    assert card[variant or "train"]["macs_256"] == complexity(net, 256, 256).macs


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("variant", [None, "s"])
def test_merged_form_is_the_same_function(variant: str | None, contrast: bool) -> None:
    net = network(variant, contrast=contrast)
    merged = reparameterize(net)
    images = torch.randn(2, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = net(images), merged(images)
    assert before.shape == (2, 1, 48, 64)
    assert (before - after).abs().max() <= 1e-5 * before.abs().max()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in merged.modules())
    assert reparameterize(merged) is merged


def test_the_local_contrast_of_a_point_is_the_same_at_any_gain_and_on_any_slope() -> None:
    noise = torch.randn(1, 1, 96, 112, generator=torch.Generator().manual_seed(0))
    noise[0, 0, 41, 53] += 20
    slope = torch.linspace(0, 1, 112).expand(1, 1, 96, 112)
    weak, strong = local_contrast(0.1 * noise + slope), local_contrast(10 * noise + slope - 3)
    assert float(weak[0, 0, 41, 53]) == pytest.approx(float(strong[0, 0, 41, 53]), rel=0.1)
    assert weak.flatten().argmax() == 41 * 112 + 53
    for found in (weak, strong):
        assert 0.2 < found.std() < 0.4
        assert found.abs().max() < LOUD / 4


def test_the_local_contrast_looks_no_further_than_two_blocks() -> None:
    """Tiles overlap by more than that, so a target's is the same in each."""
    images = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., : 64 - 3 * AROUND] = 9.0
    torch.testing.assert_close(local_contrast(images)[..., 64:], local_contrast(other)[..., 64:])


def test_the_local_contrast_of_a_flat_frame_is_none() -> None:
    assert local_contrast(torch.full((1, 1, 48, 64), 0.7)).abs().max() < 1e-4


def test_every_pixel_has_a_logit_of_its_own() -> None:
    """The head gives four logits a cell: a target of one pixel must not be the same in all four."""
    net = network("s")
    images = torch.zeros(1, 1, 64, 64)
    images[0, 0, 31, 32] = 5.0
    with torch.no_grad():
        moved = (net(images) - net(torch.zeros_like(images)))[0, 0]
    cells = moved.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    assert (cells.std(-1) > 1e-6 * moved.abs().max()).any()


def test_training_gives_deep_supervision_and_gradients_everywhere() -> None:
    net = motes.create_model("motes_seg", "s", in_channels=3, num_classes=2).train()
    outputs = net(torch.randn(2, 3, 64, 48))
    assert [tuple(o.shape) for o in outputs] == [(2, 2, 64, 48)] * 3
    sum(torch.nn.functional.softplus(o).mean() for o in outputs).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_peaks_bound_the_probability_near_them() -> None:
    """In eval mode, and nothing else: what is left of a raw logit is the smaller of it and the curve of its peak."""
    net, (middle, scale) = network("s"), (40.0, 2.0)
    bounded = motes.create_model("motes_seg", "s", peak=(middle, scale)).eval()
    bounded.load_state_dict(net.state_dict())
    images = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw, after, merged = net(images)[0, 0], bounded(images)[0, 0], reparameterize(bounded)(images)[0, 0]
    cells = raw.unfold(0, 2, 2).unfold(1, 2, 2).amax((2, 3))
    for y, x in ((0, 0), (13, 40), (31, 47)):  # cells
        peak = cells[max(y - REACH, 0) : y + REACH + 1, max(x - REACH, 0) : x + REACH + 1].max()
        pixels = raw[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        expected = pixels.clamp(max=(peak - middle) / scale)
        torch.testing.assert_close(after[2 * y : 2 * y + 2, 2 * x : 2 * x + 2], expected)
    assert (after < raw).any() and (after == raw).any()
    assert (merged - after).abs().max() <= 1e-4 * after.abs().max()
    assert torch.equal(bounded.train()(images)[0], net.train()(images)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 20}, "multiple of 3"),
        ({"peak": (3.0, 0.0)}, "scale above 0"),
        ({"depths": [1, 2]}, "four depths"),
        ({"form": "merged"}, "no form 'merged'"),
    ],
)
def test_bad_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(MotesError, match=words):
        motes.create_model("motes_seg", **options)


def test_a_merged_size_does_not_claim_the_cost_of_the_other() -> None:
    small = reparameterize(motes.create_model("motes_seg", "s"))
    assert small.card.form == small.card.variant == "deploy"
    assert small.card.complexity == {}
    large = reparameterize(motes.create_model("motes_seg"))
    assert large.card.complexity["deploy"]["params"] == sum(p.numel() for p in large.parameters())
