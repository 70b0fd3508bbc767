"""Learning rates against the published toolbox, optimisers by name, the moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from motes.errors import MotesError
from motes.training.optimizers import create_optimizer
from motes.training.recipe import OptimizerPart, SchedulePart
from motes.training.schedule import MovingAverage, clip_each, learning_rate, progress

# reference/serankdet/toolbox.md: base 0.01, N 20, w 5, one step an epoch.
POLY = (
    "0.002 0.002 0.004 0.006 0.008 0.01 .0095488538 .0090953258 .0086392697 .0081805215 .0077188951 "
    ".0072541785 .0067861276 .0063144587 .0058388379 .0053588673 .0048740644 .0043838329 .003887418 .0033838346"
)
COSINE = (
    "0.002 0.002 0.004 0.006 0.008 0.01 .0099390573 .0097577298 .0094604823 .0090546341 .0085501786 "
    ".007959537 .007297253 .0065796341 .0058243506 .00505 .0042756494 .0035203659 .002802747 .002140463"
)
POLY_8 = ".01 .0088676235 .0077188951 .0065507649 .0053588673 .0041364534 .0028717459 .0015389305"


@pytest.mark.parametrize(
    ("part", "epochs", "oracle"),
    [
        (SchedulePart(name="poly", warmup_epochs=5, unit="epoch", horizon="total"), 20, POLY),
        (SchedulePart(name="cosine", warmup_epochs=5, unit="epoch", horizon="total", min_lr=1e-4), 20, COSINE),
        (SchedulePart(name="poly", unit="epoch", horizon="total"), 8, POLY_8),
    ],
)
def test_equals_the_serankdet_toolbox(part: SchedulePart, epochs: int, oracle: str) -> None:
    rates = [learning_rate(part, 0.01, e, epochs) for e in range(epochs)]
    assert rates == pytest.approx([float(x) for x in oracle.split()], rel=1e-6)


@pytest.mark.parametrize("name", ["poly", "cosine"])
def test_ends_at_the_minimum_and_never_rises_after_warmup(name: str) -> None:
    part = SchedulePart(name=name, warmup_epochs=2, min_lr=1e-5)
    rates = [learning_rate(part, 0.1, e / 10, 10) for e in range(101)]
    assert max(rates) == pytest.approx(0.1) and rates.index(max(rates)) == 20
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


def test_published_rates_of_factseg_and_pfnet() -> None:
    """reference/factseg/spec.md 7 and reference/pfnet/spec.md 7; ours without ``shift`` are right."""
    factseg = SchedulePart(name="poly", unit="step", shift=-1)
    rates = [learning_rate(factseg, 0.007, progress(factseg, k, 4000), 15) for k in range(60000)]
    assert rates[0] == rates[1] == 0.007
    for k in (2, 1000, 59999):
        assert rates[k] == pytest.approx(0.007 * (1 - (k - 1) / 60000) ** 0.9, rel=1e-9)
    pfnet = SchedulePart(name="poly", unit="epoch", shift=1)
    rates = [learning_rate(pfnet, 0.007, progress(pfnet, e * 10 + 3, 10), 16) for e in range(16)]
    assert rates == pytest.approx([0.007 * (1 - (e + 1) / 16) ** 0.9 for e in range(16)])
    assert rates[-1] == 0
    right = SchedulePart(name="poly", unit="step")
    ours = [learning_rate(right, 0.007, progress(right, k, 4000), 15) for k in (0, 1, 59999)]
    assert ours == pytest.approx([0.007 * (1 - k / 60000) ** 0.9 for k in (0, 1, 59999)])
    assert 0 < ours[-1] < ours[1] < ours[0] == 0.007


@pytest.mark.parametrize("largest", [0.5, 35.0])
def test_clipping_of_every_tensor_by_itself(largest: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(s)) for s in ((3, 4), (5,), (2,), (1,))]
    for p, scale in zip(parameters, (10.0, 0.01, 100.0, 0.0), strict=True):
        p.grad = scale * torch.randn(p.shape, generator=generator)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    clip_each([*parameters, nn.Parameter(torch.zeros(1))], largest)
    for p, old in zip(parameters, before, strict=True):
        assert p.grad is not None
        norm = old.norm()
        assert torch.allclose(p.grad, old * min(1.0, largest / max(float(norm), 1e-9)))
    clip_each([], 1.0)


def test_steps_and_constant() -> None:
    part = SchedulePart(name="step", milestones=(2, 4), gamma=0.5)
    assert [learning_rate(part, 1.0, e, 6) for e in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert learning_rate(SchedulePart(name="constant"), 0.05, 99, 100) == 0.05


def test_optimisers_by_torch_name() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    made = create_optimizer(OptimizerPart(name="SGD", lr=0.1, options={"momentum": 0.9}), parameters)
    assert type(made) is torch.optim.SGD and made.param_groups[0]["momentum"] == 0.9
    adamw = create_optimizer(OptimizerPart(name="AdamW", options={"momentum": None}), parameters)
    assert type(adamw) is torch.optim.AdamW  # an option of another optimiser is taken away by null
    with pytest.raises(MotesError, match="Adam"):
        create_optimizer(OptimizerPart(name="adam_w"), parameters)
    with pytest.raises(MotesError, match="momentun"):
        create_optimizer(OptimizerPart(name="SGD", options={"momentun": 0.9}), parameters)


def test_moving_average_follows_and_copies_counters() -> None:
    net = nn.BatchNorm2d(1)
    average = MovingAverage(net, 0.9)
    with torch.no_grad():
        net.weight.fill_(11.0)
        net.num_batches_tracked.fill_(5)
    average.update(net)
    assert average.state["weight"].item() == pytest.approx(11 - 10 * 2 / 11)
    assert average.state["num_batches_tracked"].item() == 5
    for _ in range(300):
        average.update(net)
    assert average.state["weight"].item() == pytest.approx(11.0, abs=1e-4)
