"""Optimisers that adapt their rate, decay of weights alone, a slower backbone, and the warm-up by steps."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest
import torch
from torch import nn

from motes.errors import MissingExtraError, MotesError
from motes.training.optimizers import create_optimizer, set_rate
from motes.training.recipe import OptimizerPart, SchedulePart
from motes.training.schedule import warmup


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))
        self.query = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x)).square().mean() + (self.query - 2).square().sum()


def names(net: nn.Module, group: dict[str, Any]) -> set[str]:
    ids = {id(p) for p in group["params"]}
    return {n for n, p in net.named_parameters() if id(p) in ids}


def test_norms_and_biases_are_not_decayed_and_the_backbone_is_slower() -> None:
    net = Small()
    part = OptimizerPart(name="AdamW", lr=1e-3, options={"weight_decay": 0.1}, decay="weights", backbone_lr=0.1)
    optimizer = create_optimizer(part, net)
    found = {(g["weight_decay"], g.get("share", 1.0)): names(net, g) for g in optimizer.param_groups}
    assert found == {
        (0.1, 0.1): {"backbone.0.weight"},
        (0.0, 0.1): {"backbone.0.bias", "backbone.1.weight", "backbone.1.bias"},
        (0.1, 1.0): {"head.0.weight", "query"},
        (0.0, 1.0): {"head.0.bias", "head.1.weight", "head.1.bias"},
    }
    set_rate(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.05, 0.5}


def test_one_group_where_nothing_is_told_apart() -> None:
    net = Small()
    (group,) = create_optimizer(OptimizerPart(), net).param_groups
    assert len(group["params"]) == len(list(net.parameters()))


def test_d_adaptation_finds_a_rate_and_goes_on_from_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dadaptation")
    part = OptimizerPart(
        name="DAdaptAdam", lr=1.0, options={"weight_decay": 0.05, "decouple": True}, decay="weights", backbone_lr=0.5
    )

    def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            set_rate(optimizer, 1 / 3)
            optimizer.zero_grad()
            net(torch.ones(2, 1, 5, 5)).backward()
            optimizer.step()

    torch.manual_seed(0)
    net = Small().eval()
    start = float(net(torch.ones(2, 1, 5, 5)).detach())
    optimizer = create_optimizer(part, net)
    assert {g["layer_scale"] for g in optimizer.param_groups} == {0.5, 1.0}
    steps(net, optimizer, 100)
    assert optimizer.param_groups[0]["d"] > 1e-5  # from 1e-6
    assert float(net(torch.ones(2, 1, 5, 5)).detach()) < start / 2

    again = Small().eval()
    again.load_state_dict(net.state_dict())
    other = create_optimizer(part, again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(net, optimizer, 5)
    steps(again, other, 5)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert capsys.readouterr().out == ""


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "dadaptation":
            raise ModuleNotFoundError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="DAdaptAdam") as caught:
        create_optimizer(OptimizerPart(name="DAdaptAdam"), Small())
    assert "detection" in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (OptimizerPart(name="DAdaptAdm"), "DAdaptAdam"),
        (OptimizerPart(name="DAdaptAdam", options={"decoupled": True}), "decoupled"),
        (OptimizerPart(name="SGD", options={"momentum": -1}), "momentum"),
    ],
)
def test_what_is_wrong_is_named(part: OptimizerPart, says: str) -> None:
    pytest.importorskip("dadaptation")
    with pytest.raises(MotesError, match=says):
        create_optimizer(part, Small())


def test_an_option_of_value_null_is_left_at_its_default() -> None:
    (group,) = create_optimizer(OptimizerPart(name="SGD", options={"momentum": None}), Small()).param_groups
    assert group["momentum"] == 0


def test_warm_up_by_steps() -> None:
    """detectors/spec.md: from .001 in 500 iterations, and a third for 500; mmengine ends one early."""
    linear = SchedulePart(warmup_steps=500)
    factors = [warmup(linear, s) for s in (0, 1, 249, 499, 500, 10_000)]
    assert factors == pytest.approx([0.001, 0.001 + 0.999 / 499, 0.001 + 0.999 * 249 / 499, 1, 1, 1])
    third = SchedulePart(warmup_steps=500, warmup="constant", warmup_factor=1 / 3)
    assert [warmup(third, s) for s in (0, 498, 499)] == [1 / 3, 1 / 3, 1]
    assert [warmup(SchedulePart(), s) for s in (0, 1)] == [1, 1]
    assert warmup(SchedulePart(warmup_steps=1), 0) == 1
